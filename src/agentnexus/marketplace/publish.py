"""Announces the listed agents to an x402 registry (which is also a Bazaar) and keeps the entries fresh."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import httpx

from agentnexus.core.errors import SellerFailed, Unavailable
from agentnexus.core.ports import Clock
from agentnexus.marketplace.listings.model import Listing
from agentnexus.marketplace.listings.service import Listings
from agentnexus.markets.x402.registry.ownership import sign_request
from agentnexus.platform.logs import log
from agentnexus.rails.evm.signer import EvmSigner

REFRESH_SECONDS = 15 * 60.0
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 15.0)
REQUEST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Announced:
    """One entry at the registry. `verified`: the registry asked the service for its 402 and its payee was right."""

    agent_id: str
    service_id: str
    verified: bool


@dataclass(frozen=True, slots=True)
class Round:
    """One announcement of everything: what is listed now, and by agent why the rest is not."""

    announced: tuple[Announced, ...]
    refused: Mapping[str, SellerFailed]

    @property
    def settled(self) -> bool:
        """Whether nothing is to be tried again soon."""
        return not self.refused and all(entry.verified for entry in self.announced)


class Publisher:
    """Signs each listing's entry with the key of the address it is paid to.

    Args:
        signers: by lower-case address; a listing without its signer is an error, not a silent gap.
        api_url: the address buyers reach this node at.
    """

    def __init__(
        self,
        listings: Listings,
        http: httpx.AsyncClient,
        clock: Clock,
        *,
        registry_url: str,
        api_url: str,
        signers: Mapping[str, EvmSigner],
    ) -> None:
        self._listings = listings
        self._http = http
        self._clock = clock
        self._registry_url = registry_url.rstrip("/")
        self._api_url = api_url.rstrip("/")
        self._signers = signers

    async def announce_all(self) -> Round:
        """Announce every active listing, each by itself. Raises `Unavailable` when no registry is there."""
        announced: list[Announced] = []
        refused: dict[str, SellerFailed] = {}
        for listing in await self._listings.all_active():
            try:
                announced.append(await self.announce(listing))
            except SellerFailed as error:
                refused[listing.id] = error
                log.warning("publish.refused", agent=listing.id, reason=error.message, next_step=error.next_step)
        return Round(tuple(announced), refused)

    async def announce(self, listing: Listing) -> Announced:
        """Register or refresh one entry, then have it verified; not being verified yet is no error."""
        signer = self._signers.get(listing.seller)
        if signer is None:
            raise SellerFailed(
                f"no key for {listing.seller}, which {listing.id} is paid to", next_step="add it to NEXUS_SELLER_KEYS"
            )
        body = json.dumps(registration(listing, self._api_url, self._clock.now()), separators=(",", ":")).encode()
        path = "/services/register"
        signature = await sign_request(signer, "POST", path, body, self._clock.now())
        answer = await self._ask("POST", path, body, signature)
        if answer.status_code not in (200, 201):
            raise SellerFailed(
                f"the registry refused {listing.id}: {answer.status_code} {answer.text[:300]}",
                next_step="check the listing's address and key",
            )
        service_id = _id_in(answer, listing)
        # Before the API answers, or behind a proxy, the registry cannot ask us back: the next round will.
        verified = (await self._ask("POST", f"/services/{service_id}/verify", b"", {})).status_code == 200
        await self._retire_moved(listing, signer)
        return Announced(listing.id, service_id, verified)

    async def _retire_moved(self, listing: Listing, signer: EvmSigner) -> None:
        """Take back our entries of this agent at addresses that are ours no more, so that nobody is sent there."""
        here = f"{self._api_url}{listing.path}"
        answer = await self._ask("GET", f"/services/owner/{listing.seller}", b"", {})
        entries = answer.json() if answer.status_code == 200 else []
        for entry in entries:
            moved = entry.get("extra", {}).get("agent") == listing.id and entry["url"] != here
            if not moved or entry["status"] != "ACTIVE":
                continue
            path, body = f"/services/{entry['id']}", b'{"status":"DEPRECATED"}'
            await self._ask("PATCH", path, body, await sign_request(signer, "PATCH", path, body, self._clock.now()))

    async def run(self) -> None:
        """Announce now and again, for as long as the process lives; a registry that is down is tried again soon."""
        failures = 0
        while True:
            try:
                done = await self.announce_all()
                log.info("publish.announced", agents=[entry.agent_id for entry in done.announced])
                failures = 0
                await asyncio.sleep(REFRESH_SECONDS if done.settled else RETRY_SECONDS[-1])
            except Unavailable as error:
                wait_seconds = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                log.warning("publish.failed", reason=error.message, retry_seconds=wait_seconds)
                failures += 1
                await asyncio.sleep(wait_seconds)

    async def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        try:
            return await self._http.request(
                method,
                self._registry_url + path,
                content=body,
                headers={"content-type": "application/json", **headers},
                timeout=REQUEST_SECONDS,
            )
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the registry does not answer: {error or type(error).__name__}", next_step="start it: nexus registry"
            ) from error


def _id_in(answer: httpx.Response, listing: Listing) -> str:
    try:
        return str(answer.json()["id"])
    except (ValueError, KeyError, TypeError) as error:
        raise SellerFailed(
            f"the registry gave no id for {listing.id}: {answer.text[:300]}",
            next_step="check that NEXUS_REGISTRY_URL is a registry",
        ) from error


def registration(listing: Listing, api_url: str, now: datetime) -> dict[str, object]:
    """The body of ``POST /services/register``; its time makes two announcements in one second two requests."""
    manifest = listing.manifest
    return {
        "url": f"{api_url}{listing.path}",
        "name": manifest.title,
        "description": manifest.summary,
        "category": manifest.categories[0],
        "ownerWalletAddress": listing.seller,
        "pricePerCall": f"{listing.price.decimal:f}",
        "acceptedTokens": [listing.price.asset.symbol],
        "accepts": list(listing.accepts),
        "inputSchema": listing.input_schema,
        "outputSchema": listing.output_schema,
        "capabilities": [manifest.capability],
        "tags": sorted({*manifest.tags, *manifest.categories}),
        "extra": {
            "agent": listing.id,
            "version": manifest.version,
            "codeHash": listing.code_hash,
            "executions": f"{api_url}/api/v1/executions",
            "announcedAt": now.isoformat(),
        },
    }
