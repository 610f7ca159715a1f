"""Sending a payment and watching it to its end: one transaction, whoever asks, whatever process dies on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from solders.pubkey import Pubkey

from agentnexus.core.errors import PaymentUnknown, Unavailable
from agentnexus.core.ports import Clock, Signer
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.svm.confirmations import POLL_SECONDS, Confirmations
from agentnexus.markets.x402.svm.exact import SignedTransfer, payment_id
from agentnexus.markets.x402.svm.settlements import Outgoing, Settlement, Settlements, State
from agentnexus.platform.logs import log
from agentnexus.rails.solana.cluster import PREFLIGHT_FAILED, Cluster, Commitment, Status
from agentnexus.rails.solana.errors import ClusterUnavailable, NodeError
from agentnexus.rails.solana.exact import fully_signed, signed_bytes
from agentnexus.rails.solana.programs import public_key

RESEND_SECONDS = 2.0
HEIGHT_LIFE_SECONDS = 10.0
# The height is up to 10 s old and may come from a node behind the one that took the payment's blockhash.
HEIGHT_MARGIN_BLOCKS = 64
LEFT_BEHIND_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a settlement ended. `reason` is empty when the payee has the money."""

    transaction: str
    reason: str = ""
    message: str = ""


class TransferSettler:
    """Settles on one cluster with a set of fee payers. Any number of processes may, over one database.

    Args:
        fee_payers: keys that pay the network's fee; addresses in base58.
        settle_timeout_seconds: how long a settle waits before it says "unknown".
        poll_seconds: between two looks at the chain, which are for all settlements together.
    """

    def __init__(
        self,
        cluster: Cluster,
        network: str,
        fee_payers: Sequence[Signer],
        settlements: Settlements,
        clock: Clock,
        *,
        settle_timeout_seconds: float = 45.0,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.network = network
        self.cluster = cluster
        self.settlements = settlements
        self._signers = {public_key(signer.public_id): signer for signer in fee_payers}
        self._clock = clock
        self._timeout = settle_timeout_seconds
        self._confirmations = Confirmations(cluster, poll_seconds)
        self._height = 0
        self._height_until = float("-inf")

    @property
    def fee_payers(self) -> tuple[Pubkey, ...]:
        return tuple(self._signers)

    async def prepare(self, signed: SignedTransfer) -> Outgoing:
        """The transaction with the fee payer's signature, which is the same at every time; nothing leaves."""
        signature = await self._signers[signed.fee_payer].sign(signed_bytes(signed.message))
        transaction = fully_signed(signed.transaction, signature)
        return Outgoing(
            payment_id=payment_id(signed, self.network),
            network=self.network,
            transaction=str(transaction.signatures[0]),
            wire=bytes(transaction),
            last_valid_block_height=await self._last_valid(),
        )

    async def drive(self, mine: Settlement, signed: SignedTransfer) -> Ended:
        """Send what was claimed and wait for its end.

        Raises `PaymentUnknown` with the transaction when it is not known in time, `Unavailable` when nothing was sent.
        """
        refusal = await self._send(mine)
        if refusal is not None:
            return refusal
        try:
            async with asyncio.timeout(self._timeout):
                ended = await self._watch(mine, signed)
        except (TimeoutError, Unavailable) as error:
            await self.settlements.end(mine.outgoing.payment_id, State.PENDING)
            raise PaymentUnknown(
                "the payment was sent and is not confirmed yet",
                next_step="settle the same payment again; it is not sent twice",
                transaction=mine.outgoing.transaction,
            ) from error
        state = State.FAILED if ended.reason else State.SETTLED
        await self.settlements.end(mine.outgoing.payment_id, state, ended.reason, ended.message)
        return ended

    async def _send(self, mine: Settlement) -> Ended | None:
        """Give it to the network; the refusal when the node will not have it and nobody else can have sent it."""
        first = mine.tries == 1
        try:
            await self.cluster.send(mine.outgoing.wire, preflight=first)
        except NodeError as error:
            if first and error.rpc_code == PREFLIGHT_FAILED and await self._take_back(mine):
                return await self._refused(mine, error)
            log.info("x402.svm_send_refused", transaction=mine.outgoing.transaction, error=error.message)
        except ClusterUnavailable as error:
            if first and not error.maybe_sent and await self._take_back(mine):
                raise
        return None

    async def _take_back(self, mine: Settlement) -> bool:
        """Undo the claim of an only try that did not get out; False when another process is at it by now."""
        return await self.settlements.forget(mine.outgoing.payment_id)

    async def _refused(self, mine: Settlement, error: NodeError) -> Ended:
        """Why the node refused what we have never sent: it would fail, or it is on the chain without us."""
        if await self._status(mine.outgoing.transaction, search=True) is None:
            return Ended("", str(Reason.SVM_SIMULATION_FAILED), error.rpc_message)
        return Ended("", str(Reason.DUPLICATE_SETTLEMENT), "this payment was settled before, and not for this asker")

    async def _watch(self, mine: Settlement, signed: SignedTransfer) -> Ended:
        """Look until it is confirmed, has failed on the chain, or can never get there. The error comes first."""
        transaction = mine.outgoing.transaction
        resend_at = self._clock.monotonic() + RESEND_SECONDS
        ended = await self._check(transaction, signed)  # where blocks are made at once this saves a question
        while ended is None:
            status = await self._confirmations.look(transaction)
            if status is not None and status.reached(Commitment.CONFIRMED):
                if status.error is not None:
                    return Ended(transaction, str(Reason.TRANSACTION_FAILED), f"failed on the chain: {status.error}")
                ended = await self._check(transaction, signed)
            elif status is None and self._clock.monotonic() >= resend_at:
                if await self._lapsed(mine):
                    return Ended("", str(Reason.TRANSACTION_FAILED), "the payment's blockhash has expired")
                await self._send_again(mine)
                resend_at = self._clock.monotonic() + RESEND_SECONDS
        return ended

    async def _status(self, transaction: str, *, search: bool = False) -> Status | None:
        try:
            return await self.cluster.status(transaction, search=search)
        except Unavailable as error:  # the node is away for a moment: time will tell
            log.info("x402.svm_status_unknown", transaction=transaction, error=error.message)
            return None

    async def _check(self, transaction: str, signed: SignedTransfer) -> Ended | None:
        """What it moved, by the chain's own account of it; None while the node cannot tell."""
        try:
            outcome = await self.cluster.outcome(transaction)
        except Unavailable:
            return None
        if outcome is None:
            return None
        if outcome.error is not None:
            return Ended(transaction, str(Reason.TRANSACTION_FAILED), f"failed on the chain: {outcome.error}")
        moved = outcome.changes.get(signed.destination, 0)
        if moved != signed.amount:
            return Ended(transaction, str(Reason.TRANSACTION_FAILED), f"the payee got {moved}, not {signed.amount}")
        return Ended(transaction)

    async def _lapsed(self, mine: Settlement) -> bool:
        """Whether it is on the chain nowhere and can never get there. The height is read first."""
        try:
            height = await self.cluster.block_height(Commitment.FINALIZED)
            if height <= mine.outgoing.last_valid_block_height:
                return False
            return await self.cluster.status(mine.outgoing.transaction, search=True) is None
        except Unavailable:
            return False

    async def _send_again(self, mine: Settlement) -> None:
        try:
            await self.cluster.send(mine.outgoing.wire, preflight=False)
        except Unavailable as error:
            log.info("x402.svm_send_refused", transaction=mine.outgoing.transaction, error=error.message)

    async def _last_valid(self) -> int:
        """No block above this takes a transaction whose blockhash is good now."""
        if self._clock.monotonic() >= self._height_until:
            latest = await self.cluster.latest_blockhash(Commitment.PROCESSED)
            self._height = latest.last_valid_block_height + HEIGHT_MARGIN_BLOCKS
            self._height_until = self._clock.monotonic() + HEIGHT_LIFE_SECONDS
        return self._height
