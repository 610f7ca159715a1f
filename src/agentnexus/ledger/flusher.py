"""Group commit: operations of concurrent callers wait together and go to the database as one batch.

Each caller is answered after the COMMIT that made its operation durable.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from agentnexus.core.clock import SystemEntropy
from agentnexus.core.errors import Unavailable
from agentnexus.core.ports import Entropy
from agentnexus.ledger.model import Answer, Operation
from agentnexus.ledger.store import StaleKnowledge, Store
from agentnexus.platform.logs import log

BATCH_MAX = 500
ATTEMPTS_MAX = 8
FIRST_PAUSE_SECONDS = 0.01
RACES_MAX = 60
RACE_PAUSE_SECONDS = 0.001

# Lost races with another process: the same batch decides anew on what is there now.
RACES = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.UniqueViolationError,
    StaleKnowledge,
)


@dataclass(slots=True)
class _Waiting:
    operation: Operation
    answer: asyncio.Future[Answer]


class Flusher:
    """Collects operations and flushes them one batch at a time. Use it inside one event loop."""

    def __init__(self, store: Store, entropy: Entropy | None = None) -> None:
        self._store = store
        self._entropy = entropy or SystemEntropy()
        self._queue: deque[_Waiting] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, operation: Operation) -> Answer:
        """Do it and return after it is durable.

        Raises what the rules raise, or `Unavailable` when the database stays away; then the outcome is not known and
        the same call may be repeated. A cancelled caller's operation may still happen, too: repeat or void by its key.
        """
        if self._closed:
            raise Unavailable("the ledger is closing", next_step="repeat the call with the same key after the restart")
        waiting = _Waiting(operation, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._task is None:
            self._task = asyncio.create_task(self._drain(), name="ledger-flusher")
        return await waiting.answer

    async def close(self) -> None:
        """Refuse new operations and wait until those already here are answered."""
        self._closed = True
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        try:
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
                await self._flush([waiting for waiting in batch if not waiting.answer.done()])
                await self._make_checkpoints()
        finally:
            self._task = None

    async def _flush(self, batch: Sequence[_Waiting]) -> None:
        """Answer every caller of the batch, whatever happens."""
        if not batch:
            return
        try:
            answers = await self._run([waiting.operation for waiting in batch])
        except Exception as error:  # noqa: BLE001 - the edge of a task: whatever it is belongs to a caller
            if len(batch) > 1:  # one operation that the database refuses must not fail its neighbours
                for waiting in batch:
                    await self._flush([waiting])
                return
            answers = [error]
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.answer.cancel()
            raise
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)

    async def _make_checkpoints(self) -> None:
        """After the answers, never instead of them: what cannot be made now is made after the next entries."""
        for key in self._store.checkpoints.due:
            try:
                await self._store.checkpoints.make(key)
            except (Unavailable, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("ledger.no_checkpoint", account=key[0], error=str(error))

    async def _run(self, operations: Sequence[Operation]) -> Sequence[Answer | Exception]:
        races = absences = 0
        while races < RACES_MAX and absences < ATTEMPTS_MAX:
            try:
                return await self._store.run(operations)
            except RACES:
                # Rivals that lose together would meet again: the longer it goes on, the further they are spread.
                await asyncio.sleep(self._entropy.uniform() * RACE_PAUSE_SECONDS * races)
                races += 1
            except Unavailable:
                # Even if the COMMIT got through, asking again is safe: operations are idempotent by key.
                await asyncio.sleep(FIRST_PAUSE_SECONDS * 2**absences)
                absences += 1
        return [_gone() for _ in operations]


def _gone() -> Unavailable:
    return Unavailable(
        "the ledger's database does not answer",
        next_step="repeat the call with the same key: it is done at most once",
    )
