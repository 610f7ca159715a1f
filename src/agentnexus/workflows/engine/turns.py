"""Fair queueing in memory: whose run is next when several users wait."""

from __future__ import annotations

from collections import Counter


class Turns:
    """Each tenant's runs of one priority stand in a line, and lines take turns.

    A line that was idle starts at the pace (the highest turn served), so nobody saves up turns.
    """

    def __init__(self) -> None:
        self._lines: Counter[tuple[str, int]] = Counter()
        self._pace: Counter[int] = Counter()

    def next(self, tenant: str, priority: int) -> int:
        """The turn of the tenant's next run."""
        line = (tenant, priority)
        self._lines[line] = max(self._lines[line], self._pace[priority]) + 1
        return self._lines[line]

    def served(self, priority: int, turn: int) -> None:
        """A run of that turn was taken."""
        self._pace[priority] = max(self._pace[priority], turn)
