"""Saved plans, schedules and webhooks over sample data, in every state that their pages draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.web.forms import Upload
from agentnexus.web.views.rhythms import RhythmForm
from agentnexus.web.views.runs import Problem, State
from agentnexus.web.views.saved import SavedField, SavedPlan
from agentnexus.web.views.schedules import FiringView, ScheduleTyped, ScheduleView
from agentnexus.web.views.webhooks import DeliveryView, TrialView, WebhookView

NOW = datetime.now(UTC)
LONG_URL = "https://hooks.example.com/" + "a-very-long-path-segment/" * 8 + "end?token=<b>x</b>"


class PreviewSaved:
    def __init__(self) -> None:
        field = SavedField("s2.question", "Analyse the figures: question", "What is the sum?")
        monthly = ("tpl_1", "Monthly figures", "Analyse sales.csv", "0.50 USDC")
        self.plans = [SavedPlan(*monthly, steps=["Analyse"], fields=[field], files=["sales.csv"])]
        self.ran: list[tuple[str, dict[str, str], int]] = []

    async def all(self, user_id: str) -> Sequence[SavedPlan]:
        return self.plans

    async def save(self, user_id: str, run_id: str, name: str) -> None:
        if not name:
            raise InvalidInput("a name has 1 to 200 characters", next_step="give it a short name")
        self.plans.append(SavedPlan(f"tpl_{run_id}", name, "A task", "0.50 USDC", ["One"], [], []))

    async def run(self, user_id: str, saved_id: str, values: Mapping[str, str], files: Sequence[Upload]) -> str:
        self.ran.append((saved_id, dict(values), len(files)))
        return "wf_planning"

    async def delete(self, user_id: str, saved_id: str) -> None:
        self.plans = [each for each in self.plans if each.id != saved_id]


FIRINGS = (
    FiringView(NOW - timedelta(hours=3), State.of("completed"), "wf_completed", "0.03 USDC"),
    FiringView(
        NOW - timedelta(days=1), State.of("failed"), "wf_failed", problem=Problem("Nobody sells it.", "Try later.")
    ),
    FiringView(NOW - timedelta(days=2), State("skipped", "Left out", "")),
)


def _schedules() -> list[ScheduleView]:
    daily = ScheduleView(
        id="sch_1", name="Morning figures", task="Analyse sales.csv and say what changed since yesterday.",
        saved_id="", rhythm=RhythmForm(), timezone="Europe/Berlin", missed="once", limit="0.50 USDC", asks=False,
        state=State("on", "On", "done"), paused=False, next_at=NOW + timedelta(hours=14),
        next_text="Sun 22 Nov 2026, 09:00", files=("sales.csv",), last=FIRINGS[0],
    )  # fmt: skip
    paused = replace(
        daily, id="sch_2", name="Paused <script>", rhythm=RhythmForm("cron", cron="*/7 3 * 2 *"), paused=True,
        state=State("paused", "Paused", "wait"), next_at=None, last=FIRINGS[1], asks=True, task="word " * 300,
    )  # fmt: skip
    return [daily, paused]


class PreviewSchedules:
    def __init__(self) -> None:
        self.schedules = {each.id: each for each in _schedules()}
        self.created: list[tuple[ScheduleTyped, int]] = []

    async def all(self, user_id: str) -> Sequence[ScheduleView]:
        return list(self.schedules.values())

    def _one(self, schedule_id: str) -> ScheduleView:
        if schedule_id not in self.schedules:
            raise NotFound("there is no such schedule", next_step="list your schedules")
        return self.schedules[schedule_id]

    async def one(self, user_id: str, schedule_id: str) -> tuple[ScheduleView, Sequence[FiringView]]:
        return self._one(schedule_id), FIRINGS if schedule_id == "sch_1" else ()

    async def create(self, user_id: str, typed: ScheduleTyped, files: Sequence[Upload]) -> str:
        if not typed.text and not typed.saved_id:
            raise InvalidInput("a schedule runs a task or a plan", field="input", next_step="give one of the two")
        assert typed.rhythm.expression
        self.created.append((typed, len(files)))
        return "sch_1"

    async def change(self, user_id: str, schedule_id: str, typed: ScheduleTyped) -> None:
        assert typed.rhythm.expression
        self.schedules[schedule_id] = replace(self._one(schedule_id), name=typed.name, rhythm=typed.rhythm)

    async def pause(self, user_id: str, schedule_id: str, *, paused: bool) -> None:
        self.schedules[schedule_id] = replace(self._one(schedule_id), paused=paused)

    async def delete(self, user_id: str, schedule_id: str) -> None:
        del self.schedules[self._one(schedule_id).id]


def _deliveries() -> list[DeliveryView]:
    done = DeliveryView(
        "wf_completed", 9, "workflow.completed", State("delivered", "Delivered", "done"), 1, 200, "thanks", NOW
    )
    return [
        done,
        replace(
            done, sequence=4, event="workflow.failed", state=State("retrying", "Trying again", "wait"), attempts=3,
            status=503, answer="<h1>busy</h1>" * 20, next_at=NOW + timedelta(hours=2),
        ),
        replace(done, sequence=3, state=State("failed", "Given up", "fail"), status=None, answer="no answer in 10 s"),
        replace(done, sequence=2, state=State("waiting", "Waiting", "wait"), status=None, answer="", attempts=0),
    ]  # fmt: skip


def _webhooks() -> list[WebhookView]:
    on, off = State("on", "On", "done"), State("off", "Off", "wait")
    (last, *_) = _deliveries()
    usual = ("workflow.completed", "workflow.failed")
    return [
        WebhookView("whk_1", "https://example.com/nexus", usual, "hmac-sha256", on, True, "", NOW, last=last),
        WebhookView("whk_2", LONG_URL, ("*",), "ed25519", off, False, "it answered that it is gone", NOW),
    ]


class PreviewWebhooks:
    def __init__(self) -> None:
        self.webhooks = {each.id: each for each in _webhooks()}
        self.answer = TrialView(200, "thanks")
        self.repeated: list[tuple[str, int]] = []

    async def all(self, user_id: str) -> Sequence[WebhookView]:
        return list(self.webhooks.values())

    def _one(self, webhook_id: str) -> WebhookView:
        if webhook_id not in self.webhooks:
            raise NotFound("there is no such webhook", next_step="list your webhooks")
        return self.webhooks[webhook_id]

    async def one(self, user_id: str, webhook_id: str, state: str) -> tuple[WebhookView, Sequence[DeliveryView]]:
        shown = [each for each in _deliveries() if state in ("", each.state.name)]
        return self._one(webhook_id), shown if webhook_id == "whk_1" else ()

    async def create(self, user_id: str, url: str, events: Sequence[str], signature: str) -> WebhookView:
        if not url.startswith("https://"):
            raise InvalidInput("the address must begin with https://", field="url", next_step="give another")
        on = State("on", "On", "done")
        self.webhooks["whk_3"] = WebhookView("whk_3", url, tuple(events), signature, on, True, "", NOW)
        return replace(self.webhooks["whk_3"], secret="whsec_c2VjcmV0")

    async def switch(self, user_id: str, webhook_id: str, *, enabled: bool) -> None:
        self.webhooks[webhook_id] = replace(self._one(webhook_id), enabled=enabled, reason="switched off")

    async def rotate(self, user_id: str, webhook_id: str) -> WebhookView:
        return replace(self._one(webhook_id), secret="whsec_YW5vdGhlcg")

    async def delete(self, user_id: str, webhook_id: str) -> None:
        del self.webhooks[self._one(webhook_id).id]

    async def again(self, user_id: str, webhook_id: str, run_id: str, sequence: int) -> None:
        self._one(webhook_id)
        self.repeated.append((run_id, sequence))

    async def test(self, user_id: str, webhook_id: str) -> TrialView:
        self._one(webhook_id)
        return self.answer
