"""Processes of tests that kill themselves right behind a step, as a power cut would."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def dies_after(work: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """The same work; when it is done, so is this process."""

    @wraps(work)
    async def done_and_dead(*args: P.args, **kwargs: P.kwargs) -> T:
        await work(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")

    return done_and_dead
