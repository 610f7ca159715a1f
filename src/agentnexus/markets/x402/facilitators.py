"""Several facilitators as one: every payment goes to the one of its network."""

from __future__ import annotations

from collections.abc import Sequence

from x402.schemas import SettleResponse, SupportedResponse, VerifyResponse

from agentnexus.core.errors import InvalidInput
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.facilitation import ClaimedFacilitation
from agentnexus.markets.x402.networks import caip2
from agentnexus.markets.x402.verdicts import failed, invalid
from agentnexus.markets.x402.wire import AnyPayload, AnyRequirements


class Facilitators:
    """A `ClaimedFacilitation` over others; of two that serve a network the first has it."""

    def __init__(self, members: Sequence[ClaimedFacilitation]) -> None:
        self._members = tuple(members)
        self._by_network: dict[str, ClaimedFacilitation] = {}
        for member in members:
            for kind in member.get_supported().kinds:
                self._by_network.setdefault(caip2(kind.network), member)

    def get_supported(self) -> SupportedResponse:
        """What all of them support, together."""
        merged = SupportedResponse(kinds=[], extensions=[], signers={})
        for supported in (member.get_supported() for member in self._members):
            merged.kinds.extend(supported.kinds)
            merged.extensions.extend(each for each in supported.extensions if each not in merged.extensions)
            for family, addresses in supported.signers.items():
                merged.signers.setdefault(family, []).extend(addresses)
        return merged

    async def verify(self, payload: AnyPayload, requirements: AnyRequirements) -> VerifyResponse:
        member = self._member(requirements)
        if member is None:
            return invalid(Reason.INVALID_NETWORK, f"no settlement on {requirements.network}", None)
        return await member.verify(payload, requirements)

    async def settle(self, payload: AnyPayload, requirements: AnyRequirements) -> SettleResponse:
        return await self.settle_for(payload, requirements, "")

    async def settle_for(self, payload: AnyPayload, requirements: AnyRequirements, claim: str) -> SettleResponse:
        member = self._member(requirements)
        if member is None:
            message = f"no settlement on {requirements.network}"
            return failed(Reason.INVALID_NETWORK, message, requirements.network, None)
        return await member.settle_for(payload, requirements, claim)

    def _member(self, requirements: AnyRequirements) -> ClaimedFacilitation | None:
        try:
            return self._by_network.get(caip2(requirements.network))
        except InvalidInput:  # a word nobody knows
            return None
