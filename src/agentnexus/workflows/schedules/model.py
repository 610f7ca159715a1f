"""Schedules, and when they are due. Pure; times of day follow the schedule's own time zone through clock changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Money
from agentnexus.core.offers import Noun
from agentnexus.workflows.model import TEXT_MAX, FileRef

GRACE = timedelta(seconds=60)
"""Later than this a due time counts as missed."""
CATCH_UP_MAX = 100
LOOK_AT_MAX = 10_000


class Missed(StrEnum):
    """What happens to due times that nobody was there for."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class ScheduledTask(Noun):
    """What to begin: a task in words, or a template with inputs."""

    text: str = Field(default="", max_length=TEXT_MAX)
    template_id: str = ""
    inputs: dict[str, object] = Field(default_factory=dict)
    files: tuple[FileRef, ...] = ()
    max_cost: Money
    max_seconds: float = Field(default=600.0, gt=0, le=7 * 86400)
    auto_approve: bool = False
    grant: str = Field(default="", max_length=200)


class Schedule(Noun):
    """`next_at` is None when it will not be due any more; a paused one keeps quiet about it."""

    id: str
    user_id: str
    name: str
    cron: str
    timezone: str
    missed: Missed
    task: ScheduledTask
    paused: bool
    next_at: datetime | None
    created_at: datetime
    updated_at: datetime

    def to_json(self) -> dict[str, object]:
        """In both spellings, like workflows."""
        own = self.model_dump(mode="json")
        return {**own, "userId": self.user_id, "nextAt": own["next_at"], "createdAt": own["created_at"]}


class Firing(Noun):
    """One due time and what came of it: ``due``, ``started`` (with the workflow), ``skipped`` or ``failed``."""

    schedule_id: str
    due_at: datetime
    state: str
    workflow_id: str | None = None
    error: dict[str, object] | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Rhythm:
    """A cron expression of five fields in a time zone. Making one raises `InvalidInput`."""

    cron: str
    timezone: str

    def __post_init__(self) -> None:
        if len(self.cron.split()) != 5:
            raise InvalidInput(
                f"{self.cron!r} is not a cron expression of five fields",
                field="cron",
                next_step="write minute hour day month weekday, e.g. `0 9 * * mon-fri`",
            )
        try:
            zone = ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise InvalidInput(
                f"there is no time zone {self.timezone!r}", field="timezone", next_step="use a name like Europe/Berlin"
            ) from error
        try:
            CronSim(self.cron, datetime(2026, 1, 1, tzinfo=zone))
        except CronSimError as error:
            raise InvalidInput(
                f"{self.cron!r} is not a cron expression: {error}",
                field="cron",
                next_step="write minute hour day month weekday, e.g. `0 9 * * mon-fri`",
            ) from error

    def next_after(self, moment: datetime) -> datetime | None:
        """The next due time, UTC; None for a date that never comes."""
        try:
            return next(CronSim(self.cron, moment.astimezone(ZoneInfo(self.timezone)))).astimezone(UTC)
        except StopIteration:
            return None

    def until(self, first: datetime, now: datetime) -> list[datetime]:
        """Due times from `first` (one of them) up to `now`, of a long absence only the last ones."""
        found = [first]
        times = CronSim(self.cron, first.astimezone(ZoneInfo(self.timezone)))
        for local in islice(times, LOOK_AT_MAX):
            moment = local.astimezone(UTC)
            if moment > now:
                return found[-CATCH_UP_MAX:]
            found.append(moment)
        latest = now - CATCH_UP_MAX * GRACE  # too many to count: those of the last while stand for all
        return [moment for moment in self._from(latest) if moment <= now]

    def _from(self, moment: datetime) -> list[datetime]:
        times = CronSim(self.cron, moment.astimezone(ZoneInfo(self.timezone)))
        return [local.astimezone(UTC) for local in islice(times, CATCH_UP_MAX)]


def chosen(due: Sequence[datetime], now: datetime, missed: Missed) -> tuple[list[datetime], list[datetime]]:
    """(those to run, those to skip) of the due times up to now."""
    late = [moment for moment in due if now - moment > GRACE]
    on_time = [moment for moment in due if now - moment <= GRACE]
    if missed is Missed.ALL:
        return [*late, *on_time], []
    if missed is Missed.ONCE and late and not on_time:
        return late[-1:], late[:-1]
    return on_time, late
