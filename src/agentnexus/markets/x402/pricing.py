"""What a route costs and how a 402 says so: patterns, static and dynamic prices, answers for v2 and v1 at once."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from x402.schemas import PaymentRequired, PaymentRequirements, ResourceInfo
from x402.schemas.v1 import PaymentRequiredV1

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Money
from agentnexus.markets.x402.wire import (
    MAX_HEADER_BYTES,
    PAYMENT_IDENTIFIER,
    Resource,
    encode_header,
    to_json,
    to_v1,
)
from agentnexus.platform.logs import log
from agentnexus.rails.evm.encoding import address, checksum_address

MIB = 1024 * 1024
MAX_DEMAND_CHARACTERS = MAX_HEADER_BYTES * 3 // 4  # in base64: leaves room for the payment that comes back with it
PARAMETER = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)(?::([a-zA-Z_][a-zA-Z0-9_]*))?\}|(\*)")
WITHIN_SEGMENT = frozenset({None, "str", "int", "float", "uuid"})  # any other converter may match slashes
IDENTIFIER_SCHEMA: dict[str, object] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "required": {"type": "boolean"},
        "id": {"type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[a-zA-Z0-9_-]+$"},
    },
    "required": ["required"],
}


@dataclass(frozen=True, slots=True)
class PricedRequest:
    """What a dynamic price may look at: the request with its whole body."""

    method: str
    path: str
    parameters: Mapping[str, str]
    query: str
    headers: Mapping[str, str]  # lower-case names
    body: bytes

    def json(self) -> object:
        """The body as JSON; raises `InvalidInput`."""
        try:
            value: object = json.loads(self.body)
        except ValueError as error:
            raise InvalidInput(f"the request body is not JSON: {error}", field="body") from error
        return value


Accepts: TypeAlias = Sequence[PaymentRequirements]
PriceFunction: TypeAlias = Callable[[PricedRequest], Awaitable[Accepts]]
Price: TypeAlias = Accepts | PriceFunction


def exact(
    price: Money, pay_to: str, *, domain_name: str, domain_version: str, timeout_seconds: int = 60
) -> PaymentRequirements:
    """An `exact` requirement by EIP-3009. The domain is the asset contract's EIP-712 name and version.

    Addresses get their checksums: official clients copy them, and official facilitators refuse any other form.
    """
    if price.atomic <= 0:
        raise InvalidInput(f"a price must be more than nothing, not {price}", field="price")
    return PaymentRequirements(
        scheme="exact",
        network=price.asset.network,
        asset=checksum_address(address(price.asset.reference, field="asset")),
        amount=str(price.atomic),
        pay_to=checksum_address(address(pay_to, field="pay_to")),
        max_timeout_seconds=timeout_seconds,
        extra={"name": domain_name, "version": domain_version},
    )


@dataclass(frozen=True)
class PricedRoute:
    """A route that costs money.

    Args:
        pattern: ``"POST /agents/{name}"``; ``{x}`` and ``{x:int}`` are one segment, ``{x:path}`` and ``*`` any rest.
            No verb: all verbs.
        price: requirements, any one of which pays, or a coroutine of the request that returns them (none: free).
        streaming: pass the answer on while it is made; it is settled before its first byte.
        identifier_required: refuse payments without a payment-identifier (v2 only).
        extensions: further v2 extensions to declare, e.g. ``bazaar``.
    """

    pattern: str
    price: Price
    description: str = ""
    mime_type: str = "application/json"
    output_schema: dict[str, object] | None = None
    extensions: Mapping[str, object] = field(default_factory=dict)
    streaming: bool = False
    identifier_required: bool = False
    max_request_bytes: int = 32 * MIB
    max_response_bytes: int = 16 * MIB

    def __post_init__(self) -> None:
        if not callable(self.price) and not self.price:
            raise InvalidInput(f"{self.pattern}: a static price needs at least one requirement", field="price")

    @cached_property
    def _compiled(self) -> tuple[frozenset[str], re.Pattern[str]]:
        verb, _, path = self.pattern.rpartition(" ")
        # A GET route answers HEAD too, and its handler works just as hard.
        verbs = {"GET": {"GET", "HEAD"}}.get(verb.upper(), {verb.upper()} if verb else set())
        expression, position = "", 0
        for match in PARAMETER.finditer(path):
            expression += re.escape(path[position : match.start()])
            name, converter, _star = match.groups()
            # A converter of the router narrows what it takes; the gate takes at least as much, or work would be free.
            expression += ".*" if name is None else f"(?P<{name}>{'[^/]+' if converter in WITHIN_SEGMENT else '.*'})"
            position = match.end()
        # `$` and not `\Z`: routers built on re match a path that ends in a line feed, so the gate must as well.
        return frozenset(verbs), re.compile(f"^{expression}{re.escape(path[position:])}$", re.DOTALL)

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """Path parameters when this route is meant, else None."""
        verbs, expression = self._compiled
        if verbs and method not in verbs:
            return None
        found = expression.match(path)
        return found.groupdict() if found else None

    def declared_extensions(self) -> dict[str, object]:
        """Extensions of the 402: ours (payment-identifier) and the route's own."""
        identifier = {"info": {"required": self.identifier_required}, "schema": IDENTIFIER_SCHEMA}
        return {PAYMENT_IDENTIFIER: identifier, **self.extensions}


@dataclass(frozen=True, slots=True)
class Demand:
    """A 402 ready to send: the v2 header and the v1 body."""

    header: bytes
    body: bytes


def demand(route: PricedRoute, accepts: Accepts, url: str, error: str) -> Demand:
    """A 402 that a v2 client reads from its header and a v1 client from its body."""
    resource = Resource(url, route.description, route.mime_type, route.output_schema)
    v2 = PaymentRequired(
        error=error,
        resource=ResourceInfo(url=url, description=route.description or None, mime_type=route.mime_type),
        accepts=list(accepts),
        extensions=route.declared_extensions(),
    )
    header = encode_header(v2)
    if len(header) > MAX_DEMAND_CHARACTERS:
        # Clients send the extensions back: too large ones would make every payment unreadable, so they stay away.
        log.warning("x402.extensions_left_out", route=route.pattern, characters=len(header))
        own = {PAYMENT_IDENTIFIER: route.declared_extensions()[PAYMENT_IDENTIFIER]}
        header = encode_header(v2.model_copy(update={"extensions": own}))
    v1 = PaymentRequiredV1(error=error, accepts=[to_v1(requirement, resource) for requirement in accepts])
    return Demand(header.encode("ascii"), json.dumps(to_json(v1), separators=(",", ":")).encode())


class DemandCache:
    """Static 402s by route and URL, so that an unpaid request costs a dictionary look-up; bounded."""

    def __init__(self, limit: int = 2048) -> None:
        self._limit = limit
        self._demands: OrderedDict[tuple[int, str], Demand] = OrderedDict()

    def get(self, route: PricedRoute, accepts: Accepts, url: str) -> Demand:
        """The 402 for `accepts`, which must be the route's static price."""
        key = (id(route), url)
        found = self._demands.get(key)
        if found is None:
            found = self._demands[key] = demand(route, accepts, url, "payment required")
            if len(self._demands) > self._limit:
                self._demands.popitem(last=False)
        return found
