"""The facilitator on Solana: says whether a partly signed payment would settle, and settles it as its fee payer."""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Sequence

from x402.schemas import PaymentRequirements, SettleResponse, SupportedKind, SupportedResponse, VerifyResponse

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import InvalidInput, PaymentUnknown
from agentnexus.core.money import Asset
from agentnexus.core.ports import Clock
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.networks import v1_name
from agentnexus.markets.x402.sponsor import Sponsor, SponsorLimits
from agentnexus.markets.x402.svm.exact import SignedTransfer, check_terms, parse_transfer, payment_id, read_transfer
from agentnexus.markets.x402.svm.mints import Mints
from agentnexus.markets.x402.svm.settle import LEFT_BEHIND_SECONDS, Ended, TransferSettler
from agentnexus.markets.x402.svm.settlements import Outgoing, Settlement, State
from agentnexus.markets.x402.verdicts import failed, invalid, reason_of
from agentnexus.markets.x402.wire import AnyPayload, AnyRequirements, WireError, normal, present
from agentnexus.platform.logs import log

LAMPORTS_PER_PAYMENT = 50_000
REMEMBERED_SECONDS = 10.0
REMEMBERED = 4096
ALREADY_PROCESSED = "AlreadyProcessed"  # a cluster's own word


def lamport_limits(
    lamports_per_payment: int = LAMPORTS_PER_PAYMENT, lamports_per_payer_hour: int | None = None
) -> SponsorLimits:
    """Sponsoring on Solana: what EVM counts in gas is counted in lamports."""
    return SponsorLimits(gas_per_payment=lamports_per_payment, gas_per_payer_hour=lamports_per_payer_hour)


