"""HTTP of templates."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection

from agentnexus.workflows.model import FileRef
from agentnexus.workflows.routes import MILLISECONDS_MAX, Coin, Service, Who, created, money
from agentnexus.workflows.templates.service import Templates

router = APIRouter(tags=["templates"], prefix="/templates")


def templates(connection: HTTPConnection) -> Templates:
    """``app.state.desk`` is set in bootstrap."""
    found: Templates = connection.app.state.desk.templates
    return found


Kept = Annotated[Templates, Depends(templates)]


class SaveBody(BaseModel):
    """Which workflow's plan to keep, and under which name."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    workflow_id: str = Field(alias="workflowId", max_length=200)
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=2000)


class NameBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=2000)


class RunBody(BaseModel):
    """Inputs by parameter name (``s1.question``); files in the template's order; limits like those of a task."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    inputs: dict[str, object] = Field(default_factory=dict, max_length=500)
    files: list[FileRef] = Field(default_factory=list, max_length=100)
    max_cost: str | int | float | None = Field(default=None, alias="maxCost")
    max_time: int | None = Field(default=None, alias="maxTime", ge=1, le=MILLISECONDS_MAX)
    auto_approve: bool = Field(default=False, alias="autoApprove")
    grant: str = Field(default="", max_length=200, description="a signed approval to go ahead under: its id, or `any`")


@router.post("", status_code=201)
async def save(body: SaveBody, kept: Kept, who: Who) -> dict[str, object]:
    """Keep the plan of a workflow of yours."""
    made = await kept.save(who.user_id, body.workflow_id, body.name, body.description)
    return {"success": True, "template": made.to_json()}


@router.get("")
async def show_all(kept: Kept, who: Who) -> dict[str, object]:
    """Yours, newest first."""
    return {"success": True, "templates": [each.to_json() for each in await kept.list(who.user_id)]}


@router.get("/{template_id}")
async def show(template_id: str, kept: Kept, who: Who) -> dict[str, object]:
    """Its steps, and the inputs and files a run may replace."""
    return {"success": True, "template": (await kept.get(template_id, who.acts_for)).to_json()}


@router.patch("/{template_id}")
async def rename(template_id: str, body: NameBody, kept: Kept, who: Who) -> dict[str, object]:
    """Another name and description."""
    found = await kept.rename(template_id, who.acts_for, body.name, body.description)
    return {"success": True, "template": found.to_json()}


@router.delete("/{template_id}")
async def delete(template_id: str, kept: Kept, who: Who) -> dict[str, object]:
    """Forget it; what was run from it stays."""
    await kept.delete(template_id, who.acts_for)
    return {"success": True}


@router.post("/{template_id}/run", status_code=201)
async def run(
    template_id: str,
    body: RunBody,
    kept: Kept,
    who: Who,
    coin: Coin,
    *,
    workflows: Service,
    idempotency_key: Annotated[str, Header(max_length=200)] = "",
) -> dict[str, object]:
    """A workflow of the kept plan. The same `Idempotency-Key` gives the same workflow."""
    await workflows.require_files(who.acts_for, body.files)
    cost = None if body.max_cost is None else money(body.max_cost, coin)
    seconds = None if body.max_time is None else body.max_time / 1000
    workflow = await kept.run(
        template_id, who.user_id, body.inputs, body.files, max_cost=cost, max_seconds=seconds,
        auto_approve=body.auto_approve, grant=body.grant, key=idempotency_key,
    )  # fmt: skip
    return created(workflow)
