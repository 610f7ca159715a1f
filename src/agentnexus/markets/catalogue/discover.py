"""Reads ``GET /api/v1/agents`` of a node: every listing that can be paid becomes an offer, a bad one is dropped."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

import httpx
from pydantic import ValidationError

from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.core.offers import COUNT_MAX, Capability, Need, Offer, Party, Price, Reputation
from agentnexus.core.ports import Clock
from agentnexus.markets.x402.discover import read_json
from agentnexus.platform.logs import log

MARKET = "catalogue"
PAGE = 100
PAGES_MAX = 200
ANSWER_BYTES_MAX = 32 * 1024 * 1024  # a page of a hundred listings with their schemas
OFFER_LIFE = timedelta(hours=1)
Entry = Mapping[str, object]
UNREADABLE = (ValidationError, InvalidInput, KeyError, TypeError, ValueError, AttributeError)


async def read_offers(
    client: httpx.AsyncClient, api_url: str, need: Need, clock: Clock, assets: Mapping[str, Asset]
) -> AsyncIterator[Offer]:
    """Offers for the need, page by page. Raises `Unavailable` when the node does not answer as one."""
    cursor = ""
    for _ in range(PAGES_MAX):
        parameters: dict[str, str | int] = {"limit": PAGE, "sort": "popularity"}
        if need.capability:
            parameters["capability"] = need.capability
        if cursor:
            parameters["cursor"] = cursor
        # Bounded in pages and bytes: a node that never ends its list must not hold up the others.
        entries, cursor = await _page(client, f"{api_url}/api/v1/agents", parameters)
        for entry in entries:
            try:
                yield offer_of(entry, clock, assets)
            except UNREADABLE as error:
                log.info("discovery.dropped", source=MARKET, reason=str(error)[:200])
        if not cursor:
            return


async def _page(client: httpx.AsyncClient, url: str, parameters: Mapping[str, str | int]) -> tuple[list[Entry], str]:
    body = await read_json(client, url, parameters, ANSWER_BYTES_MAX)
    data, pages = (body.get("data"), body.get("pagination") or {}) if isinstance(body, Mapping) else (None, None)
    if not isinstance(data, list) or not isinstance(pages, Mapping):
        raise Unavailable(f"{url} did not answer as a catalogue")
    following = pages.get("nextCursor")
    return [entry for entry in data if isinstance(entry, Mapping)], following if isinstance(following, str) else ""


def offer_of(entry: Entry, clock: Clock, assets: Mapping[str, Asset]) -> Offer:
    """The offer in one entry. Raises one of `UNREADABLE` when it cannot be paid in an asset we know."""
    payment = _mapping(entry["x402"])
    rails, price = _payable(payment.get("accepts"), assets)
    developer, statistics = _mapping(entry.get("developer")), _mapping(entry.get("statistics"))
    endpoint = str(payment["resource"])
    payee = str(rails[0]["payTo"]).lower()
    now = clock.now()
    rating, ratings = statistics.get("rating"), statistics.get("ratings")
    return Offer(
        id=f"catalogue:{hashlib.sha256(endpoint.encode()).hexdigest()[:24]}",
        market=MARKET,
        seller=Party(ids={"evm": payee, "url": endpoint}, name=str(developer.get("name", ""))[:100]),
        capability=Capability(
            name=str(entry["capability"]),
            title=str(entry.get("name", ""))[:200],
            description=str(entry.get("summary", ""))[:2000],
            input_schema=dict(_mapping(entry.get("inputSchema"))),
            output_schema=dict(_mapping(entry.get("outputSchema"))),
            tags=tuple(str(tag) for tag in _list(entry.get("tags"))[:50]),
        ),
        title=str(entry.get("name", ""))[:200],
        description=str(entry.get("summary", ""))[:2000],
        price=Price(per_job=price),
        rails=rails,
        endpoint=endpoint,
        reputation=Reputation(
            score=float(rating) if isinstance(rating, int | float) else 0.0,
            count=_whole(ratings) or 0,
            source=MARKET,
        ),
        latency_ms=_whole(statistics.get("averageDurationMs")),
        success_rate=_share(statistics.get("successRate")),
        observed_at=now,
        expires_at=now + OFFER_LIFE,
        sources=(MARKET,),
        evidence={
            "agent": str(entry.get("id", "")),
            "code_hash": str(entry.get("codeHash", "")),
            "executions": endpoint.partition("/x402/")[0] + "/api/v1/executions",
        },
    )


def _payable(accepts: object, assets: Mapping[str, Asset]) -> tuple[tuple[dict[str, object], ...], Money]:
    rails: list[dict[str, object]] = []
    prices: list[Money] = []
    for accept in _list(accepts)[:32]:
        terms = _mapping(accept)
        asset = assets.get(f"{terms.get('network')}/erc20:{str(terms.get('asset', '')).lower()}")
        amount = str(terms.get("amount", ""))
        if asset is not None and amount.isdecimal() and len(amount) <= 78 and terms.get("payTo"):
            rails.append(dict(terms))
            prices.append(Money(asset, int(amount)))
    if not prices:
        raise ValueError("cannot be paid in an asset we know")
    return tuple(rails), min(prices, key=lambda money: money.decimal)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 <= value <= COUNT_MAX else None


def _share(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None
