"""Approval without asking: a plan goes ahead when a signed grant of its owner allows every payment in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from agentnexus.core.canonical import Json
from agentnexus.core.errors import NotFound
from agentnexus.ledger.approvals import Approval, Charge
from agentnexus.workflows.engine.port import Retry, Run, StepContext
from agentnexus.workflows.model import Plan, WorkflowRequest

ASKING = Retry(attempts=4, first_delay_seconds=0.5, longest_delay_seconds=5)


class Approvals(Protocol):
    """`ledger.Grants` fits it."""

    async def choose(self, owner: str, wanted: str, charges: Sequence[Charge]) -> Approval:
        """`wanted` is a grant's id, or ``any``."""


def charges_of(plan: Plan) -> list[Charge]:
    """What the plan would pay, step by step; what is done here costs nothing and is asked of no approval."""
    return [
        Charge(step.capability, step.offer.seller, step.offer.price)
        if step.offer is not None
        else Charge(step.capability, "", None)
        for step in plan.steps
        if not step.local
    ]


async def granted(run: Run, approvals: Approvals | None, request: WorkflowRequest, plan: Plan) -> Approval:
    """The grant to spend under, or why a person has to be asked. Journalled: asked once, however often it runs."""
    if not request.grant:
        return Approval("")
    if approvals is None:
        return Approval("", "this node takes no signed approvals")

    async def function(_context: StepContext) -> Json:
        try:
            found = await approvals.choose(request.user_id, request.grant, charges_of(plan))
        except NotFound as error:
            found = Approval("", error.message)
        return {"grant": found.grant_id, "objection": found.objection}

    answer = await run.step("grant", function, retry=ASKING)
    assert isinstance(answer, Mapping)
    return Approval(str(answer["grant"]), str(answer["objection"]))
