"""`@paid(...)` on an endpoint, and `priced_routes(app.routes)` that turns the marks into routes for the middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from x402.schemas import PaymentRequirements

from agentnexus.markets.x402.pricing import PricedRoute, PriceFunction

MARK = "__x402_route__"
F = TypeVar("F", bound=Callable[..., object])


def paid(
    price: PaymentRequirements | Sequence[PaymentRequirements] | PriceFunction,
    *,
    description: str = "",
    mime_type: str = "application/json",
    extensions: Mapping[str, object] | None = None,
    streaming: bool = False,
    identifier_required: bool = False,
) -> Callable[[F], F]:
    """Mark a Starlette or FastAPI endpoint as priced; the arguments are those of `PricedRoute`."""
    route = PricedRoute(
        pattern="",
        price=(price,) if isinstance(price, PaymentRequirements) else price,
        description=description,
        mime_type=mime_type,
        extensions=extensions or {},
        streaming=streaming,
        identifier_required=identifier_required,
    )

    def mark(endpoint: F) -> F:
        setattr(endpoint, MARK, route)
        return endpoint

    return mark


def priced_routes(routes: Iterable[object], prefix: str = "") -> list[PricedRoute]:
    """The priced routes among an app's `routes`; mounted apps are searched too."""
    found: list[PricedRoute] = []
    for route in routes:
        path = prefix + str(getattr(route, "path", ""))
        marked = getattr(getattr(route, "endpoint", None), MARK, None)
        if isinstance(marked, PricedRoute):
            verbs = sorted(getattr(route, "methods", None) or [""])
            found += [replace(marked, pattern=f"{verb} {path}".strip()) for verb in verbs]
        found += priced_routes(getattr(route, "routes", None) or (), path)
    return found
