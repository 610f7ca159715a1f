"""Offers from x402 registries and Bazaars, read liberally: one bad entry is dropped, a dead source raises."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Protocol

import httpx
from pydantic import ValidationError

from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.core.offers import COUNT_MAX, Capability, Need, Offer, Party, Price, Reputation, Schema
from agentnexus.core.ports import Clock
from agentnexus.markets.x402.kinds import asset_id
from agentnexus.markets.x402.networks import caip2
from agentnexus.platform.logs import log

PAGE = 100
PAGES_MAX = 100
ANSWER_BYTES_MAX = 4 * 1024 * 1024
OFFER_LIFE = timedelta(hours=1)
URL_CHARACTERS_MAX = 2048
BASE58_ADDRESS = re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,44}")
Entry = Mapping[str, object]
UNREADABLE = (ValidationError, InvalidInput, ValueError, TypeError, RecursionError)


class OfferSource(Protocol):
    """One place that lists x402 services."""

    @property
    def name(self) -> str: ...

    def discover(self, need: Need) -> AsyncIterator[Offer]:
        """Raises `Unavailable` when the source does not answer."""


class RegistrySource:
    """``GET /services/discover`` in the field's dialects (an array, or ``{services: […]}``)."""

    name = "x402-registry"

    def __init__(self, url: str, client: httpx.AsyncClient, clock: Clock, assets: Mapping[str, Asset]) -> None:
        self._url = url.rstrip("/")
        self._client = client
        self._clock = clock
        self._assets = assets

    async def discover(self, need: Need) -> AsyncIterator[Offer]:
        async for entry in _pages(self._client, f"{self._url}/services/discover", need, ("services",)):
            if (offer := self.offer(entry)) is not None:
                yield offer

    def offer(self, entry: Entry) -> Offer | None:
        """The offer in one entry, or None (logged) when it cannot be paid or read."""
        try:
            return _offer(
                entry,
                source=self.name,
                endpoint=_text(entry, "url", "resource", "endpoint"),
                owner=_text(entry, "ownerWalletAddress", "owner", "walletAddress"),
                clock=self._clock,
                assets=self._assets,
            )
        except UNREADABLE as error:
            log.info("discovery.dropped", source=self.name, reason=str(error)[:200])
            return None


class BazaarSource:
    """``GET /discovery/resources`` of a facilitator or registry (x402 v2)."""

    name = "x402-bazaar"

    def __init__(self, url: str, client: httpx.AsyncClient, clock: Clock, assets: Mapping[str, Asset]) -> None:
        self._url = url.rstrip("/")
        self._client = client
        self._clock = clock
        self._assets = assets

    async def discover(self, need: Need) -> AsyncIterator[Offer]:
        async for entry in _pages(self._client, f"{self._url}/discovery/resources", need, ("items", "resources")):
            if (offer := self.offer(entry)) is not None:
                yield offer

    def offer(self, entry: Entry) -> Offer | None:
        """The offer in one Bazaar item, or None when it cannot be paid or read."""
        metadata = entry.get("metadata")
        flat: dict[str, object] = dict(metadata) if isinstance(metadata, Mapping) else {}
        accepts = entry.get("accepts")
        try:
            if entry.get("type", "http") != "http":
                raise ValueError("only http resources are bought here")
            owner = flat.get("owner") or _first_payee(accepts)
            return _offer(
                flat | {"accepts": accepts},
                source=self.name,
                endpoint=_text(entry, "resource"),
                owner=str(owner),
                clock=self._clock,
                assets=self._assets,
            )
        except UNREADABLE as error:
            log.info("discovery.dropped", source=self.name, reason=str(error)[:200])
            return None


async def _pages(client: httpx.AsyncClient, url: str, need: Need, wrappers: tuple[str, ...]) -> AsyncIterator[Entry]:
    for page in range(PAGES_MAX):
        parameters: dict[str, str | int] = {"limit": PAGE, "offset": page * PAGE}
        if need.capability:
            parameters["capability"] = need.capability
        entries = await _fetch(client, url, parameters, wrappers)
        for entry in entries:
            if isinstance(entry, Mapping):
                yield entry
        if len(entries) < PAGE:
            return


async def read_json(
    client: httpx.AsyncClient, url: str, parameters: Mapping[str, str | int], limit_bytes: int = ANSWER_BYTES_MAX
) -> object:
    """The JSON answer of a source, read up to a limit; raises `Unavailable` for anything else."""
    body = bytearray()
    try:
        async with client.stream("GET", url, params=dict(parameters)) as answer:
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > limit_bytes:
                    raise Unavailable(f"{url} answered with more than {limit_bytes} bytes")
    except httpx.HTTPError as error:
        raise Unavailable(
            f"{url} does not answer: {error or type(error).__name__}", next_step="other markets are still asked"
        ) from error
    if answer.status_code != 200:
        raise Unavailable(f"{url} answered {answer.status_code}", next_step="other markets are still asked")
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unavailable(f"{url} did not answer with JSON") from error
    return value


async def _fetch(
    client: httpx.AsyncClient, url: str, parameters: dict[str, str | int], wrappers: tuple[str, ...]
) -> list[object]:
    value = await read_json(client, url, parameters)
    for wrapper in wrappers:
        if isinstance(value, Mapping) and isinstance(value.get(wrapper), list):
            value = value[wrapper]
    if not isinstance(value, list):
        raise Unavailable(f"{url} did not answer with a list")
    return value


