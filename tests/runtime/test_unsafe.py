"""Without isolation everything but the isolation holds: limits, verdicts, redaction, clean ends."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agentnexus.core.errors import AgentFailed, AgentRefused, AgentTimeout, InvalidInput, LimitExceeded
from agentnexus.core.updates import Log
from agentnexus.runtime.bundle import Bundle
from agentnexus.runtime.limits import MAXIMUM, MIB
from agentnexus.runtime.port import RunRequest
from agentnexus.runtime.unsafe import UnsafeLocal
from tests.runtime.conftest import HOSTILE, collect, write_agent
from tests.runtime.test_protocol import ECHO

SHORT = replace(MAXIMUM, timeout_seconds=2.0)


@pytest.fixture
async def unsafe() -> AsyncIterator[UnsafeLocal]:
    async with UnsafeLocal() as runtime:
        yield runtime


async def bundle_of(runtime: UnsafeLocal, tmp_path, name: str) -> Bundle:
    code = (HOSTILE / f"{name}.py").read_text()
    return await runtime.prepare(write_agent(tmp_path / name, code, name=name, top='secrets = ["API_KEY"]'))


async def test_an_agent_runs_and_sees_a_small_environment(unsafe, tmp_path, monkeypatch):
    monkeypatch.setenv("NEXUS_TEST_TOKEN", "do-not-leak")
    bundle = await bundle_of(unsafe, tmp_path, "files")
    ended = await collect(unsafe, bundle, {"do": "environment"})
    assert "do-not-leak" not in str(ended.output)
    assert ended.result.metering["wall_ms"] > 0


async def test_schemas_are_learnt_and_checked(unsafe, tmp_path):
    bundle = await unsafe.prepare(write_agent(tmp_path / "agent", ECHO))
    assert bundle.input_schema is not None
    assert bundle.input_schema["required"] == ["text"]
    ended = await collect(unsafe, bundle, {"text": 1})
    assert isinstance(ended.error, InvalidInput)


async def test_the_deadline_ends_the_whole_process_group(unsafe, tmp_path):
    bundle = await bundle_of(unsafe, tmp_path, "greedy")
    started = time.monotonic()
    ended = await collect(unsafe, bundle, {"do": "ignore_signals"}, limits=SHORT)
    assert isinstance(ended.error, AgentTimeout)
    assert time.monotonic() - started < 60


async def test_memory_and_files_are_limited(unsafe, tmp_path):
    bundle = await bundle_of(unsafe, tmp_path, "greedy")
    memory = await collect(unsafe, bundle, {"do": "memory"})
    assert isinstance(memory.error, LimitExceeded)
    assert memory.error.details["limit"] == "memory"
    files = await collect(unsafe, bundle, {"do": "open_files"})
    assert isinstance(files.error, LimitExceeded)
    full = await collect(unsafe, bundle, {"do": "fill_tmp"})
    assert isinstance(full.error, LimitExceeded)
    Path("/tmp/full").unlink()


async def test_secrets_are_redacted(unsafe, tmp_path):
    bundle = await bundle_of(unsafe, tmp_path, "liar")
    ended = await collect(unsafe, bundle, {"do": "secret"}, secrets={"API_KEY": "sk-live-123456"})
    assert isinstance(ended.error, AgentRefused)
    assert "sk-live" not in repr(ended.updates) + str(ended.error.to_json())


async def test_cancel_lets_the_agent_clean_up(unsafe, tmp_path):
    bundle, said = await bundle_of(unsafe, tmp_path, "greedy"), []
    with pytest.raises(AgentFailed, match="cancelled"):
        async for update in unsafe.run(bundle, RunRequest("polite", {"do": "clean_up"})):
            said.append(update)
            if update == Log("working"):
                assert await unsafe.cancel("polite", grace_seconds=30)
    assert said[-1] == Log("cleaned up")


async def test_a_result_beyond_the_limit_is_refused(unsafe, tmp_path):
    bundle = await bundle_of(unsafe, tmp_path, "greedy")
    limits = replace(MAXIMUM, output_bytes=MIB, artifact_bytes=MIB)
    ended = await collect(unsafe, bundle, {"do": "big_result", "amount": 8 * MIB}, limits=limits)
    assert isinstance(ended.error, LimitExceeded)


async def test_leaving_early_ends_the_process(unsafe, tmp_path):
    bundle = await bundle_of(unsafe, tmp_path, "greedy")
    updates = unsafe.run(bundle, RunRequest("left", {"do": "ignore_signals"}))
    await anext(updates)
    await updates.aclose()
    assert await unsafe.cancel("left") is False


async def test_death_by_signal_is_a_failure(unsafe, tmp_path):
    bundle = await bundle_of(unsafe, tmp_path, "greedy")
    ended = await collect(unsafe, bundle, {"do": "die"})
    assert isinstance(ended.error, AgentFailed)
    assert "gave no result" in str(ended.error)
