"""The facilitator: says whether an x402 payment would settle, and settles it, over the EVM rail's settler.

This translates: x402 messages into authorisations, the rail's refusals into the protocol's words. A payment that was
sent and not seen again is `settlement_pending`, never "failed".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from x402.schemas import PaymentRequirements, SettleResponse, SupportedKind, SupportedResponse, VerifyResponse

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import InvalidInput, PaymentFailed, PaymentUnknown
from agentnexus.core.money import Asset
from agentnexus.core.ports import Clock
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.exact import check_terms, read_authorization
from agentnexus.markets.x402.history import History
from agentnexus.markets.x402.networks import caip2, v1_name
from agentnexus.markets.x402.sponsor import Sponsor, SponsorLimits
from agentnexus.markets.x402.verdicts import failed, invalid, reason_of
from agentnexus.markets.x402.wire import AnyPayload, AnyRequirements, Presented, WireError, normal, present
from agentnexus.rails.evm.eip3009 import SignedAuthorization
from agentnexus.rails.evm.errors import Refusal, SettlementRefused
from agentnexus.rails.evm.settlement import AuthorizationSettler, Requirement, Verified
from agentnexus.rails.evm.signer import EvmSigner
from agentnexus.rails.evm.transactions import TransactionSender

REASONS: dict[Refusal, Reason] = {
    Refusal.WRONG_NETWORK: Reason.NETWORK_MISMATCH,
    Refusal.WRONG_ASSET: Reason.INVALID_REQUIREMENTS,
    Refusal.WRONG_RECIPIENT: Reason.RECIPIENT_MISMATCH,
    Refusal.WRONG_VALUE: Reason.AUTHORIZATION_VALUE,
    Refusal.EXPIRED: Reason.AUTHORIZATION_EXPIRED,
    Refusal.NOT_YET_VALID: Reason.AUTHORIZATION_NOT_YET_VALID,
    Refusal.BAD_SIGNATURE: Reason.INVALID_SIGNATURE,
    Refusal.UNDEPLOYED_WALLET: Reason.UNDEPLOYED_WALLET,
    Refusal.NONCE_USED: Reason.NONCE_USED,
    Refusal.CLAIMED: Reason.DUPLICATE_SETTLEMENT,
    Refusal.INSUFFICIENT_BALANCE: Reason.INSUFFICIENT_BALANCE,
    Refusal.NO_SUCH_TOKEN: Reason.EIP3009_NOT_SUPPORTED,
    Refusal.WOULD_REVERT: Reason.SIMULATION_FAILED,
    Refusal.REVERTED: Reason.TRANSACTION_FAILED,
    Refusal.TRANSFER_MISMATCH: Reason.TRANSFER_EVENT_MISMATCH,
}


class Facilitator:
    """Verifies and settles `exact` payments on EVM networks, v2 and v1.

    Args:
        settlers: one per network; each brings the relayer key that pays the gas.
        assets: the tokens it settles. Others are refused: a hostile token could burn the relayer's gas.
        sponsor: whose gas is paid; None: anybody's, up to a limit for each payment.
        settle_timeout_seconds: how long a settle waits for its transaction before it answers "pending".
    """

    def __init__(
        self,
        settlers: Sequence[AuthorizationSettler],
        assets: Sequence[Asset],
        *,
        clock: Clock | None = None,
        sponsor: Sponsor | None = None,
        settle_timeout_seconds: float = 45.0,
    ) -> None:
        self._settlers = {settler.network.caip2: settler for settler in settlers}
        self._histories = {
            network: History(settler.rpc, settler.network) for network, settler in self._settlers.items()
        }
        # The rail compares lower-case addresses with the chain's events.
        self._assets = {a.caip19.lower(): Asset(a.symbol, a.decimals, a.caip19.lower()) for a in assets}
        self._clock = clock or SystemClock()
        self._sponsor = sponsor
        self._limits = sponsor.limits if sponsor else SponsorLimits()
        self._timeout = settle_timeout_seconds

    @classmethod
    def on(
        cls,
        sender: TransactionSender,
        relayer: EvmSigner,
        assets: Sequence[Asset],
        limits: SponsorLimits | None = None,
    ) -> Self:
        """A facilitator for one network with the usual parts."""
        sponsor = Sponsor(sender.database, sender.clock, limits) if limits else None
        return cls([AuthorizationSettler(sender, relayer)], assets, clock=sender.clock, sponsor=sponsor)

    def get_supported(self) -> SupportedResponse:
        """``exact`` in both versions on every network; v1 under its own network names."""
        kinds = [
            SupportedKind(x402_version=version, scheme="exact", network=name)
            for network in self._settlers
            for version, name in ((2, network), (1, v1_name(network)))
        ]
        signers = sorted({settler.relayer.public_id for settler in self._settlers.values()})
        return SupportedResponse(kinds=kinds, extensions=[], signers={"eip155:*": signers})

    async def verify(self, payload: AnyPayload, requirements: AnyRequirements) -> VerifyResponse:
        """Would it settle now? Raises `Unavailable` when the chain cannot be asked."""
        payer: str | None = None
        try:
            presented, requirement = present(payload), normal(requirements)
            signed = read_authorization(presented)
            payer = signed.authorization.payer
            settler, wanted = self._wanted(presented, signed, requirement, fresh=True)
            self._limits.check(wanted.payee, wanted.value)
            verified = await settler.verify(signed, wanted)
            self._limits.check_gas(verified.gas)
            if self._sponsor is not None:
                await self._sponsor.would_admit(settler.network.caip2, payer, verified.gas)
        except SettlementRefused as error:
            return invalid(REASONS[error.refusal], error.message, payer)
        except InvalidInput as error:
            return invalid(reason_of(error), error.message, payer)
        return VerifyResponse(is_valid=True, payer=payer)

    async def settle(self, payload: AnyPayload, requirements: AnyRequirements) -> SettleResponse:
        """Move the money once. Raises `Unavailable` when nothing could be sent; ask again."""
        return await self.settle_for(payload, requirements, "")

    async def settle_for(self, payload: AnyPayload, requirements: AnyRequirements, claim: str) -> SettleResponse:
        """The same, for one asker only: under another claim the payment is a `duplicate_settlement`."""
        network, payer = requirements.network, None
        try:
            presented, requirement = present(payload), normal(requirements)
            signed = read_authorization(presented)
            payer = signed.authorization.payer
            settler, wanted = self._wanted(presented, signed, requirement, fresh=False)

            async def admit(verified: Verified) -> None:
                self._limits.check(wanted.payee, wanted.value)
                self._limits.check_gas(verified.gas)
                if self._sponsor is not None:
                    await self._sponsor.admit(settler.network.caip2, verified.payer, verified.gas)

            settled = await settler.settle(signed, wanted, timeout_seconds=self._timeout, claim=claim, admit=admit)
        except SettlementRefused as error:
            if error.refusal is Refusal.NONCE_USED:
                return await self._explain(settler, signed, wanted, network)
            return failed(REASONS[error.refusal], error.message, network, payer, error.transaction)
        except PaymentUnknown as error:
            transaction = error.details.get("transaction")
            return failed(Reason.SETTLEMENT_PENDING, error.message, network, payer, str(transaction or ""))
        except PaymentFailed as error:
            return failed(Reason.TRANSACTION_FAILED, error.message, network, payer)
        except InvalidInput as error:
            return failed(reason_of(error), error.message, network, payer)
        return SettleResponse(
            success=True, transaction=settled.transaction, network=network, payer=payer, amount=str(settled.value)
        )

    async def _explain(
        self, settler: AuthorizationSettler, signed: SignedAuthorization, wanted: Requirement, network: str
    ) -> SettleResponse:
        """The nonce is used, and by none of our settlements that we know to have succeeded.

        Anybody may submit an authorisation, and it still pays the payee. Another seller of the same payee may have
        delivered for it, so it is good here only when the transaction turns out to be ours after all.
        """
        used = await self._histories[settler.network.caip2].find(signed, wanted.asset.reference)
        payer = signed.authorization.payer
        if used.paid and await settler.sent(signed, wanted, used.transaction):
            value = str(signed.authorization.value)
            return SettleResponse(
                success=True, transaction=used.transaction, network=network, payer=payer, amount=value
            )
        if used.paid:
            message = "settled by a transaction that was not sent here"
            return failed(Reason.DUPLICATE_SETTLEMENT, message, network, payer, used.transaction)
        reason = Reason.INVALID_STATE if used.decided else Reason.SETTLEMENT_PENDING
        return failed(reason, used.message, network, payer, used.transaction)

    def _wanted(
        self, presented: Presented, signed: SignedAuthorization, requirement: PaymentRequirements, *, fresh: bool
    ) -> tuple[AuthorizationSettler, Requirement]:
        """The settler and what it shall compare with; raises `WireError` with the first thing that does not fit.

        A settle may come after the authorisation's time: it may have been settled before, and the rail looks.
        """
        settler = self._settlers.get(caip2(requirement.network))
        if settler is None:
            raise WireError(f"no settlement on {requirement.network}", reason=Reason.INVALID_NETWORK)
        now = self._clock.now().timestamp() if fresh else float(signed.authorization.valid_after)
        reason = check_terms(presented, signed, requirement, now)
        if reason is not None and (fresh or reason is not Reason.AUTHORIZATION_EXPIRED):
            raise WireError(f"the payment does not meet the requirement: {reason}", reason=reason)
        asset = self._assets.get(f"{requirement.network}/erc20:{requirement.asset.lower()}")
        if asset is None:
            raise WireError(f"{requirement.asset} is not settled here", reason=Reason.INVALID_REQUIREMENTS)
        extra = requirement.extra
        return settler, Requirement(
            asset=asset,
            payee=requirement.pay_to.lower(),
            value=int(requirement.amount),
            name=str(extra["name"]),
            version=str(extra["version"]),
        )