class SolanaFacilitator:
    """Verifies and settles `exact` payments on one cluster, v2 and v1.

    Args:
        assets: the tokens it settles; others are refused.
        sponsor: limits of what the fee payers spend, in lamports; None: a limit for each payment only.
    """

    def __init__(
        self,
        settler: TransferSettler,
        assets: Sequence[Asset],
        *,
        clock: Clock | None = None,
        sponsor: Sponsor | None = None,
    ) -> None:
        self.settler = settler
        self._assets = {asset.caip19 for asset in assets}
        self._clock = clock or SystemClock()
        self._mints = Mints(settler.cluster, self._clock)
        self._sponsor = sponsor
        self._limits = sponsor.limits if sponsor else lamport_limits()
        self._verified: OrderedDict[str, float] = OrderedDict()
        self._turn = 0

    def get_supported(self) -> SupportedResponse:
        """``exact`` in both versions, with a fee payer, each in its turn."""
        addresses = [str(each) for each in self.settler.fee_payers]
        fee_payer = addresses[self._turn % len(addresses)]
        self._turn += 1
        kinds = [
            SupportedKind(x402_version=version, scheme="exact", network=name, extra={"feePayer": fee_payer})
            for version, name in ((2, self.settler.network), (1, v1_name(self.settler.network)))
        ]
        return SupportedResponse(kinds=kinds, extensions=[], signers={"solana:*": addresses})

    async def verify(self, payload: AnyPayload, requirements: AnyRequirements) -> VerifyResponse:
        """Would it settle now? Raises `Unavailable` when the chain cannot be asked."""
        payer: str | None = None
        try:
            signed, requirement = self._read(payload, requirements)
            payer = str(signed.payer)
            await self._check(signed, requirement)
            if self._sponsor is not None:
                await self._sponsor.would_admit(self.settler.network, payer, signed.fee_lamports)
            # A node may not know the payment again without our signature under it; our books do.
            known, _ = await asyncio.gather(
                self.settler.settlements.find(payment_id(signed, self.settler.network)), self._simulate(signed)
            )
            if known is not None:
                raise WireError("this payment is settled", reason=Reason.DUPLICATE_SETTLEMENT)
        except InvalidInput as error:
            return invalid(reason_of(error), error.message, payer)
        self._remember(signed)
        return VerifyResponse(is_valid=True, payer=payer)

    async def settle(self, payload: AnyPayload, requirements: AnyRequirements) -> SettleResponse:
        """Move the money once. For askers without a claim a second settlement is a `duplicate_settlement`."""
        return await self.settle_for(payload, requirements, "")

    async def settle_for(self, payload: AnyPayload, requirements: AnyRequirements, claim: str) -> SettleResponse:
        """The same, for one asker only: its repeats are answered as the first time, all others are duplicates.

        Raises `Unavailable` when nothing could be sent; ask again.
        """
        network, payer, amount = requirements.network, None, ""
        try:
            signed, requirement = self._read(payload, requirements)
            payer, amount = str(signed.payer), str(signed.amount)
            ended = await self._settle(signed, requirement, claim)
        except PaymentUnknown as error:
            transaction = str(error.details.get("transaction") or "")
            return failed(Reason.SETTLEMENT_PENDING, error.message, network, payer, transaction)
        except InvalidInput as error:
            return failed(reason_of(error), error.message, network, payer)
        if ended.reason:
            return failed(Reason(ended.reason), ended.message, network, payer, ended.transaction)
        return SettleResponse(success=True, transaction=ended.transaction, network=network, payer=payer, amount=amount)

    async def recover(self, older_than_seconds: float = LEFT_BEHIND_SECONDS) -> int:
        """Bring settlements of killed facilitators to their end; returns how many are still not known."""
        open_ = 0
        for left in await self.settler.settlements.left_behind(self.settler.network, older_than_seconds):
            mine = await self.settler.settlements.claim(left.outgoing, left.claim)
            if mine is None:
                continue
            try:
                await self.settler.drive(mine, parse_transfer(_text(left)))
            except PaymentUnknown as error:
                open_ += 1
                log.info("x402.svm_still_pending", transaction=left.outgoing.transaction, reason=error.message)
        return open_

    def _read(self, payload: AnyPayload, requirements: AnyRequirements) -> tuple[SignedTransfer, PaymentRequirements]:
        """The transfer and what it must be; raises `WireError` with the first thing that does not fit. No I/O."""
        presented, requirement = present(payload), normal(requirements)
        if requirement.network != self.settler.network:
            raise WireError(f"no settlement on {requirement.network}", reason=Reason.INVALID_NETWORK)
        signed = read_transfer(presented)
        reason = check_terms(presented, signed, requirement, self.settler.fee_payers)
        if reason is not None:
            raise WireError(f"the payment does not meet the requirement: {reason}", reason=reason)
        if f"{requirement.network}/token:{requirement.asset}" not in self._assets:
            raise WireError(f"{requirement.asset} is not settled here", reason=Reason.INVALID_REQUIREMENTS)
        return signed, requirement

    async def _check(self, signed: SignedTransfer, requirement: PaymentRequirements) -> None:
        """What is asked of a payment before it is sent for the first time."""
        self._limits.check(requirement.pay_to, signed.amount)
        self._limits.check_gas(signed.fee_lamports)
        if not signed.signed_by_payer():
            raise WireError("the payer's signature is not good", reason=Reason.SVM_SIGNATURE)
        await self._mints.check(signed)

    async def _simulate(self, signed: SignedTransfer) -> None:
        """Raises `WireError` when it would fail. Without our signature: the node that simulates could send it."""
        simulation = await self.settler.cluster.simulate(bytes(signed.transaction), check_signatures=False)
        if simulation.error is not None:
            settled = simulation.error == ALREADY_PROCESSED
            reason = Reason.DUPLICATE_SETTLEMENT if settled else Reason.SVM_SIMULATION_FAILED
            raise WireError(f"the payment would fail: {simulation.error}", reason=reason)

    async def _admit(self, signed: SignedTransfer, requirement: PaymentRequirements, *, verified: bool) -> Outgoing:
        """Everything before a first try; only what would go through is taken out of the sponsor's budget."""
        await self._check(signed, requirement)
        if not verified:
            await self._simulate(signed)
        outgoing = await self.settler.prepare(signed)
        if self._sponsor is not None:
            await self._sponsor.admit(self.settler.network, str(signed.payer), signed.fee_lamports)
        return outgoing

    async def _settle(self, signed: SignedTransfer, requirement: PaymentRequirements, claim: str) -> Ended:
        store = self.settler.settlements
        # What was verified a moment ago has not been settled, so most settlements need not ask the books first.
        verified, name = self._recall(signed), payment_id(signed, self.settler.network)
        known = None if verified else await store.find(name)
        if known is None:
            try:
                outgoing = await self._admit(signed, requirement, verified=verified)
            except WireError:
                known = await store.find(name)  # another process may have settled it since we looked
                if known is None:
                    raise
        if known is not None:
            outgoing = known.outgoing
        mine = await store.claim(outgoing, claim)
        if mine is not None:
            return await self.settler.drive(mine, signed)
        return _answer(await store.find(outgoing.payment_id), claim)

    def _remember(self, signed: SignedTransfer) -> None:
        self._verified[signed.hash] = self._clock.monotonic() + REMEMBERED_SECONDS
        if len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)

    def _recall(self, signed: SignedTransfer) -> bool:
        return self._verified.pop(signed.hash, float("-inf")) > self._clock.monotonic()


def _answer(known: Settlement | None, claim: str) -> Ended:
    """What is told of a settlement that cannot be gone on with."""
    if known is not None and known.state is State.FAILED:
        return Ended(known.outgoing.transaction, known.reason, known.message)
    if known is not None and known.state is State.SETTLED and claim and known.claim == claim:
        return Ended(known.outgoing.transaction)
    transaction = known.outgoing.transaction if known is not None and known.claim == claim else ""
    return Ended(transaction, str(Reason.DUPLICATE_SETTLEMENT), "this payment was settled for somebody else")


def _text(left: Settlement) -> str:
    return base64.b64encode(left.outgoing.wire).decode("ascii")
