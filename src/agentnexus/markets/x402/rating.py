"""A buyer's stars at an x402 registry: signed by the wallet that paid, with the transaction that proves it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import httpx

from agentnexus.core.errors import Conflict, NexusError, NotAllowed, NotFound, SellerFailed, Unavailable
from agentnexus.core.payments import PaymentRecord, PaymentState, Receipt
from agentnexus.core.ports import Clock, Signer
from agentnexus.markets.x402.registry.ownership import canonical_owner, sign_request

REQUEST_SECONDS = 10.0
COMMENT_CHARACTERS_MAX = 500
REFUSALS: Mapping[int, type[NexusError]] = {403: NotAllowed, 404: NotFound, 409: Conflict}


class RegistryRater:
    """Rates services at one registry.

    Args:
        http: asks the registry that the operator configured.
        signers: keys of the wallets that this node pays from.
    """

    def __init__(self, registry_url: str, http: httpx.AsyncClient, signers: Sequence[Signer], clock: Clock) -> None:
        self._url = registry_url.rstrip("/")
        self._http = http
        self._signers = {canonical_owner(signer.public_id): signer for signer in signers}
        self._clock = clock

    async def rate(self, receipt: Receipt, stars: int, comment: str = "") -> None:
        """Give the receipt's seller its stars.

        Raises `NotFound` (it has no payment of ours, or is not listed there), `NotAllowed` (the registry does not take
        the payment as a proof), `Conflict` (it was rated before), `Unavailable`.
        """
        payment, signer = self._paid(receipt)
        path = f"/services/{await self._listed(receipt, payment.payee)}/rate"
        body = json.dumps(
            {
                "rating": stars,
                "transaction": payment.transaction,
                "network": payment.network,
                "comment": comment[:COMMENT_CHARACTERS_MAX],
                "responseTimeMs": round((receipt.finished_at - receipt.started_at).total_seconds() * 1000),
            }
        ).encode()
        await self._ask("POST", path, body, await sign_request(signer, "POST", path, body, self._clock.now()))

    def _paid(self, receipt: Receipt) -> tuple[PaymentRecord, Signer]:
        for payment in receipt.payments:
            signer = self._signers.get(canonical_owner(payment.payer))
            kept = payment.state in (PaymentState.CONFIRMED, PaymentState.RELEASED)
            if signer is not None and kept and payment.transaction:
                return payment, signer
        raise NotFound(
            f"receipt {receipt.id} has no payment that a registry could check",
            next_step="rate a receipt whose seller was paid on an EVM chain by this node's wallet",
        )

    async def _listed(self, receipt: Receipt, payee: str) -> str:
        """The registry's id of the service that was bought."""
        listed = await self._ask("GET", f"/services/owner/{quote(payee, safe='')}", b"", {})
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, Mapping) and entry.get("url") == receipt.offer.endpoint and entry.get("id"):
                return quote(str(entry["id"]), safe="")
        raise NotFound("its seller is not listed at the registry", next_step="its stars stay on this node")

    async def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> object:
        try:
            answer = await self._http.request(
                method,
                self._url + path,
                content=body,
                headers={"content-type": "application/json", **headers},
                timeout=REQUEST_SECONDS,
            )
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the registry does not answer: {error or type(error).__name__}", next_step="rate again later"
            ) from error
        try:
            value: object = answer.json()
        except ValueError:
            value = None
        if answer.status_code != 200:
            raise _refusal(answer.status_code, value)
        return value


def _refusal(status: int, value: object) -> NexusError:
    said = value.get("error") if isinstance(value, Mapping) else None
    words = said if isinstance(said, Mapping) else {}
    kind = REFUSALS.get(status, SellerFailed)
    message = str(words.get("message", "no reason was given"))[:300]
    return kind(f"the registry said no ({status}): {message}", next_step=str(words.get("next_step", ""))[:300])
