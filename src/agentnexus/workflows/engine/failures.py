"""Errors to JSON and back, so that a replayed body meets the very error class its step raised."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping

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


def _family(root: type[NexusError]) -> Iterator[type[NexusError]]:
    yield root
    for child in root.__subclasses__():
        yield from _family(child)


def revive(body: Mapping[str, object]) -> NexusError:
    """The error from `NexusError.to_json`, in the class that owns its code (the root for unknown codes)."""
    code = body.get("code")
    kind = next((kind for kind in _family(NexusError) if kind.code == code), NexusError)
    details = body.get("details")
    error = NexusError.__new__(kind)
    NexusError.__init__(
        error,
        str(body.get("message", "")),
        next_step=str(body.get("next_step", "")),
        **{str(key): value for key, value in details.items()} if isinstance(details, dict) else {},
    )
    return error
