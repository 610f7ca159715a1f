"""Whatever a step may raise, as an error of the house that its row can hold."""

from __future__ import annotations

import traceback

from agentnexus.core.errors import NexusError


def failure_of(error: Exception) -> NexusError:
    """A step may fail with anything; what is not a `NexusError` is a fault of ours, kept with where it happened."""
    if isinstance(error, NexusError):
        return error
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    place = f"{frame[0].filename.rpartition('/')[2]}:{frame[0].lineno}" if frame else None
    return NexusError(
        f"unexpected {type(error).__name__}: {error}"[:2000],
        next_step="this is a fault of the program: report it with the place",
        place=place,
    )
