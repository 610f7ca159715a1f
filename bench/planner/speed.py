"""How long planning takes, fresh and from the cache, beside 500 other offers; the search in the markets not counted."""

from __future__ import annotations

import time
from collections.abc import Sequence

from agentnexus.core.offers import Offer
from agentnexus.workflows.model import WorkflowRequest
from agentnexus.workflows.planner.offline import OfflinePlanner
from agentnexus.workflows.planning import Planning
from bench.planner.catalogue import USDC, agent_offers
from bench.planner.corpus import Case
from bench.planner.shelf import Shelf

OTHERS = 500
ROUNDS = 20


def crowd() -> list[Offer]:
    """The agents, and offers of 50 capabilities that no task of the corpus means, ten sellers each."""
    agents = agent_offers()
    others = []
    for number in range(OTHERS):
        like = agents[number % len(agents)]
        kind = number // 10
        capability = like.capability.model_copy(
            update={"name": f"xylo.phone{kind}", "title": f"Xylophone {kind}", "description": "tunes", "tags": ()}
        )
        others.append(like.model_copy(update={"id": f"other:{number}", "capability": capability}))
    return [*agents, *others]


def request_of(case: Case) -> WorkflowRequest:
    return WorkflowRequest(
        user_id="bench", text=case.task.text, files=case.task.files, max_cost=USDC.parse("100"), auto_approve=True
    )


def figures(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds: median, 95th percentile, longest."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    shares = {"p50_ms": 0.5, "p95_ms": 0.95, "max_ms": 1.0}
    return {name: round(ordered[round(last * share)] * 1000, 3) for name, share in shares.items()}


async def speed(cases: Sequence[Case]) -> dict[str, object]:
    """``{offers, fresh, cached}`` over all cases that have a plan; each figure includes checks and estimate."""
    planning = Planning(Shelf(crowd()), [OfflinePlanner()])
    requests = [request_of(case) for case in cases if case.refused is None]
    await Planning(Shelf(crowd()), [OfflinePlanner()]).plan(requests[0])
    fresh = [await timed(planning, request) for request in requests]
    cached = [await timed(planning, request) for _ in range(ROUNDS) for request in requests]
    return {"offers": len(crowd()), "fresh": figures(fresh), "cached": figures(cached)}


async def timed(planning: Planning, request: WorkflowRequest) -> float:
    started = time.perf_counter()
    await planning.plan(request)
    return time.perf_counter() - started
