"""A node that shows what happened later than it counts it: nothing that was paid may be called unpaid."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias

import pytest
from tests.evm.conftest import Desk

from agentnexus.core.errors import Conflict, InsufficientFunds
from agentnexus.core.payments import PaymentState, PayMode
from agentnexus.devnet.accounts import development_accounts
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.errors import NodeError, Reverted
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.outcome import OutcomeKind, OutcomeReader
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue
from agentnexus.rails.evm.signer import LocalSigner
from agentnexus.rails.evm.transactions import Intent, Outgoing, TransactionSender
from agentnexus.rails.evm.wallet import EvmRail

SIGNER = development_accounts()["buyer"].signer
NOTHING = Intent("0x" + "98" * 20, b"", 21_000)
Answer: TypeAlias = "RpcValue | NodeError | Reverted"


class LaggingRpc(Rpc):
    """The real node, some of whose answers are late by a number of questions, or replaced."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.hidden: dict[str, int] = {}  # method -> how many times "nothing there" is answered
        self.instead: dict[str, list[Answer]] = {}  # method -> answers to give first
        self.asked: list[str] = []

    async def batch(self, calls: Sequence[Call]) -> list[Answer]:
        self.asked += [call.method for call in calls]
        if len(calls) == 1 and self.instead.get(calls[0].method):
            return [self.instead[calls[0].method].pop(0)]
        answers = await super().batch(calls)
        return [self._late(call.method, answer) for call, answer in zip(calls, answers, strict=True)]

    def _late(self, method: str, answer: Answer) -> Answer:
        if self.hidden.get(method, 0) <= 0:
            return answer
        self.hidden[method] -= 1
        return "0x" + "00" * 32 if method == "eth_call" else None


@pytest.fixture
async def rpc(chain: DevelopmentChain) -> AsyncIterator[LaggingRpc]:
    async with LaggingRpc(chain.rpc.url) as lagging:
        yield lagging


@pytest.fixture
def sender(rpc: LaggingRpc, chain: DevelopmentChain, database: Database) -> TransactionSender:
    return TransactionSender(database, rpc, chain.network)


async def staged(sender: TransactionSender, database: Database, signer: LocalSigner = SIGNER) -> Outgoing:
    await sender.prepare(signer)
    async with database.transaction() as connection:
        return await sender.stage(connection, signer, "k", NOTHING)


async def test_a_transaction_whose_receipt_is_late_is_not_called_rejected(
    sender: TransactionSender, rpc: LaggingRpc, chain: DevelopmentChain, database: Database
) -> None:
    outgoing = await staged(sender, database)
    await chain.rpc.call("eth_sendRawTransaction", to_hex(outgoing.raw))  # sent before a crash, and mined
    await chain.mine()
    rpc.hidden = {"eth_getTransactionReceipt": 5}
    receipt = await sender.deliver(SIGNER, outgoing, timeout_seconds=20)
    assert (receipt.succeeded, receipt.transaction) == (True, outgoing.transaction)
    assert rpc.hidden == {"eth_getTransactionReceipt": 0}


async def test_a_payment_whose_receipt_is_late_is_paid_once(
    desk: Desk, rpc: LaggingRpc, chain: DevelopmentChain, database: Database
) -> None:
    rail = EvmRail(TransactionSender(database, rpc, chain.network), SIGNER)
    first = await desk.rail.send(desk.request(mode=PayMode.PAY), "job-1")
    async with database.connection() as connection:  # the note of its receipt was lost in a crash
        await connection.execute("update evm.outgoing set state = 'signed', mined_transaction = null")
    rpc.hidden = {"eth_getTransactionReceipt": 3}
    again = await rail.send(desk.request(mode=PayMode.PAY), "job-1")
    assert again.evidence["transaction"] == first.evidence["transaction"]
    assert (await rail.lookup(first)).state is PaymentState.CONFIRMED
    assert await desk.seller_earned() == 10_000


async def test_a_nonce_that_another_program_used_is_still_noticed(
    rpc: LaggingRpc, chain: DevelopmentChain, database: Database
) -> None:
    sender = TransactionSender(database, rpc, chain.network, stuck_after_seconds=0.1)
    outgoing = await staged(sender, database)
    await chain.rpc.call("eth_sendTransaction", {"from": SIGNER.public_id, "to": NOTHING.target, "value": "0x1"})
    await chain.mine()
    with pytest.raises(Conflict, match="another program"):
        await sender.deliver(SIGNER, outgoing)
    assert await sender.find("k") is None


@pytest.mark.parametrize("refusal", ["insufficient funds for gas * price + value", "intrinsic gas too low"])
async def test_a_late_refusal_of_what_is_on_its_way_already_does_not_count(
    sender: TransactionSender, rpc: LaggingRpc, chain: DevelopmentChain, database: Database, refusal: str
) -> None:
    await chain.automine(False)
    outgoing = await staged(sender, database)
    await chain.rpc.call("eth_sendRawTransaction", to_hex(outgoing.raw))
    no = NodeError("eth_sendRawTransactionSync", -32000, refusal)
    rpc.instead = {"eth_sendRawTransactionSync": [no]}
    await chain.automine(True)
    await chain.mine()
    assert (await sender.deliver(SIGNER, outgoing, timeout_seconds=20)).succeeded
    live = await sender.find("k")
    assert live is not None
    assert live.transaction == outgoing.transaction


async def test_a_refusal_of_what_never_left_is_believed(
    sender: TransactionSender, rpc: LaggingRpc, database: Database
) -> None:
    poor = LocalSigner(b"\x77" * 32, NetworkKind.LOCAL)
    outgoing = await staged(sender, database, poor)
    with pytest.raises(InsufficientFunds, match="gas"):
        await sender.deliver(poor, outgoing)
    assert "eth_getTransactionByHash" in rpc.asked
    assert await sender.find("k") is None


async def test_an_authorisation_collected_at_the_last_moment_is_not_called_expired(
    desk: Desk, rpc: LaggingRpc, chain: DevelopmentChain
) -> None:
    """The state was read before the block that collected it, the time after it."""
    signed = await desk.signed()
    settled = await desk.settler.settle(signed, desk.requirement())
    authorization = signed.authorization
    rpc.hidden = {"eth_call": 1}
    outcome = await OutcomeReader(rpc, chain.network).read(
        chain.usdc.reference, authorization.payer, authorization.nonce, valid_before=1, from_block=0
    )
    assert (outcome.kind, outcome.transaction) == (OutcomeKind.USED, settled.transaction)


async def test_an_authorisation_that_nobody_collected_is_expired_when_its_time_is_over(
    desk: Desk, rpc: LaggingRpc, chain: DevelopmentChain
) -> None:
    authorization = desk.authorization()
    reader = OutcomeReader(rpc, chain.network)
    token = chain.usdc.reference
    over = await reader.read(token, authorization.payer, authorization.nonce, valid_before=1, from_block=0)
    still = await reader.read(token, authorization.payer, authorization.nonce, valid_before=2**40, from_block=0)
    assert (over.kind, still.kind) == (OutcomeKind.EXPIRED, OutcomeKind.OPEN)
