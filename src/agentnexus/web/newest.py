"""Following something that changes faster than anybody reads: only its newest state is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def newest(source: AsyncIterator[T], *, pause_seconds: float, idle_seconds: float) -> AsyncIterator[T | None]:
    """The newest item of `source` each time there is one, at most every `pause_seconds`; the last one always.

    `None` says that nothing came for `idle_seconds`. What comes in between is dropped, so a slow reader costs no
    memory. An error of `source` is raised after the items before it.
    """
    held: list[T] = []
    changed = asyncio.Event()

    async def read() -> None:
        try:
            async for item in source:
                held[:] = [item]
                changed.set()
        finally:
            changed.set()

    reader = asyncio.create_task(read())
    try:
        while True:
            try:
                async with asyncio.timeout(idle_seconds):
                    await changed.wait()
            except TimeoutError:
                yield None
                continue
            changed.clear()
            ended = reader.done()
            if held:
                yield held.pop()
            if ended:
                break
            await asyncio.sleep(pause_seconds)
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
