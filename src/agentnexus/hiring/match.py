"""Does this offer serve this need? Each rule answers with the reason for its no, in words a buyer can act on."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from agentnexus.core.money import Money
from agentnexus.core.offers import Constraints, Need, Offer
from agentnexus.hiring.model import Rates
from agentnexus.hiring.schemas import Schemas

ATTESTATION_LEVELS = {"none": 0, "signed": 1, "count-zk": 2, "commitment-zk": 3, "inference-zk": 4, "tee": 4}
INSECURE_SCHEMES = frozenset({"http", "ws"})
LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal")


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who is choosing: people they refuse or prefer, and what their wallets can pay with.

    Args:
        blocked, preferred: seller keys.
        networks: CAIP-2 networks with a funded wallet; `None` means any.
        allow_insecure: take plain-text endpoints outside this machine and its network.
        only: the address that alone may be hired from: this very offer, whoever else serves; empty means any.
    """

    blocked: frozenset[str] = frozenset()
    preferred: tuple[str, ...] = ()
    networks: frozenset[str] | None = None
    allow_insecure: bool = False
    only: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an offer is left out: `rule` is stable and short, `message` says it with the figures."""

    rule: str
    message: str


def refusals(need: Need, offer: Offer, seller: str, buyer: Buyer, now: datetime) -> Iterator[Refusal]:
    """Rules about who sells and where, cheapest first; schemas and prices have their own functions."""
    limits = need.constraints
    if seller in buyer.blocked or seller in limits.sellers_denied:
        yield Refusal("seller", f"{seller} is on the list of refused sellers")
    if limits.sellers_allowed and seller not in limits.sellers_allowed:
        yield Refusal("seller", f"{seller} is not among the allowed sellers")
    if buyer.only and offer.endpoint != buyer.only:
        yield Refusal("offer", f"sold at {offer.endpoint}, not at {buyer.only}")
    if limits.markets and offer.market not in limits.markets:
        yield Refusal("market", f"sold on {offer.market}, not on {', '.join(limits.markets)}")
    if offer.expires_at is not None and offer.expires_at <= now:
        yield Refusal("expired", f"the offer ended at {offer.expires_at.isoformat()}")
    yield from _network_refusals(limits, offer, buyer)
    yield from _quality_refusals(limits, offer)
    if not buyer.allow_insecure and _insecure(offer.endpoint):
        yield Refusal("insecure", f"{offer.endpoint} is neither encrypted nor local")


def _network_refusals(limits: Constraints, offer: Offer, buyer: Buyer) -> Iterator[Refusal]:
    networks = {str(rail["network"]) for rail in offer.rails if rail.get("network")}
    if not networks:
        return
    if limits.networks and not networks & set(limits.networks):
        yield Refusal("network", f"paid on {', '.join(sorted(networks))}, not on {', '.join(limits.networks)}")
    elif buyer.networks is not None and not networks & buyer.networks:
        yield Refusal("network", f"paid on {', '.join(sorted(networks))}, where no wallet of yours is set up")


def _quality_refusals(limits: Constraints, offer: Offer) -> Iterator[Refusal]:
    if limits.region and offer.region and offer.region != limits.region:
        yield Refusal("region", f"in {offer.region}, not in {limits.region}")
    if limits.model and limits.model not in offer.models:
        yield Refusal("model", f"does not run {limits.model}")
    if limits.min_attestation:
        has, wants = (ATTESTATION_LEVELS.get(level, 0) for level in (offer.attestation, limits.min_attestation))
        if has < wants:
            yield Refusal("attestation", f"attests {offer.attestation}, {limits.min_attestation} is asked")
    if limits.deadline_seconds and offer.latency_ms is not None and offer.latency_ms > limits.deadline_seconds * 1000:
        yield Refusal("deadline", f"takes about {offer.latency_ms / 1000:g} s of {limits.deadline_seconds:g} s")


def _insecure(endpoint: str) -> bool:
    parsed = urlsplit(endpoint)
    return parsed.scheme in INSECURE_SCHEMES and not is_local(parsed.hostname or "")


def is_local(host: str) -> bool:
    """Whether a host name or address stays on this machine or its own network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == LOCAL_NAMES[0] or host.endswith(LOCAL_NAMES[1:])
    return address.is_loopback or address.is_private or address.is_link_local


def price_refusal(need: Need, offer: Offer, rates: Rates, now: datetime) -> Refusal | None:
    """Against `max_price`: exact within one asset, in USD between assets."""
    limit = need.constraints.max_price
    if limit is None:
        return None
    price = offer.price.maximum
    if not too_dear(price, limit, rates, now):
        return None
    return Refusal("price", f"costs up to {price}, {limit} is the most allowed")


def too_dear(price: Money, limit: Money, rates: Rates, now: datetime) -> bool:
    """Exact within one asset, in USD between assets; what has no rate is too dear."""
    if price.asset.caip19 == limit.asset.caip19:
        return price > limit
    price_usd, limit_usd = rates.usd(price, now), rates.usd(limit, now)
    return price_usd is None or limit_usd is None or price_usd > limit_usd


def input_refusal(need: Need, offer: Offer, schemas: Schemas) -> Refusal | None:
    """The need's input against the offer's input schema; a need without input (a look around) fits."""
    if not need.input:
        return None
    problems = schemas.problems(offer.capability.input_schema, need.input)
    if not problems:
        return None
    return Refusal("input", "its input schema does not take this input: " + "; ".join(map(str, problems)))