def _offer(entry: Entry, *, source: str, endpoint: str, owner: str, clock: Clock, assets: Mapping[str, Asset]) -> Offer:
    rails, price = _payable(entry.get("accepts"), assets)
    capability = _capability(entry)
    now = clock.now()
    score, count = _reputation(entry)
    success = entry.get("successRate")
    digest = hashlib.sha256(f"{endpoint}\n{capability.name}".encode()).hexdigest()[:24]
    return Offer(
        id=f"x402:{digest}",
        market="x402",
        seller=Party(ids={**_owner(owner), "url": endpoint}, name=str(entry.get("name", ""))[:100]),
        capability=capability,
        title=str(entry.get("name") or capability.name)[:200],
        description=str(entry.get("description", ""))[:2000],
        price=Price(per_job=price),
        rails=rails,
        endpoint=endpoint,
        reputation=Reputation(score=score, count=count, source=source),
        latency_ms=_whole(entry, "averageResponseTimeMs", "averageLatencyMs", "averageLatency"),
        success_rate=float(success) if isinstance(success, int | float) and 0 <= success <= 1 else None,
        observed_at=now,
        expires_at=now + OFFER_LIFE,
        sources=(source,),
        evidence={"verified": entry.get("verified") is True, **_executions(entry)},
    )


def _owner(address: str) -> dict[str, str]:
    """Whoever is paid, by the kind of the address: hex has two cases, base58 has one."""
    return {"solana": address} if BASE58_ADDRESS.fullmatch(address) else {"evm": address.lower()}


def _executions(entry: Entry) -> dict[str, object]:
    """Where runs are watched, when the seller says so."""
    extra = entry.get("extra")
    told = extra.get("executions") if isinstance(extra, Mapping) else None
    return {"executions": told} if isinstance(told, str) and len(told) <= URL_CHARACTERS_MAX else {}


def _payable(accepts: object, assets: Mapping[str, Asset]) -> tuple[tuple[dict[str, object], ...], Money]:
    """Requirements in assets we know, and the cheapest price, of equal ones that in the asset we know first.

    Amounts are never guessed from a decimal price.
    """
    if not isinstance(accepts, list):
        raise ValueError("no x402 accepts: cannot be paid")
    rails: list[dict[str, object]] = []
    prices: list[Money] = []
    for accept in accepts[:32]:
        if not isinstance(accept, Mapping):
            continue
        asset = _asset(accept, assets)
        amount = str(accept.get("amount") or accept.get("maxAmountRequired") or "")
        if asset is None or not amount.isdecimal() or len(amount) > 78:
            continue
        rails.append(dict(accept))
        prices.append(Money(asset, int(amount)))
    if not prices:
        raise ValueError("no accepts in an asset we know")
    ours = list(assets)
    return tuple(rails), min(prices, key=lambda money: (money.decimal, ours.index(money.asset.caip19)))


def _asset(accept: Mapping[str, object], assets: Mapping[str, Asset]) -> Asset | None:
    try:
        return assets.get(asset_id(caip2(str(accept.get("network"))), str(accept.get("asset", ""))))
    except InvalidInput:
        return None


def _capability(entry: Entry) -> Capability:
    names = entry.get("capabilities")
    fallback = str(entry.get("category") or "general")
    name = str(names[0]) if isinstance(names, list) and names else fallback
    tags = entry.get("tags")
    return Capability(
        name=name.strip().lower().replace(" ", "-").replace("/", "."),
        title=str(entry.get("name", ""))[:200],
        description=str(entry.get("description", ""))[:2000],
        input_schema=_schema(entry.get("inputSchema")),
        output_schema=_schema(entry.get("outputSchema")),
        tags=tuple(str(tag) for tag in tags[:50]) if isinstance(tags, list) else (),
    )


def _schema(value: object) -> Schema:
    parsed = json.loads(value) if isinstance(value, str) else value
    return dict(parsed) if isinstance(parsed, Mapping) else {}


def _reputation(entry: Entry) -> tuple[float, int]:
    """Score 0-5 and count; registries count 0-10000, Bazaars of ours 0-5."""
    raw = entry.get("reputation", entry.get("reputationScore", 0))
    score = float(raw) if isinstance(raw, int | float) and 0 <= raw <= COUNT_MAX else 0.0
    count = _whole(entry, "totalRatings", "ratings") or 0
    return min(max(score / 2000 if score > 5 else score, 0.0), 5.0), count


def _whole(entry: Entry, *names: str) -> int | None:
    for name in names:
        value = entry.get(name)
        if isinstance(value, int | float) and 0 <= value <= COUNT_MAX:
            return int(value)
    return None


def _text(entry: Entry, *names: str) -> str:
    for name in names:
        value = entry.get(name)
        if isinstance(value, str) and value:
            return value
    raise ValueError(f"lacks {' or '.join(names)}")


def _first_payee(accepts: object) -> str:
    if isinstance(accepts, list) and accepts and isinstance(accepts[0], Mapping):
        return _text(accepts[0], "payTo")
    raise ValueError("nobody to pay")
