"""`WebhooksDoor` over the webhooks of the workflow room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from agentnexus.core.errors import InvalidInput
from agentnexus.web.views.runs import State
from agentnexus.web.views.webhooks import DeliveryView, TrialView, WebhookView
from agentnexus.workflows.webhooks.model import Delivery, Signature, Webhook
from agentnexus.workflows.webhooks.service import Webhooks

SHOWN: Final = 50
STATES: Final = {
    "delivered": State("delivered", "Delivered", "done"),
    "waiting": State("waiting", "Waiting", "wait"),
    "failed": State("failed", "Given up", "fail"),
}
ON, OFF = State("on", "On", "done"), State("off", "Off", "wait")


class HouseWebhooks:
    """`trial` sends one test message to an address: its status (None without an answer) and the answer."""

    def __init__(self, webhooks: Webhooks, trial: Callable[[Webhook], Awaitable[tuple[int | None, str]]]) -> None:
        self._webhooks = webhooks
        self._trial = trial

    async def all(self, user_id: str) -> Sequence[WebhookView]:
        """Newest first, each with its last delivery."""
        found = []
        for webhook in await self._webhooks.list(user_id):
            last = await self._webhooks.log(webhook.id, user_id, "", 1)
            found.append(_view(webhook, _delivery(last[0]) if last else None))
        return found

    async def one(self, user_id: str, webhook_id: str, state: str = "") -> tuple[WebhookView, Sequence[DeliveryView]]:
        """With its last deliveries, perhaps those in one state. Raises `NotFound`."""
        webhook = await self._webhooks.get(webhook_id, user_id)
        log = await self._webhooks.log(webhook_id, user_id, state if state in STATES else "", SHOWN)
        return _view(webhook), [_delivery(each) for each in log]

    async def create(self, user_id: str, url: str, events: Sequence[str], signature: str) -> WebhookView:
        """With its secret, which nothing shows again. Raises `InvalidInput`, `Conflict` for too many."""
        if signature not in set(Signature):
            raise InvalidInput("that is no way to sign", field="signature", next_step="choose one from the list")
        return _view(await self._webhooks.create(user_id, url, events, Signature(signature)), with_secret=True)

    async def switch(self, user_id: str, webhook_id: str, *, enabled: bool) -> None:
        """Raises `NotFound`."""
        await self._webhooks.switch(webhook_id, user_id, enabled=enabled)

    async def rotate(self, user_id: str, webhook_id: str) -> WebhookView:
        """With its new secret. Raises `NotFound`, `Conflict` for one without."""
        return _view(await self._webhooks.rotate(webhook_id, user_id), with_secret=True)

    async def delete(self, user_id: str, webhook_id: str) -> None:
        """Raises `NotFound`."""
        await self._webhooks.delete(webhook_id, user_id)

    async def again(self, user_id: str, webhook_id: str, run_id: str, sequence: int) -> None:
        """Raises `NotFound`."""
        await self._webhooks.again(webhook_id, user_id, run_id, sequence)

    async def test(self, user_id: str, webhook_id: str) -> TrialView:
        """Raises `NotFound`; an address that does not answer is no error here, but what was found out."""
        return TrialView(*await self._trial(await self._webhooks.get(webhook_id, user_id)))


def _view(webhook: Webhook, last: DeliveryView | None = None, *, with_secret: bool = False) -> WebhookView:
    return WebhookView(
        id=webhook.id, url=webhook.url, events=webhook.events, signature=webhook.signature.value,
        state=ON if webhook.enabled else OFF, enabled=webhook.enabled, reason=webhook.reason,
        created_at=webhook.created_at, secret=webhook.secret if with_secret else "", last=last,
    )  # fmt: skip


def _delivery(delivery: Delivery) -> DeliveryView:
    state = STATES.get(delivery.state) or State.of(delivery.state)
    waits = delivery.state == "waiting" and delivery.attempts > 0
    return DeliveryView(
        run_id=delivery.run_id, sequence=delivery.sequence, event=delivery.name,
        state=State("retrying", "Trying again", "wait") if waits else state, attempts=delivery.attempts,
        status=delivery.status, answer=delivery.answer, at=delivery.delivered_at or delivery.created_at,
        next_at=delivery.next_at if waits else None,
    )  # fmt: skip
