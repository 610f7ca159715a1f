"""EIP-7702: ordinary keys that act as accounts of their own address."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_account import Account as EthAccount

from agentnexus.core.errors import InvalidInput, PaymentFailed, RateLimited
from agentnexus.devnet.accounts import development_accounts
from agentnexus.platform.process import wait_until_ready
from agentnexus.rails.evm.contracts import Call
from agentnexus.rails.evm.delegation import (
    DelegationSignature,
    delegate_of,
    delegations_of,
    designator,
    read_rlp,
    sign_delegation,
)
from agentnexus.rails.evm.encoding import RlpItem, checksum_address, rlp, to_hex
from agentnexus.rails.evm.fees import Fees
from agentnexus.rails.evm.networks import NETWORKS
from agentnexus.rails.evm.receipts import find_receipt
from agentnexus.rails.evm.rpc import Call as RpcCall
from agentnexus.rails.evm.rpc import call_data
from agentnexus.rails.evm.transactions import Intent, OutgoingState, sign_transaction
from agentnexus.rails.evm.userops import OwnerSigner, Sender
from agentnexus.rails.evm.userops.self_bundler import DelegationGone
from tests.userops.conftest import Bench, Wallet

DELEGATE = "0x" + "ab" * 20
BOB = development_accounts()["bob"]


async def delegating(bench: Bench, name: str = "bob") -> Wallet:
    key = bench.chain.accounts[name]
    implementation = await bench.manifest.factory(bench.chain.rpc).implementation()
    made = await bench.wallet(name)
    return replace(made, sender=Sender.delegating(key.signer, implementation), signer=OwnerSigner(key.signer))


async def code_of(bench: Bench, address: str) -> bytes:
    return call_data((await bench.chain.rpc.batch([RpcCall("eth_getCode", (address, "latest"))]))[0])


async def test_a_key_becomes_an_account_within_its_first_operation(bench: Bench) -> None:
    wallet = await delegating(bench)
    seller = bench.chain.accounts["seller-1"].address
    before = await bench.chain.usdc_of(seller), await bench.chain.usdc_of(wallet.address)
    first = await wallet.run(wallet.transfer(seller, 5), wallet.transfer(seller, 6))
    assert first.succeeded
    assert wallet.address == BOB.address
    assert delegate_of(await code_of(bench, BOB.address)) == wallet.sender.delegate
    assert await bench.chain.usdc_of(seller) == before[0] + 11
    assert await bench.chain.usdc_of(wallet.address) == before[1] - 11


async def test_a_key_that_delegates_already_signs_no_second_delegation(bench: Bench) -> None:
    wallet = await delegating(bench)
    seller = bench.chain.accounts["seller-1"].address
    await wallet.run(wallet.transfer(seller, 1))
    operation = await wallet.build(wallet.transfer(seller, 1))
    assert operation.delegation is None
    assert operation.init_code == b""
    sent = await bench.bundler.send(operation)
    assert (await bench.bundler.receipt(sent)).succeeded


async def test_a_delegation_that_its_key_has_overtaken_is_dropped_before_it_costs_anything(bench: Bench) -> None:
    wallet = await delegating(bench)
    operation = await wallet.build(wallet.transfer(BOB.address, 1))
    await bench.send("bob", Call(BOB.address, b""))
    relayer = bench.chain.accounts["relayer"].address
    before = await bench.chain.rpc.read_int("eth_getBalance", relayer, "latest")
    with pytest.raises(DelegationGone, match="since it signed") as refused:
        await bench.bundler.send(operation)
    assert "sign a new delegation" in refused.value.next_step
    assert await bench.chain.rpc.read_int("eth_getBalance", relayer, "latest") == before
    again = await wallet.build(wallet.transfer(BOB.address, 1))
    assert (await bench.bundler.receipt(await bench.bundler.send(again))).succeeded


async def test_a_delegation_that_another_operation_has_set_is_not_carried_again(bench: Bench) -> None:
    wallet = await delegating(bench)
    first, second = [await wallet.build(wallet.transfer(BOB.address, 1), lane=lane) for lane in (1, 2)]
    for operation, carried in ((first, 1), (second, 0)):
        sent = await bench.bundler.send(operation)
        assert (await bench.bundler.receipt(sent)).succeeded
        kept = await bench.bundler._sender.find(f"userop:{sent}")
        assert kept is not None
        assert len(kept.intent.delegations) == carried


async def test_keys_that_take_delegations_back_on_the_way_cost_the_relayer_little(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentnexus.rails.evm.userops.self_bundler.LOST_DELEGATIONS_PER_HOUR", 1)
    wallet = await delegating(bench)
    operation = await wallet.build(wallet.transfer(BOB.address, 1))
    other = await delegating(bench, "alice")
    patient = await other.build(other.transfer(BOB.address, 1))
    await bench.chain.automine(False)
    sent = await bench.bundler.send(operation)

    async def staged() -> bool:
        pending = await bench.chain.rpc.call(
            "eth_getTransactionCount", bench.chain.accounts["relayer"].address, "pending"
        )
        mined = await bench.chain.rpc.call("eth_getTransactionCount", bench.chain.accounts["relayer"].address, "latest")
        return pending != mined

    await wait_until_ready(staged, what="the bundle", timeout_seconds=30)
    number = await bench.chain.rpc.read_int("eth_getTransactionCount", BOB.address, "latest")
    await bench.chain.rpc.call("anvil_setNonce", BOB.address, hex(number + 1))
    await bench.chain.automine(True)
    await bench.chain.mine()
    with pytest.raises(PaymentFailed, match="reverted") as failed:
        await bench.bundler.receipt(sent)
    receipt = await find_receipt(bench.chain.rpc, [str(failed.value.details["transaction"])])
    assert receipt is not None
    assert receipt.gas_used < 150_000

    async def noted() -> bool:
        kept = await bench.bundler._sender.find(f"userop:{sent}")
        return kept is not None and kept.state is OutgoingState.REVERTED

    await wait_until_ready(noted, what="the failure in the books", timeout_seconds=30)
    with pytest.raises(RateLimited, match="taken back delegations"):
        await bench.bundler.send(patient)
    monkeypatch.setattr("agentnexus.rails.evm.userops.self_bundler.LOST_DELEGATIONS_PER_HOUR", 2)
    assert (await bench.bundler.receipt(await bench.bundler.send(patient))).succeeded


async def test_what_delegates_has_little_gas_to_lose(bench: Bench) -> None:
    wallet = await delegating(bench)
    operation = replace(await wallet.build(wallet.transfer(BOB.address, 1)), call_gas_limit=3_000_000)
    with pytest.raises(InvalidInput, match="at most 2000000 gas"):
        await bench.bundler.send(operation)


async def test_the_relayers_books_keep_the_delegation_of_what_was_sent(bench: Bench) -> None:
    wallet = await delegating(bench)
    operation = await wallet.build(wallet.transfer(BOB.address, 1))
    assert operation.delegation is not None
    await bench.bundler.receipt(await bench.bundler.send(operation))
    kept = await bench.bundler._sender.find("userop:" + to_hex(operation.hash(bench.chain.chain_id)))
    assert kept is not None
    assert kept.state in (OutgoingState.SIGNED, OutgoingState.SUCCEEDED)
    assert kept.intent.delegations == (operation.delegation,)


async def test_delegations_and_their_transactions_are_those_of_eth_account() -> None:
    ours = await sign_delegation(BOB.signer, 31337, DELEGATE, 7)
    theirs = EthAccount.from_key(BOB.private_key).sign_authorization(
        {"chainId": 31337, "address": checksum_address(DELEGATE), "nonce": 7}
    )
    assert (ours.parity, ours.r, ours.s) == (theirs.y_parity, theirs.r, theirs.s)
    intent = Intent(DELEGATE, b"\x01\x02", 90_000, 3, (ours,))
    raw, transaction = await sign_transaction(BOB.signer, NETWORKS[31337], 4, intent, Fees(100, 10))
    signed = EthAccount.from_key(BOB.private_key).sign_transaction(
        {
            "type": 4,
            "chainId": 31337,
            "nonce": 4,
            "to": checksum_address(DELEGATE),
            "value": 3,
            "gas": 90_000,
            "data": "0x0102",
            "maxFeePerGas": 100,
            "maxPriorityFeePerGas": 10,
            "accessList": [],
            "authorizationList": [theirs],
        }
    )
    assert raw == bytes(signed.raw_transaction)
    assert transaction == "0x" + signed.hash.hex().removeprefix("0x")
    assert delegations_of(raw) == (ours,)


async def test_the_signer_of_a_delegation_is_known_from_it() -> None:
    signed = await sign_delegation(BOB.signer, 1, DELEGATE, 0)
    assert signed.signer() == BOB.address
    assert replace(signed, nonce=1).signer() != BOB.address
    assert replace(signed, r=0).signer() is None


async def test_json_of_a_delegation_comes_back_whole() -> None:
    signed = await sign_delegation(BOB.signer, 1, DELEGATE, 300)
    assert DelegationSignature.from_json(signed.to_json()) == signed
    for field, wrong in (("yParity", "0x2"), ("address", "0x12"), ("r", "0x01"), ("nonce", "7")):
        with pytest.raises(InvalidInput):
            DelegationSignature.from_json({**signed.to_json(), field: wrong})


def test_code_that_delegates_is_told_from_other_code() -> None:
    assert delegate_of(designator(DELEGATE)) == DELEGATE
    for other in (b"", designator(DELEGATE)[:-1], designator(DELEGATE) + b"\x00", b"\xef\x01\x01" + bytes(20)):
        assert delegate_of(other) is None


def test_transactions_without_delegations_have_none() -> None:
    assert delegations_of(b"") == ()
    assert delegations_of(b"\x02" + rlp([1, 2])) == ()
    assert delegations_of(b"\x04" + rlp([1] * 9 + [[]])) == ()


@pytest.mark.parametrize(
    "damaged",
    [b"", b"\x01", b"\xc2\x01", rlp([1, 2]) + b"\x00", b"\xf9\x01", b"\xc3\x82\x01", b"\xc2\xb8"],
    ids=repr,
)
def test_damaged_rlp_is_refused(damaged: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_rlp(damaged)


@pytest.mark.parametrize("items", [[], [b"", b"\x7f", b"\x80"], [b"a" * 55, b"a" * 56], [[b"a" * 70], [[], [b""]]]])
def test_rlp_reads_what_it_wrote(items: list[RlpItem]) -> None:
    assert read_rlp(rlp(items)) == items


def test_a_delegation_with_missing_fields_is_refused() -> None:
    wrong: list[RlpItem] = [[[1, 2]], [b"x"], b"x"]
    for listed in wrong:
        with pytest.raises(InvalidInput):
            delegations_of(b"\x04" + rlp([*[1] * 9, listed]))
