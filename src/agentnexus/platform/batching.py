"""Group commit: whatever callers submit while one write is in flight goes into the next one, together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from agentnexus.core.errors import NexusError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Refused(NexusError):
    """The storage said no to a write: certainly nothing of it was written."""


class GroupCommit(Generic[Item, Answer]):
    """One writer task; `submit` returns after the commit that holds the item.

    A lone caller waits for no one: the batch is what has gathered while the previous commit ran.
    """

    def __init__(self, write: Callable[[Sequence[Item]], Awaitable[list[Answer]]], limit: int = 512) -> None:
        self._write = write
        self._limit = limit
        self._pending: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None

    def put(self, item: Item) -> asyncio.Future[Answer]:
        """Queue an item; the future resolves after its commit (its failure is only seen by whoever awaits it)."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending.append((item, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="group-commit")
        return future

    async def submit(self, item: Item) -> Answer:
        """Raises what the write of this item's batch raised."""
        return await asyncio.shield(self.put(item))

    async def flush(self) -> None:
        """Wait until everything put so far is written."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        while self._pending:
            batch, self._pending = self._pending[: self._limit], self._pending[self._limit :]
            try:
                answers = await self._write([item for item, _ in batch])
            except Refused as error:
                await self._one_by_one(batch, error)
                continue
            except Exception as error:  # noqa: BLE001 - handed to every caller; may be written, so never repeated here
                for _, future in batch:
                    _fail(future, error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def _one_by_one(self, batch: Sequence[tuple[Item, asyncio.Future[Answer]]], error: Refused) -> None:
        """A batch was refused as a whole: find who is to blame, so that one bad item does not fail its neighbours."""
        if len(batch) == 1:
            _fail(batch[0][1], error)
            return
        for item, future in batch:
            try:
                answers = await self._write([item])
            except Exception as own:  # noqa: BLE001 - handed to the caller of this item
                _fail(future, own)
            else:
                if not future.done():
                    future.set_result(answers[0])


def _fail(future: asyncio.Future[Answer], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # marks it as seen: those who `put` and do not wait have nobody to tell
