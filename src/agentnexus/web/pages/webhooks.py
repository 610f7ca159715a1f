"""Addresses that are told of events: the list with a form for a new one, and each with its deliveries."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from agentnexus.core.errors import NexusError
from agentnexus.web.pages import doors_of
from agentnexus.web.pages.uploads import posted, text_of
from agentnexus.web.rendering import page
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.webhooks import EVENTS, FILTERS, SIGNATURES, TrialView, WebhookView

USUAL = tuple(name for name, _, usual in EVENTS if usual)


async def index(request: Request) -> Response:
    """GET /saved/webhooks"""
    return await _index(request, {"url": "", "events": USUAL, "signature": ""})


async def _index(request: Request, typed: dict[str, object], error: NexusError | None = None) -> Response:
    doors = doors_of(request)
    found = await doors.webhooks.all(await doors.user(request))
    field = str(error.details.get("field", "")) if error is not None else ""
    return page(
        request, "pages/webhooks.html", status=error.http_status if error else 200, webhooks=found, typed=typed,
        problem=problem_of(error), events=EVENTS, signatures=SIGNATURES, field=field,
    )  # fmt: skip


async def create(request: Request) -> Response:
    """POST /saved/webhooks: the answer shows the secret, this once."""
    doors, data = doors_of(request), await posted(request)
    events = [name for name, _, _ in EVENTS if name in data.get("events", ())]
    typed: dict[str, object] = {"url": "", "events": events, "signature": ""}
    try:
        typed["url"], typed["signature"] = text_of(data, "url", limit=2000), text_of(data, "signature", limit=20)
        made = await doors.webhooks.create(
            await doors.user(request), str(typed["url"]), events, str(typed["signature"])
        )
    except NexusError as error:
        return await _index(request, typed, error)
    if not made.has_secret:
        return RedirectResponse(f"/saved/webhooks/{made.id}", 303)
    return await _show(request, made.id, fresh=made)


async def show(request: Request) -> Response:
    """GET /saved/webhooks/{webhook_id}?state="""
    return await _show(request, request.path_params["webhook_id"])


async def _show(
    request: Request, webhook_id: str, *, fresh: WebhookView | None = None, trial: TrialView | None = None
) -> Response:
    """`fresh` carries a secret to show; `trial` is how the address answered just now."""
    doors = doors_of(request)
    state = request.query_params.get("state", "")
    chosen = state if state in dict(FILTERS) else ""
    webhook, log = await doors.webhooks.one(await doors.user(request), webhook_id, chosen)
    return page(
        request, "pages/webhook.html", webhook=webhook, log=log, secret=fresh.secret if fresh else "", trial=trial,
        state=chosen, filters=FILTERS, names={name: text for name, text, _ in EVENTS},
    )  # fmt: skip


async def test(request: Request) -> Response:
    """POST /saved/webhooks/{webhook_id}/test: one message now, and how it was answered."""
    doors, webhook_id = doors_of(request), request.path_params["webhook_id"]
    return await _show(request, webhook_id, trial=await doors.webhooks.test(await doors.user(request), webhook_id))


async def rotate(request: Request) -> Response:
    """POST /saved/webhooks/{webhook_id}/secret: another one, shown this once."""
    doors, webhook_id = doors_of(request), request.path_params["webhook_id"]
    return await _show(request, webhook_id, fresh=await doors.webhooks.rotate(await doors.user(request), webhook_id))


async def pause(request: Request) -> Response:
    """POST /saved/webhooks/{webhook_id}/pause"""
    return await _switched(request, enabled=False)


async def resume(request: Request) -> Response:
    """POST /saved/webhooks/{webhook_id}/resume"""
    return await _switched(request, enabled=True)


async def _switched(request: Request, *, enabled: bool) -> Response:
    doors, webhook_id = doors_of(request), request.path_params["webhook_id"]
    await doors.webhooks.switch(await doors.user(request), webhook_id, enabled=enabled)
    return RedirectResponse(f"/saved/webhooks/{webhook_id}", 303)


async def again(request: Request) -> Response:
    """POST /saved/webhooks/{webhook_id}/deliveries/{run_id}/{sequence}: deliver it once more."""
    doors, where = doors_of(request), request.path_params
    await doors.webhooks.again(await doors.user(request), where["webhook_id"], where["run_id"], where["sequence"])
    return RedirectResponse(f"/saved/webhooks/{where['webhook_id']}#deliveries", 303)


async def delete(request: Request) -> Response:
    """POST /saved/webhooks/{webhook_id}/delete: its log goes with it."""
    doors = doors_of(request)
    await doors.webhooks.delete(await doors.user(request), request.path_params["webhook_id"])
    return RedirectResponse("/saved/webhooks", 303)


routes = [
    Route("/saved/webhooks", index, methods=["GET"]),
    Route("/saved/webhooks", create, methods=["POST"]),
    Route("/saved/webhooks/{webhook_id}", show, methods=["GET"]),
    Route("/saved/webhooks/{webhook_id}/test", test, methods=["POST"]),
    Route("/saved/webhooks/{webhook_id}/secret", rotate, methods=["POST"]),
    Route("/saved/webhooks/{webhook_id}/pause", pause, methods=["POST"]),
    Route("/saved/webhooks/{webhook_id}/resume", resume, methods=["POST"]),
    Route("/saved/webhooks/{webhook_id}/delete", delete, methods=["POST"]),
    Route("/saved/webhooks/{webhook_id}/deliveries/{run_id}/{sequence:int}", again, methods=["POST"]),
]
