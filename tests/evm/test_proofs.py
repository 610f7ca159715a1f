"""What a transaction proves about two parties, on a real chain: the amount, its time, and what came back since."""

from __future__ import annotations

import pytest

from agentnexus.core.errors import Unavailable
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.rails.evm import proofs
from agentnexus.rails.evm.proofs import ProvenPayment, find_payment
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.token import transfer_call
from agentnexus.rails.evm.transactions import Intent, TransactionSender


class Street:
    """Some who pay each other on the development chain."""

    def __init__(self, chain: DevelopmentChain, sender: TransactionSender) -> None:
        self.chain = chain
        self.sender = sender
        self.sent = 0

    async def pay(self, payer: str, payee: str, atomic: int) -> str:
        """The transaction of a plain transfer between two named accounts."""
        self.sent += 1
        call = transfer_call(self.chain.accounts[payee].address, atomic)
        signer = self.chain.accounts[payer].signer
        intent = await self.sender.estimate(signer, Intent(self.chain.usdc.reference, call, 0))
        return (await self.sender.submit(signer, f"street:{self.sent}", intent)).transaction

    async def proof(self, transaction: str, payer: str = "bob", payee: str = "alice") -> ProvenPayment | None:
        accounts = self.chain.accounts
        return await find_payment(
            self.chain.rpc,
            self.chain.network,
            self.chain.usdc.reference,
            transaction,
            payer=accounts[payer].address,
            payee=accounts[payee].address,
        )


@pytest.fixture
async def street(chain: DevelopmentChain, database: Database) -> Street:
    return Street(chain, await TransactionSender.open(database, chain.rpc, chain.chain_id))


async def test_a_payment_has_its_amount_and_the_time_of_its_block(street: Street) -> None:
    transaction = await street.pay("bob", "alice", 20_000)
    proof = await street.proof(transaction)
    assert proof is not None
    assert (proof.asset, proof.amount, proof.returned) == (street.chain.usdc.reference, 20_000, 0)
    block = await street.chain.rpc.call("eth_getBlockByNumber", "latest", False)
    assert isinstance(block, dict)
    assert int(proof.at.timestamp()) == int(str(block["timestamp"]), 16)


async def test_it_proves_nothing_about_others_and_nothing_in_the_other_direction(street: Street) -> None:
    transaction = await street.pay("bob", "alice", 20_000)
    assert await street.proof(transaction, "alice", "bob") is None
    assert await street.proof(transaction, "bob", "buyer") is None
    assert await street.proof(transaction, "alice", "alice") is None
    assert await street.proof("0x" + "ab" * 32) is None


async def test_what_came_back_since_is_counted_and_what_was_before_is_not(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "_SPAN_BLOCKS", 2)
    await street.pay("alice", "bob", 500)
    transaction = await street.pay("bob", "alice", 20_000)
    await street.chain.mine(3)  # more than one question's blocks
    await street.pay("alice", "bob", 12_000)
    await street.pay("alice", "buyer", 1)
    await street.pay("alice", "bob", 8_000)
    proof = await street.proof(transaction)
    assert proof is not None
    assert (proof.amount, proof.returned) == (20_000, 20_000)


async def test_nothing_paid_is_no_payment(street: Street) -> None:
    assert await street.proof(await street.pay("bob", "alice", 0)) is None


async def test_without_a_chain_it_is_not_known(street: Street) -> None:
    async with Rpc("http://127.0.0.1:9", connect_retries=0) as nowhere:
        with pytest.raises(Unavailable):
            await find_payment(nowhere, street.chain.network, "0x0", "0x" + "ab" * 32, payer="0xa", payee="0xb")
