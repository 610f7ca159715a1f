"""Whatever an agent takes too much of, the run ends, nothing stays behind and the caller is told which limit it was."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from agentnexus.core.errors import AgentFailed, AgentTimeout, LimitExceeded
from agentnexus.core.updates import Log
from agentnexus.runtime.limits import MAXIMUM, MIB
from agentnexus.runtime.local import cgroups
from agentnexus.runtime.port import RunRequest
from tests.runtime.conftest import Ended, collect

pytestmark = pytest.mark.asyncio(loop_scope="session")
SHORT = replace(MAXIMUM, timeout_seconds=0.5)


def below_helper(sandbox) -> list[psutil.Process]:
    """Every process of every run: they all descend from a zygote."""
    found = []
    for pid in sandbox.helper_pids():
        with contextlib.suppress(psutil.NoSuchProcess):
            found += psutil.Process(pid).children(recursive=True)
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


async def wait_until_empty(sandbox) -> None:
    """The warden itself goes a moment after its report."""
    async with asyncio.timeout(10):
        while below_helper(sandbox):
            await asyncio.sleep(0.005)


def limit_of(ended: Ended) -> object:
    assert isinstance(ended.error, LimitExceeded), ended.error
    assert ended.error.next_step
    return ended.error.details["limit"]


async def test_a_fork_bomb_hits_the_process_limit(sandbox, hostile):
    ended = await collect(sandbox, await hostile("greedy"), {"do": "fork_bomb"})
    assert limit_of(ended) == "processes"
    await wait_until_empty(sandbox)


async def test_a_fork_bomb_that_ignores_errors_ends_at_the_deadline(sandbox, hostile):
    ended = await collect(sandbox, await hostile("greedy"), {"do": "stubborn_fork_bomb"}, limits=SHORT)
    assert isinstance(ended.error, AgentTimeout)
    await wait_until_empty(sandbox)


@pytest.mark.parametrize("where", ["memory", "memory_in_a_child"])
async def test_too_much_memory_is_reported_as_memory(sandbox, hostile, where):
    ended = await collect(sandbox, await hostile("greedy"), {"do": where})
    assert limit_of(ended) == "memory"
    assert "134217728" in str(ended.error)


@pytest.mark.parametrize("how", ["fill_tmp", "many_small_files"])
async def test_a_full_tmp_is_reported_as_tmp(sandbox, hostile, how):
    assert limit_of(await collect(sandbox, await hostile("greedy"), {"do": how})) == "tmp"


async def test_too_many_open_files_are_reported(sandbox, hostile):
    assert limit_of(await collect(sandbox, await hostile("greedy"), {"do": "open_files"})) == "open_files"


async def test_printed_text_is_cut_off_with_a_marker_and_the_result_still_comes(sandbox, hostile):
    limits = replace(MAXIMUM, log_bytes=100_000)
    ended = await collect(sandbox, await hostile("greedy"), {"do": "print", "amount": 20 * MIB}, limits=limits)
    assert ended.output == {"text": ""}
    assert sum(len(log.message) for log in ended.logs) < 110_000
    assert [log.message for log in ended.logs].count("[log cut off after 100000 bytes]") == 1
    assert ended.logs[-1].level == "warning"


async def test_a_flood_of_printed_text_ends_the_run(sandbox, hostile):
    limits = replace(MAXIMUM, log_flood_bytes=8 * MIB)
    ended = await collect(sandbox, await hostile("greedy"), {"do": "print", "amount": 10_000 * MIB}, limits=limits)
    assert limit_of(ended) == "log"


async def test_a_flood_of_log_calls_is_cut_off(sandbox, hostile):
    limits = replace(MAXIMUM, log_bytes=10_000)
    ended = await collect(sandbox, await hostile("greedy"), {"do": "log", "amount": 5_000}, limits=limits)
    assert ended.output == {"text": ""}
    assert sum(len(log.message) for log in ended.logs) < 11_000


async def test_a_result_that_is_too_big_is_refused_without_being_read(sandbox, hostile):
    limits = replace(MAXIMUM, output_bytes=MIB, artifact_bytes=MIB)
    ended = await collect(sandbox, await hostile("greedy"), {"do": "big_result", "amount": 8 * MIB}, limits=limits)
    assert limit_of(ended) == "output"


async def test_a_result_below_the_limit_comes_whole(sandbox, hostile):
    ended = await collect(sandbox, await hostile("greedy"), {"do": "big_result", "amount": 4 * MIB})
    assert len(str(ended.output["text"])) == 4 * MIB


@pytest.mark.parametrize("what", ["sleep", "spin", "ignore_signals"])
async def test_the_deadline_ends_what_does_not_end(sandbox, hostile, what):
    ended = await collect(sandbox, await hostile("greedy"), {"do": what, "amount": 600}, limits=SHORT)
    assert isinstance(ended.error, AgentTimeout)
    assert "0.5 seconds" in str(ended.error)
    assert not ended.error.retryable
    await wait_until_empty(sandbox)


async def test_a_daemon_does_not_outlive_its_run(sandbox, hostile):
    ended = await collect(sandbox, await hostile("greedy"), {"do": "daemonise"})
    assert ended.output == {"text": ""}
    await wait_until_empty(sandbox)


async def test_leaving_the_updates_early_ends_every_process(sandbox, hostile):
    updates = sandbox.run(await hostile("greedy"), RunRequest("left-early", {"do": "ignore_signals"}))
    assert await anext(updates) == Log("ignoring")
    assert below_helper(sandbox)
    await updates.aclose()
    await wait_until_empty(sandbox)


async def test_cancelling_the_task_ends_every_process(sandbox, hostile):
    bundle = await hostile("greedy")
    started = asyncio.Event()

    async def consume() -> None:
        async for _ in sandbox.run(bundle, RunRequest("task-cancelled", {"do": "ignore_signals"})):
            started.set()

    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wait_until_empty(sandbox)


async def test_cancel_lets_the_agent_clean_up(sandbox, hostile):
    bundle, said = await hostile("greedy"), []
    with pytest.raises(AgentFailed, match="cancelled") as failed:
        async for update in sandbox.run(bundle, RunRequest("polite", {"do": "clean_up"})):
            said.append(update)
            if update == Log("working"):
                assert await sandbox.cancel("polite", grace_seconds=10)
    assert said[-1] == Log("cleaned up")
    assert failed.value.details["cancelled"] is True


async def test_cancel_ends_an_agent_that_ignores_it_after_the_grace(sandbox, hostile):
    bundle = await hostile("greedy")
    with pytest.raises(AgentFailed, match="cancelled"):
        async for _ in sandbox.run(bundle, RunRequest("rude", {"do": "ignore_signals"})):
            assert await sandbox.cancel("rude", grace_seconds=0.05)
    await wait_until_empty(sandbox)


async def test_cancelling_an_unknown_run_says_so(sandbox):
    assert await sandbox.cancel("nobody") is False


async def test_an_agent_that_dies_of_a_signal_is_told_so(sandbox, hostile):
    ended = await collect(sandbox, await hostile("greedy"), {"do": "die"})
    assert isinstance(ended.error, AgentFailed)
    assert "gave no result" in str(ended.error)
    assert ended.error.retryable


async def test_usage_is_measured(sandbox, hostile):
    ended = await collect(sandbox, await hostile("greedy"), {"do": "big_result", "amount": 10 * MIB})
    metering = ended.result.metering
    assert metering["memory_peak_bytes"] > 10 * MIB
    assert metering["wall_ms"] > 0
    assert metering["cpu_ms"] > 0


async def test_the_processor_share_is_kept(sandbox, hostile):
    limits = replace(MAXIMUM, cpu=0.2)
    ended = await collect(sandbox, await hostile("greedy"), {"do": "busy", "amount": 1_000}, limits=limits)
    metering = ended.result.metering
    # A fifth of the time plus the burst that the first period allows, far from all of it.
    assert metering["cpu_ms"] < metering["wall_ms"] * 0.5


async def test_threads_count_as_processes(sandbox, hostile):
    few = await collect(sandbox, await hostile("greedy"), {"do": "threads", "amount": 10})
    assert few.output == {"text": "started"}
    many = await collect(sandbox, await hostile("greedy"), {"do": "threads", "amount": 100})
    assert limit_of(many) == "processes"


@pytest.mark.parametrize("how", ["hold_open", "background_thread"])
async def test_what_an_agent_leaves_running_does_not_hold_up_its_result(sandbox, hostile, how):
    ended = await collect(sandbox, await hostile("greedy"), {"do": how})
    assert ended.error is None
    await wait_until_empty(sandbox)


async def test_no_control_group_is_left_behind(sandbox, hostile):
    await collect(sandbox, await hostile("greedy"), {"do": "big_result"})
    await wait_until_empty(sandbox)
    host = cgroups.find()
    assert isinstance(host, cgroups.Host)
    left = [path for base in set(host.bases.values()) for path in Path(base).glob(f"{sandbox._prefix}*")]
    assert left == []
