"""Offers of every market side by side, and how this node is."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentnexus.core.errors import NexusError
from agentnexus.web.pages import doors_of
from agentnexus.web.rendering import page
from agentnexus.web.views.market import OfferView
from agentnexus.web.views.problems import problem_of


async def economy(request: Request) -> Response:
    """GET /economy?need=: a market that does not answer is a notice, never a broken page."""
    doors = doors_of(request)
    need = request.query_params.get("need", "").strip()[:200]
    offers: Sequence[OfferView] = ()
    problem = None
    try:
        offers = await doors.economy.offers(need)
    except NexusError as error:
        problem = problem_of(error)
    return page(
        request, "pages/economy.html", need=need, offers=offers, problem=problem,
        markets=await doors.economy.markets(), figures=await doors.economy.figures(),
    )  # fmt: skip


routes = [Route("/economy", economy)]
