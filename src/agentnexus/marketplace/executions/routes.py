"""``/executions/{id}``, its logs, its live stream and its cancel button, below the prefix they are put at.

The id of an execution is not guessable: who has it may watch the run and end it. The work of a run that is sold is not
shown here: its buyer has it from the paid answer, and nobody has it before the payment.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from agentnexus.core.ports import Clock
from agentnexus.marketplace.envelope import envelope
from agentnexus.marketplace.executions.model import event_json
from agentnexus.marketplace.executions.service import Executions
from agentnexus.marketplace.streaming import position, streamed

After = Annotated[int, Query(ge=0, le=2**31 - 1)]


def execution_routes(executions: Executions, clock: Clock) -> APIRouter:
    """The router."""
    router = APIRouter(tags=["executions"])

    @router.get("/executions/{execution_id}")
    async def execution(execution_id: str) -> dict[str, object]:
        """State, result or error, figures."""
        return envelope((await executions.get(execution_id)).to_json(), clock)

    @router.get("/executions/{execution_id}/logs")
    async def logs(execution_id: str, after: After = 0) -> dict[str, object]:
        """What the agent said, in order."""
        is_sold = (await executions.get(execution_id)).is_sold
        said = await executions.logs(execution_id, after)
        return envelope([event_json(event, is_sold=is_sold) for event in said], clock)

    @router.post("/executions/{execution_id}/cancel")
    async def cancel(execution_id: str) -> dict[str, object]:
        """Ask for its end; a finished one stays as it is."""
        return envelope((await executions.cancel(execution_id)).to_json(), clock)

    @router.get("/executions/{execution_id}/stream", response_class=StreamingResponse)
    async def stream(
        execution_id: str, after: After = 0, last_event_id: Annotated[str | None, Header()] = None
    ) -> StreamingResponse:
        """Every event as server-sent events, from `after` or ``Last-Event-ID`` on, until the run ends."""
        is_sold = (await executions.get(execution_id)).is_sold
        return streamed(executions.events(execution_id, position(after, last_event_id)), is_sold=is_sold)

    return router
