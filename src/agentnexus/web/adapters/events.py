"""Events of a workflow → log lines that people read, and how far each step is."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from agentnexus.core.events import Event, EventName
from agentnexus.core.money import Asset, Money
from agentnexus.web.views.runs import LogLine
from agentnexus.web.views.text import money

MAX_LINES: Final = 300
TEXTS: Final = {
    EventName.WORKFLOW_PLANNING: ("Making a plan", ""),
    EventName.WORKFLOW_PLAN_READY: ("The plan is ready", ""),
    EventName.WORKFLOW_AWAITING_APPROVAL: ("Waiting for your approval", ""),
    EventName.WORKFLOW_APPROVED: ("Approved", ""),
    EventName.WORKFLOW_EXECUTING: ("Started", ""),
    EventName.WORKFLOW_ROLLING_BACK: ("Undoing what can be undone", "back"),
    EventName.WORKFLOW_COMPLETED: ("Everything is done", "done"),
    EventName.WORKFLOW_FAILED: ("The task failed", "fail"),
    EventName.WORKFLOW_CANCELLED: ("Cancelled", ""),
    EventName.STEP_STARTED: ("started", ""),
    EventName.STEP_PROGRESS: ("", ""),
    EventName.STEP_COMPLETED: ("done", "done"),
    EventName.STEP_FAILED: ("failed", "fail"),
    EventName.STEP_RETRYING: ("will be tried again", ""),
    EventName.STEP_COMPENSATED: ("undone", "back"),
    EventName.STEP_SKIPPED: ("not needed", ""),
    EventName.PAYMENT_RESERVED: ("money set aside", ""),
    EventName.PAYMENT_SETTLED: ("seller paid", "done"),
    EventName.PAYMENT_REFUNDED: ("money came back", "back"),
}


@dataclass(slots=True)
class RunLog:
    """What the events said so far; feeding the same event twice changes nothing.

    `titles` are the steps' names by id, `assets` what amounts in events may be in, by CAIP-19 id.
    """

    titles: dict[str, str] = field(default_factory=dict)
    assets: dict[str, Asset] = field(default_factory=dict)
    lines: deque[LogLine] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    last: int = 0

    def feed(self, event: Event) -> None:
        """Take in one event, in order of its sequence."""
        if event.sequence <= self.last:
            return
        self.last = event.sequence
        if event.name is EventName.WORKFLOW_PLAN_READY:
            self._learn_titles(event.data.get("steps"))
        text = self._text(event)
        if text:
            self.lines.append(LogLine(event.sequence, event.at, text, TEXTS.get(event.name, ("", ""))[1]))

    def _learn_titles(self, steps: object) -> None:
        for step in steps if isinstance(steps, list) else []:
            if isinstance(step, dict):
                self.titles[str(step.get("id"))] = str(step.get("title"))

    def _text(self, event: Event) -> str:
        if event.name is EventName.STEP_COMPENSATED and event.data.get("how") == "refunded":
            words = "stopped, nothing is held for it any more"
        else:
            words = TEXTS.get(event.name, (str(event.name).replace(".", " ").replace("_", " "), ""))[0]
        detail = self._amount(event.data) or _detail(event.data)
        step = event.data.get("step")
        if not isinstance(step, str):
            return f"{words}: {detail}" if detail else words
        if event.name is EventName.STEP_PROGRESS and not detail:
            return ""
        title = self.titles.get(step, step)
        said = ", ".join(part for part in (words, detail) if part)
        return f"{title}: {said}" if said else ""

    def _amount(self, data: dict[str, object]) -> str:
        """The amount of a payment event, as people write it."""
        asset, atomic = self.assets.get(str(data.get("asset"))), data.get("amount")
        if asset is None or not isinstance(atomic, str) or not atomic.isdecimal() or len(atomic) > 78:
            return ""
        return money(Money(asset, int(atomic)))


def _detail(data: dict[str, object]) -> str:
    """The part of an event's data that says more than its name."""
    error = data.get("error")
    if isinstance(error, dict):
        return str(error.get("message", ""))[:300]
    for key in ("message", "reason", "note"):
        value = data.get(key)
        if isinstance(value, str) and value:
            return value[:300]
    return ""
