"""A facilitator that is somewhere else: ours or any other that speaks the x402 HTTP interface."""

from __future__ import annotations

from typing import Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from x402.schemas import SettleResponse, SupportedResponse, VerifyResponse

from agentnexus.core.errors import Unavailable
from agentnexus.markets.x402.facilitation import CLAIM_HEADER
from agentnexus.markets.x402.wire import MAX_BODY_BYTES, AnyPayload, AnyRequirements, WireError, parse_object, to_json

M = TypeVar("M", bound=BaseModel)
VERIFY_TIMEOUT_SECONDS = 10.0
SETTLE_TIMEOUT_SECONDS = 60.0


class FacilitatorClient:
    """The `Facilitation` port over HTTP. Nothing is repeated here: the seller repeats, and knows when that is safe."""

    def __init__(self, url: str, http: httpx.AsyncClient, supported: SupportedResponse | None = None) -> None:
        self._url = url.rstrip("/")
        self._http = http
        self._supported = supported or SupportedResponse(kinds=[])

    @classmethod
    async def connect(cls, url: str, http: httpx.AsyncClient) -> Self:
        """A client that knows what its facilitator supports; raises `Unavailable`."""
        client = cls(url, http)
        client._supported = await client.fetch_supported()
        return client

    def get_supported(self) -> SupportedResponse:
        return self._supported

    async def fetch_supported(self) -> SupportedResponse:
        """``GET /supported`` now."""
        return await self._ask("GET", "/supported", SupportedResponse, None, VERIFY_TIMEOUT_SECONDS)

    async def verify(self, payload: AnyPayload, requirements: AnyRequirements) -> VerifyResponse:
        message = _message(payload, requirements)
        return await self._ask("POST", "/verify", VerifyResponse, message, VERIFY_TIMEOUT_SECONDS)

    async def settle(self, payload: AnyPayload, requirements: AnyRequirements) -> SettleResponse:
        return await self.settle_for(payload, requirements, "")

    async def settle_for(self, payload: AnyPayload, requirements: AnyRequirements, claim: str) -> SettleResponse:
        message = _message(payload, requirements)
        return await self._ask("POST", "/settle", SettleResponse, message, SETTLE_TIMEOUT_SECONDS, claim=claim)

    async def _ask(
        self,
        method: str,
        path: str,
        model: type[M],
        message: dict[str, object] | None,
        timeout_seconds: float,
        *,
        claim: str = "",
    ) -> M:
        headers = {CLAIM_HEADER: claim} if claim else None
        try:
            response = await self._http.request(
                method, self._url + path, json=message, headers=headers, timeout=timeout_seconds
            )
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the facilitator does not answer {path}: {type(error).__name__}",
                next_step="check that the facilitator runs; repeat the same payment, do not make a new one",
            ) from error
        try:
            answer = parse_object(response.content, limit=MAX_BODY_BYTES, part=path)
            return model.model_validate(answer)
        except (WireError, ValidationError) as error:
            raise Unavailable(
                f"the facilitator answered {path} with {response.status_code} and not with an x402 message",
                next_step="check the facilitator's address and log",
                status=response.status_code,
            ) from error


def _message(payload: AnyPayload, requirements: AnyRequirements) -> dict[str, object]:
    return {
        "x402Version": payload.x402_version,
        "paymentPayload": to_json(payload),
        "paymentRequirements": to_json(requirements),
    }
