"""The port between a seller and whoever checks and settles payments for it: in process or over HTTP, ours or not."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from x402.schemas import SettleResponse, SupportedResponse, VerifyResponse

from agentnexus.markets.x402.wire import AnyPayload, AnyRequirements

CLAIM_HEADER = "X-Settlement-Claim"


class Facilitation(Protocol):
    """The shape of the official SDK's async facilitator client, so either side can be swapped for the other's.

    `requirements` come in the form of the payload's version. Answers carry refusals; only a part that cannot be
    reached raises (`Unavailable`, or the foreign client's own error): then the outcome is not known.
    """

    async def verify(self, payload: AnyPayload, requirements: AnyRequirements) -> VerifyResponse:
        """Would this payment settle now? Spends nothing."""

    async def settle(self, payload: AnyPayload, requirements: AnyRequirements) -> SettleResponse:
        """Move the money, once: repeating it with the same payload gives the same transaction.

        ``error_reason`` `settlement_pending` means: sent (``transaction``), outcome not known yet; ask again.
        """

    def get_supported(self) -> SupportedResponse:
        """Kinds of payment this facilitator takes; no I/O."""


@runtime_checkable
class ClaimedFacilitation(Facilitation, Protocol):
    """What ours can and foreign clients cannot: settle for one asker only.

    Two sellers with one payee and separate stores may be sent one payment at the same time. The first claim has it;
    any other is answered ``duplicate_settlement``. A repeat under the first claim is as good as the first call.
    """

    async def settle_for(self, payload: AnyPayload, requirements: AnyRequirements, claim: str) -> SettleResponse:
        """`settle`, under a claim of 1-64 characters that only its holder knows."""
