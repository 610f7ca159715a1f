"""When a schedule is due, as people say it: a form becomes a cron expression, and an expression a sentence. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from agentnexus.core.errors import InvalidInput

REPEATS: Final = (
    ("hourly", "Every hour"),
    ("daily", "Every day"),
    ("weekdays", "Monday to Friday"),
    ("weekly", "Every week"),
    ("monthly", "Every month"),
    ("cron", "As a cron expression"),
)
WEEKDAYS: Final = (
    ("mon", "Monday"), ("tue", "Tuesday"), ("wed", "Wednesday"), ("thu", "Thursday"), ("fri", "Friday"),
    ("sat", "Saturday"), ("sun", "Sunday"),
)  # fmt: skip
ZONES: Final = (
    "UTC", "Africa/Cairo", "Africa/Johannesburg", "Africa/Lagos", "Africa/Nairobi", "America/Bogota",
    "America/Chicago", "America/Denver", "America/Los_Angeles", "America/Mexico_City", "America/New_York",
    "America/Sao_Paulo", "America/Toronto", "Asia/Bangkok", "Asia/Dubai", "Asia/Hong_Kong", "Asia/Jakarta",
    "Asia/Karachi", "Asia/Kolkata", "Asia/Manila", "Asia/Seoul", "Asia/Shanghai", "Asia/Singapore", "Asia/Tokyo",
    "Australia/Sydney", "Europe/Amsterdam", "Europe/Berlin", "Europe/Istanbul", "Europe/London", "Europe/Madrid",
    "Europe/Moscow", "Europe/Paris", "Europe/Rome", "Europe/Warsaw", "Pacific/Auckland",
)  # fmt: skip
TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::\d\d)?", re.ASCII)
NUMBER: Final = re.compile(r"\d{1,2}", re.ASCII)
EVERY: Final = re.compile(r"\*/(\d{1,2})", re.ASCII)
DAYS_OF_WEEK: Final = {str(number): name for number, (name, _) in enumerate(WEEKDAYS, start=1)} | {"0": "sun"}


@dataclass(frozen=True, slots=True)
class RhythmForm:
    """What the form's controls hold. `at` is ``HH:MM``; which of the others count depends on `repeats`."""

    repeats: str = "daily"
    at: str = "09:00"
    weekday: str = "mon"
    day: str = "1"
    cron: str = ""

    @property
    def expression(self) -> str:
        """The cron expression. Raises `InvalidInput` for what no clock or calendar has."""
        if self.repeats == "cron":
            return self.cron
        hour, minute = self._time()
        match self.repeats:
            case "hourly":
                return f"{minute} * * * *"
            case "daily":
                return f"{minute} {hour} * * *"
            case "weekdays":
                return f"{minute} {hour} * * mon-fri"
            case "weekly":
                return f"{minute} {hour} * * {self._weekday()}"
            case "monthly":
                return f"{minute} {hour} {self._day()} * *"
        known = ", ".join(name for name, _ in REPEATS)
        raise InvalidInput("that is no way to repeat", field="repeats", next_step=f"choose one of {known}")

    def _time(self) -> tuple[int, int]:
        found = TIME.fullmatch(self.at)
        if found is None:
            raise InvalidInput("that is no time of day", field="at", next_step="write it as 09:30")
        return int(found.group(1)), int(found.group(2))

    def _weekday(self) -> str:
        if self.weekday not in dict(WEEKDAYS):
            raise InvalidInput("that is no day of the week", field="weekday", next_step="choose one from the list")
        return self.weekday

    def _day(self) -> int:
        if not NUMBER.fullmatch(self.day) or not 1 <= int(self.day) <= 31:
            raise InvalidInput("a month has days 1 to 31", field="day", next_step="choose one of them")
        return int(self.day)

    @property
    def sentence(self) -> str:
        """``Every Monday at 09:00``; an expression that is none of the form's is shown as it is."""
        if self.repeats == "cron":
            return self._every() or f"At {self.cron} (cron)"
        said = {
            "hourly": f"Every hour at minute {self.at.rpartition(':')[2].lstrip('0') or '0'}",
            "daily": f"Every day at {self.at}",
            "weekdays": f"Monday to Friday at {self.at}",
            "weekly": f"Every {dict(WEEKDAYS).get(self.weekday, self.weekday)} at {self.at}",
            "monthly": f"On day {self.day} of every month at {self.at}",
        }
        return said.get(self.repeats, self.repeats)

    def _every(self) -> str:
        minutes, _, rest = self.cron.partition(" ")
        found = EVERY.fullmatch(minutes)
        return f"Every {found.group(1)} minutes" if found and rest == "* * * *" else ""


def read_rhythm(cron: str) -> RhythmForm:
    """The form that makes this expression; one that no form makes stays an expression."""
    parts = cron.lower().split()
    return (_simple(*parts) if len(parts) == 5 else None) or RhythmForm("cron", cron=cron)


def _simple(minute: str, hour: str, day: str, month: str, weekday: str) -> RhythmForm | None:
    if not NUMBER.fullmatch(minute) or month != "*":
        return None
    found: RhythmForm | None = None
    weekday = DAYS_OF_WEEK.get(weekday, weekday)
    if (hour, day, weekday) == ("*", "*", "*"):
        return RhythmForm("hourly", f"00:{int(minute):02}")
    at = f"{int(hour):02}:{int(minute):02}" if NUMBER.fullmatch(hour) else ""
    if (day, weekday) == ("*", "*"):
        found = RhythmForm("daily", at)
    elif weekday == "*" and NUMBER.fullmatch(day):
        found = RhythmForm("monthly", at, day=day)
    elif day == "*" and weekday in ("mon-fri", "1-5"):
        found = RhythmForm("weekdays", at)
    elif day == "*" and weekday in dict(WEEKDAYS):
        found = RhythmForm("weekly", at, weekday=weekday)
    return found if at else None
