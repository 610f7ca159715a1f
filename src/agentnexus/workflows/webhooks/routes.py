"""HTTP of webhooks."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection

from agentnexus.workflows.routes import Who
from agentnexus.workflows.webhooks.model import URL_MAX, Signature
from agentnexus.workflows.webhooks.service import Webhooks

router = APIRouter(tags=["webhooks"], prefix="/webhooks")


def webhooks(connection: HTTPConnection) -> Webhooks:
    """``app.state.desk`` is set in bootstrap."""
    found: Webhooks = connection.app.state.desk.webhooks
    return found


Kept = Annotated[Webhooks, Depends(webhooks)]


class WebhookBody(BaseModel):
    """Where to send which events: names, groups (``step.*``) or ``*``."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=URL_MAX)
    events: list[str] = Field(default=["workflow.*"], min_length=1, max_length=100)
    signature: Signature = Signature.HMAC


@router.post("", status_code=201)
async def create(body: WebhookBody, kept: Kept, who: Who) -> dict[str, object]:
    """The answer has the secret to check signatures with; it is shown this once."""
    made = await kept.create(who.user_id, body.url, body.events, body.signature)
    return {"success": True, "webhook": made.to_json(with_secret=True)}


@router.get("")
async def show_all(kept: Kept, who: Who) -> dict[str, object]:
    """Yours, newest first."""
    return {"success": True, "webhooks": [each.to_json() for each in await kept.list(who.user_id)]}


@router.get("/{webhook_id}")
async def show(webhook_id: str, kept: Kept, who: Who) -> dict[str, object]:
    """Without its secret."""
    return {"success": True, "webhook": (await kept.get(webhook_id, who.acts_for)).to_json()}


@router.get("/{webhook_id}/deliveries")
async def deliveries(
    webhook_id: str,
    kept: Kept,
    who: Who,
    state: Literal["", "waiting", "delivered", "failed"] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, object]:
    """What was sent, how it was answered, what is tried again when."""
    found = await kept.log(webhook_id, who.acts_for, state, limit)
    return {"success": True, "deliveries": [each.to_json() for each in found]}


@router.post("/{webhook_id}/deliveries/{run_id}/{sequence}/again")
async def again(webhook_id: str, run_id: str, sequence: int, kept: Kept, who: Who) -> dict[str, object]:
    """Deliver it once more."""
    await kept.again(webhook_id, who.acts_for, run_id, sequence)
    return {"success": True}


@router.post("/{webhook_id}/enable")
async def enable(webhook_id: str, kept: Kept, who: Who) -> dict[str, object]:
    """Send again; what waits goes out."""
    return {"success": True, "webhook": (await kept.switch(webhook_id, who.acts_for, enabled=True)).to_json()}


@router.post("/{webhook_id}/disable")
async def disable(webhook_id: str, kept: Kept, who: Who) -> dict[str, object]:
    """Send nothing."""
    return {"success": True, "webhook": (await kept.switch(webhook_id, who.acts_for, enabled=False)).to_json()}


@router.post("/{webhook_id}/rotate")
async def rotate(webhook_id: str, kept: Kept, who: Who) -> dict[str, object]:
    """Another secret, shown this once."""
    return {"success": True, "webhook": (await kept.rotate(webhook_id, who.acts_for)).to_json(with_secret=True)}


@router.delete("/{webhook_id}")
async def delete(webhook_id: str, kept: Kept, who: Who) -> dict[str, object]:
    """Forget it, and its log."""
    await kept.delete(webhook_id, who.acts_for)
    return {"success": True}
