"""Processes of a node killed at random points: every run still ends, once, and nothing of it is left running."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from agentnexus.marketplace.executions.model import ExecutionStatus
from tests.marketplace.conftest import Node
from tests.marketplace.test_executions import started, stored

LEASE_SECONDS = "1.0"


@asynccontextmanager
async def process(node: Node, key: str, value: dict[str, object]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A second process, ready to run; killed at the end if it still lives."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.marketplace.node_process"),
        *(node.database.url, key, LEASE_SECONDS, json.dumps(value)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert running.stdout is not None
    assert await running.stdout.readline() == b"ready\n"
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def ended(running: asyncio.subprocess.Process) -> dict[str, object]:
    assert running.stdout is not None
    line = await running.stdout.readline()
    await running.wait()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


@pytest.mark.chaos
async def test_a_killed_process_leaves_no_agent_behind_and_its_run_is_taken_over(node: Node) -> None:
    value: dict[str, object] = {"do": "wait"}
    async with process(node, "killed", value) as first:
        execution_id = await stored(node, "killed")
        await started(node, execution_id)
        family = psutil.Process(first.pid).children(recursive=True)
        assert family
        first.kill()
        await first.wait()
    gone, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
    assert gone
    assert alive == []

    async with process(node, "killed", value) as second:
        async for event in node.executions.events(execution_id, after=0):
            if event.data.get("attempt") == 2:
                break
        await node.executions.cancel(execution_id)
        assert (await ended(second))["code"] == "conflict"
    execution = await node.executions.get(execution_id)
    assert (execution.status, execution.attempts) == (ExecutionStatus.CANCELLED, 2)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(4))
async def test_a_run_killed_anywhere_completes_once_for_the_next_caller(node: Node, seed: int) -> None:
    chance = random.Random(seed)
    value: dict[str, object] = {"text": f"seed {seed}", "count": 300}
    async with process(node, f"chaos-{seed}", value) as first:
        await asyncio.sleep(chance.uniform(0, 0.4))  # a point in time is what this test varies
        with contextlib.suppress(ProcessLookupError):  # it may have been faster
            first.kill()
        await first.wait()

    async with process(node, f"chaos-{seed}", value) as second:
        shown = await ended(second)

    assert shown["status"] == "completed", shown
    assert shown["output"]["text"] == f"seed {seed}"  # type: ignore[index]  # JSON
    events = [event async for event in node.executions.events(str(shown["id"]))]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert sum(event.name.value == "execution.completed" for event in events) == 1
    assert (await node.listings.get("org.agentnexus.trial")).statistics.runs == 1


async def test_two_processes_with_one_key_run_it_once(node: Node) -> None:
    value: dict[str, object] = {"text": "shared"}
    async with process(node, "both", value) as one, process(node, "both", value) as two:
        first, second = await asyncio.gather(ended(one), ended(two))

    assert first["output"] == second["output"]
    assert first["attempts"] == second["attempts"] == 1
