"""The agents that ship with the product run closed: every example of each, in the sandbox, within its own limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentnexus.runtime.bundle import read_bundle
from tests.runtime.conftest import collect

pytestmark = pytest.mark.asyncio(loop_scope="session")
AGENTS = sorted(path.parent for path in (Path(__file__).parents[2] / "agents").glob("*/agent.toml"))


@pytest.mark.parametrize("folder", AGENTS, ids=lambda folder: folder.name)
async def test_every_example_runs_in_the_sandbox(sandbox, folder):
    bundle = await sandbox.prepare(folder)
    assert bundle.manifest.examples
    for example in bundle.manifest.examples:
        ended = await collect(sandbox, bundle, example.input)
        assert ended.error is None, (example.title, ended.error, ended.text)
        assert ended.result.metering["memory_peak_bytes"] < bundle.manifest.limits.memory_mib * 1024 * 1024


@pytest.mark.parametrize("folder", AGENTS, ids=lambda folder: folder.name)
async def test_a_nonsense_input_names_its_field(sandbox, folder):
    bundle = await sandbox.prepare(folder)
    ended = await collect(sandbox, bundle, {"no_such_field_at_all": True})
    assert ended.error is not None
    assert ended.error.http_status in {400, 422}


async def test_all_of_them_can_be_read():
    names = [read_bundle(folder).name for folder in AGENTS]
    assert len(set(names)) == len(names) >= 4
