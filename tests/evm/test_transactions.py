"""Sending: one transaction per key, gapless nonces, and a way out of every way to get stuck."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from eth_account import Account

from agentnexus.core.errors import Conflict, InsufficientFunds, PaymentFailed, PaymentUnknown, Unavailable
from agentnexus.devnet.accounts import development_accounts
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.platform.process import wait_until_ready
from agentnexus.rails.evm.encoding import checksum_address, quantity
from agentnexus.rails.evm.errors import Reverted, WrongNetwork
from agentnexus.rails.evm.fees import GWEI, FeeLimits, Fees
from agentnexus.rails.evm.networks import NETWORKS, Network, NetworkKind
from agentnexus.rails.evm.nonces import NonceManager
from agentnexus.rails.evm.signer import LocalSigner
from agentnexus.rails.evm.token import transfer_call
from agentnexus.rails.evm.transactions import Intent, Outgoing, OutgoingState, TransactionSender, sign_transaction

SIGNER = development_accounts()["relayer"].signer
TARGET = "0x" + "99" * 20
NOTHING = Intent(TARGET, b"", 21_000)


def impatient(chain: DevelopmentChain, database: Database, limits: FeeLimits | None = None) -> TransactionSender:
    return TransactionSender(database, chain.rpc, chain.network, stuck_after_seconds=0.1, limits=limits)


@pytest.fixture
def sender(chain: DevelopmentChain, database: Database) -> TransactionSender:
    return TransactionSender(database, chain.rpc, chain.network)


async def mined_count(chain: DevelopmentChain, address: str = SIGNER.public_id) -> int:
    return await chain.rpc.read_int("eth_getTransactionCount", address, "latest")


async def found(sender: TransactionSender, key: str) -> Outgoing:
    outgoing = await sender.find(key)
    assert outgoing is not None
    return outgoing


@pytest.mark.parametrize("nonce", [0, 1, 127, 128, 2**32])
@pytest.mark.parametrize("data", [b"", b"\x00", b"\x7f", b"\x80" * 60])
async def test_signed_bytes_are_those_of_eth_account(nonce: int, data: bytes) -> None:
    intent = Intent(TARGET, data, 90_000, value=nonce)
    raw, transaction = await sign_transaction(SIGNER, NETWORKS[8453], nonce, intent, Fees(3 * GWEI, GWEI))
    expected = Account.sign_transaction(
        {
            "type": 2,
            "chainId": 8453,
            "nonce": nonce,
            "to": checksum_address(TARGET),
            "value": nonce,
            "data": data,
            "gas": 90_000,
            "maxFeePerGas": 3 * GWEI,
            "maxPriorityFeePerGas": GWEI,
        },
        development_accounts()["relayer"].private_key,
    )
    assert raw == bytes(expected.raw_transaction)
    assert transaction == "0x" + bytes(expected.hash).hex()


async def test_a_key_makes_one_transaction(sender: TransactionSender, chain: DevelopmentChain) -> None:
    first = await sender.submit(SIGNER, "k", NOTHING)
    again = await sender.submit(SIGNER, "k", NOTHING)
    assert first.transaction == again.transaction
    assert await mined_count(chain) == 1
    assert (await found(sender, "k")).state is OutgoingState.SUCCEEDED


async def test_many_tasks_get_consecutive_nonces(sender: TransactionSender, chain: DevelopmentChain) -> None:
    receipts = await asyncio.gather(*(sender.submit(SIGNER, f"k{number}", NOTHING) for number in range(40)))
    assert len({receipt.transaction for receipt in receipts}) == 40
    assert await mined_count(chain) == 40
    nonces = sorted([(await found(sender, f"k{number}")).nonce for number in range(40)])
    assert nonces == list(range(40))


async def test_a_transaction_that_is_rolled_back_gives_its_nonce_back(
    sender: TransactionSender, database: Database, chain: DevelopmentChain
) -> None:
    await sender.prepare(SIGNER)
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with database.transaction() as connection:
            await sender.stage(connection, SIGNER, "a", NOTHING)
            raise RuntimeError("changed my mind")
    assert await sender.find("a") is None
    await sender.submit(SIGNER, "b", NOTHING)
    assert (await found(sender, "b")).nonce == 0
    assert await mined_count(chain) == 1


async def test_a_key_in_use_cannot_be_staged_again(sender: TransactionSender, database: Database) -> None:
    await sender.submit(SIGNER, "a", NOTHING)
    with pytest.raises(Conflict, match="exists already"):
        async with database.transaction() as connection:
            await sender.stage(connection, SIGNER, "a", NOTHING)
    await sender.submit(SIGNER, "b", NOTHING)
    assert (await found(sender, "b")).nonce == 1


async def test_a_stuck_transaction_is_replaced_under_its_own_nonce(chain: DevelopmentChain, database: Database) -> None:
    sender = impatient(chain, database)
    await chain.automine(False)
    submitting = asyncio.create_task(sender.submit(SIGNER, "k", NOTHING))

    async def replaced() -> bool:
        outgoing = await sender.find("k")
        return outgoing is not None and len(outgoing.transactions) >= 2

    await wait_until_ready(replaced, what="a replacement with more fee", timeout_seconds=10)
    await chain.automine(True)
    await chain.mine()
    receipt = await submitting
    outgoing = await found(sender, "k")
    assert receipt.transaction in outgoing.transactions
    assert outgoing.transaction == receipt.transaction
    assert outgoing.nonce == 0
    assert await mined_count(chain) == 1


async def test_a_replacement_never_costs_more_than_the_limit(chain: DevelopmentChain, database: Database) -> None:
    usual = await TransactionSender(database, chain.rpc, chain.network).fees()
    sender = impatient(chain, database, FeeLimits(maximum_fee_wei=usual.maximum + 1))
    await chain.automine(False)
    with pytest.raises(PaymentUnknown):
        await sender.submit(SIGNER, "k", NOTHING, timeout_seconds=1)
    assert len((await found(sender, "k")).transactions) == 1


async def test_prices_that_rose_after_signing_are_paid(own_chain: DevelopmentChain, database: Database) -> None:
    sender = impatient(own_chain, database)
    await sender.prepare(SIGNER)
    await own_chain.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(5 * GWEI))
    await own_chain.mine()
    receipt = await sender.submit(SIGNER, "k", NOTHING)
    assert receipt.succeeded
    assert len((await found(sender, "k")).transactions) > 1
    assert await mined_count(own_chain) == 1


async def test_a_network_dearer_than_the_limit_sends_nothing(chain: DevelopmentChain, database: Database) -> None:
    sender = impatient(chain, database, FeeLimits(maximum_fee_wei=1))
    with pytest.raises(Unavailable, match="our limit"):
        await sender.submit(SIGNER, "k", NOTHING)
    assert await sender.find("k") is None


async def test_a_transaction_needing_more_gas_than_the_limit_is_refused(sender: TransactionSender) -> None:
    with pytest.raises(PaymentFailed, match="gas"):
        await sender.submit(SIGNER, "k", Intent(TARGET, b"", 500_001))
    await sender.submit(SIGNER, "next", NOTHING)
    assert (await found(sender, "next")).nonce == 0


async def test_a_transaction_the_node_refuses_for_good_frees_its_nonce(sender: TransactionSender) -> None:
    with pytest.raises(PaymentFailed, match="refuses"):
        await sender.submit(SIGNER, "k", Intent(TARGET, b"", 20_000))
    await sender.submit(SIGNER, "next", NOTHING)
    assert (await found(sender, "next")).nonce == 0


async def test_a_key_used_by_another_program_is_noticed_and_passed(
    sender: TransactionSender, chain: DevelopmentChain
) -> None:
    await sender.prepare(SIGNER)
    await chain.rpc.call("eth_sendTransaction", {"from": SIGNER.public_id, "to": TARGET, "value": "0x1"})

    async def mined() -> bool:
        return await mined_count(chain) == 1

    await wait_until_ready(mined, what="the other program's transaction", timeout_seconds=10)
    with pytest.raises(Conflict, match="another program"):
        await sender.submit(SIGNER, "k", NOTHING)
    assert (await sender.submit(SIGNER, "k", NOTHING)).succeeded
    assert (await found(sender, "k")).nonce == 1


async def test_a_freed_nonce_is_used_before_a_new_one(chain: DevelopmentChain, database: Database) -> None:
    sender = impatient(chain, database)
    poor = LocalSigner(b"\x31" * 32, NetworkKind.LOCAL)
    await sender.prepare(poor)
    async with database.transaction() as connection:
        first = await sender.stage(connection, poor, "first", NOTHING)
        await sender.stage(connection, poor, "second", NOTHING)
    with pytest.raises(InsufficientFunds):
        await sender.deliver(poor, first)
    await chain.rpc.call("anvil_setBalance", poor.public_id, hex(10**18))
    async with database.transaction() as connection:
        third = await sender.stage(connection, poor, "third", NOTHING)
    assert third.nonce == 0


async def test_a_gap_nobody_uses_is_filled_so_that_what_is_behind_it_moves(
    chain: DevelopmentChain, database: Database
) -> None:
    sender = impatient(chain, database)
    poor = LocalSigner(b"\x32" * 32, NetworkKind.LOCAL)
    await sender.prepare(poor)
    async with database.transaction() as connection:
        first = await sender.stage(connection, poor, "first", NOTHING)
        second = await sender.stage(connection, poor, "second", NOTHING)
    with pytest.raises(InsufficientFunds):
        await sender.deliver(poor, first)
    await chain.rpc.call("anvil_setBalance", poor.public_id, hex(10**18))
    assert (await sender.deliver(poor, second, timeout_seconds=20)).succeeded
    assert await mined_count(chain, poor.public_id) == 2
    filler = await found(sender, f"fill:{poor.public_id}:0")
    assert filler.intent.value == 0


async def test_a_revert_is_a_receipt_and_is_remembered(sender: TransactionSender, chain: DevelopmentChain) -> None:
    outsider = chain.accounts["outsider"].signer
    intent = Intent(chain.usdc.reference, transfer_call(TARGET, 1), 100_000)
    assert not (await sender.submit(outsider, "k", intent)).succeeded
    assert (await found(sender, "k")).state is OutgoingState.REVERTED
    assert not (await sender.submit(outsider, "k", intent)).succeeded
    assert await mined_count(chain, outsider.public_id) == 1


async def test_trying_first_finds_a_revert_for_free(sender: TransactionSender, chain: DevelopmentChain) -> None:
    outsider = chain.accounts["outsider"].signer
    with pytest.raises(Reverted):
        await sender.estimate(outsider, Intent(chain.usdc.reference, transfer_call(TARGET, 1), 0))
    assert (await sender.estimate(outsider, Intent(TARGET, b"", 0))).gas >= 21_000


async def test_a_development_chain_started_anew_starts_the_nonces_anew(
    own_chain: DevelopmentChain, tmp_path: Path, database: Database
) -> None:
    await TransactionSender(database, own_chain.rpc, own_chain.network).submit(SIGNER, "old", NOTHING)
    genesis = await own_chain.rpc.call("eth_getBlockByNumber", "0x0", False)
    assert isinstance(genesis, dict)

    async def another_second() -> bool:
        return int(time.time()) > quantity(genesis["timestamp"])

    await wait_until_ready(another_second, what="a genesis block of another time", timeout_seconds=5)
    async with DevelopmentChain(log=tmp_path / "anvil-2.log") as fresh:
        sender = TransactionSender(database, fresh.rpc, fresh.network)
        await sender.submit(SIGNER, "new", NOTHING)
        assert (await found(sender, "new")).nonce == 0


async def test_a_real_network_that_turns_out_another_chain_is_refused(
    chain: DevelopmentChain, database: Database
) -> None:
    posing = Network(31337, NetworkKind.TESTNET, "posing")
    async with database.connection() as connection:
        await connection.execute("insert into evm.chain values ($1, $2)", posing.caip2, "0x" + "ee" * 32)
    sender = TransactionSender(database, chain.rpc, posing)
    with pytest.raises(WrongNetwork, match="another chain"):
        await sender.submit(LocalSigner(b"\x33" * 32, NetworkKind.TESTNET), "k", NOTHING)


async def test_nonces_are_not_taken_for_an_address_never_prepared(chain: DevelopmentChain, database: Database) -> None:
    nonces = NonceManager(database, chain.rpc, chain.network)
    async with database.transaction() as connection:
        with pytest.raises(Conflict, match="no nonces"):
            await nonces.take(connection, TARGET)


async def test_a_chain_killed_without_its_last_blocks_gets_them_again(
    own_chain: DevelopmentChain, database: Database
) -> None:
    """The books say mined, the chain forgot: the next transaction brings back what is missing in front of it."""
    sender = impatient(own_chain, database)
    before = await own_chain.snapshot()
    await sender.submit(SIGNER, "lost", NOTHING)
    await own_chain.revert(before)
    assert await mined_count(own_chain) == 0
    assert (await sender.submit(SIGNER, "next", NOTHING, timeout_seconds=20)).succeeded
    assert await mined_count(own_chain) == 2
