"""The four agents in the sandbox they are sold from: same answers, inside their limits, nothing reached from there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agentnexus.core.errors import AgentRefused, InvalidInput, IsolationUnavailable
from agentnexus.core.updates import Artifact, Progress, Result, Update
from agentnexus.runtime.bundle import Bundle
from agentnexus.runtime.local import probe
from agentnexus.runtime.local.sandbox import LocalSandbox
from agentnexus.runtime.port import RunRequest
from tests.agents.support import AGENTS, bomb_pdf, bomb_workbook, encoded, example, run

MIB = 1024 * 1024
NAMES = ["pdf-extractor", "content-summarizer", "spreadsheet-analyzer", "knowledge-qa"]
pytestmark = pytest.mark.asyncio(loop_scope="session")
_numbers = iter(range(1, 1_000_000))


class Stage:
    """The sandbox and the four agents, prepared once."""

    def __init__(self, sandbox: LocalSandbox, bundles: dict[str, Bundle]) -> None:
        self.sandbox = sandbox
        self.bundles = bundles

    async def updates(self, name: str, value: object) -> list[Update]:
        request = RunRequest(f"agents-{next(_numbers)}", value)
        return [update async for update in self.sandbox.run(self.bundles[name], request)]

    async def result(self, name: str, value: object) -> Result:
        last = (await self.updates(name, value))[-1]
        assert isinstance(last, Result)
        return last


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage() -> AsyncIterator[Stage]:
    if any(not check.present for check in probe.checks()):
        with pytest.raises(IsolationUnavailable):
            await LocalSandbox().__aenter__()
        pytest.skip("this host cannot isolate; its refusal was checked")
    async with LocalSandbox() as sandbox:
        yield Stage(sandbox, {name: await sandbox.prepare(AGENTS / name) for name in NAMES})


@pytest.mark.parametrize("name", NAMES)
async def test_every_example_gives_the_same_answer_as_without_the_sandbox(stage: Stage, name: str) -> None:
    for shown in stage.bundles[name].manifest.examples:
        result = await stage.result(name, shown.input)

        assert result.output == run(name, shown.input)
        assert result.metering["memory_peak_bytes"] < stage.bundles[name].manifest.limits.memory_mib * MIB


async def test_schemas_learned_in_the_sandbox_have_their_form_hints(stage: Stage) -> None:
    schema = stage.bundles["pdf-extractor"].input_schema

    assert schema is not None
    file = schema["properties"]["file"]  # type: ignore[index]  # JSON
    assert (file["contentEncoding"], file["contentMediaType"]) == ("base64", "application/pdf")
    assert file["x-ui"]["editor"] == "file"


async def test_a_report_is_read_with_progress(stage: Stage) -> None:
    updates = await stage.updates("pdf-extractor", {"file": example("renewables-report.pdf")})

    assert sum(isinstance(update, Progress) for update in updates) == 8
    assert isinstance(updates[-1], Result)


async def test_charts_come_out_as_files(stage: Stage) -> None:
    value = {"file": example("power-stations.csv"), "question": "chart of capacity by kind"}

    updates = await stage.updates("spreadsheet-analyzer", value)

    files = [update for update in updates if isinstance(update, Artifact)]
    assert [(file.name, file.media_type) for file in files] == [("chart-1.svg", "image/svg+xml")]
    assert files[0].data.startswith(b"<svg")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("pdf-extractor", {"file": example("scanned-note.pdf")}, "scan"),
        ("pdf-extractor", {"file": encoded(bomb_pdf(200 * MIB))}, "unpacks"),
        ("spreadsheet-analyzer", {"file": encoded(bomb_workbook(300 * MIB))}, "unpacks"),
        ("spreadsheet-analyzer", {"file": encoded(b" ")}, "empty"),
        ("knowledge-qa", {"question": "why?", "sources": [{"name": "a", "text": "b"}]}, "no word"),
        ("content-summarizer", {"url": "https://example.org/"}, "may not or cannot reach"),
        ("content-summarizer", {"url": "https://169.254.169.254/latest/"}, "may not or cannot reach"),
    ],
)
async def test_refusals_cross_the_border_with_what_to_do(stage: Stage, name: str, value: object, says: str) -> None:
    with pytest.raises(AgentRefused, match=says) as caught:
        await stage.result(name, value)

    assert caught.value.next_step
    assert caught.value.retryable is False


async def test_wrong_inputs_are_named_before_the_agent_runs(stage: Stage) -> None:
    with pytest.raises(InvalidInput) as caught:
        await stage.result("knowledge-qa", {"question": "rain?", "sources": "none"})

    assert caught.value.details["field"] == "sources"


async def test_a_table_of_many_megabytes_fits_its_limits(stage: Stage) -> None:
    rows = "".join(f"{number},region-{number % 7},{number % 100}.5,some words here\n" for number in range(200_000))
    value = {"file": encoded(f"id,region,price,note\n{rows}".encode()), "question": "average price by region"}

    result = await stage.result("spreadsheet-analyzer", value)

    assert isinstance(result.output, dict)
    assert result.output["result"]["tables"][0]["rows"] == 200_000
    assert "region-0" in result.output["result"]["answer"]


async def test_agents_of_all_kinds_run_side_by_side(stage: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(stage.result(name, stage.bundles[name].manifest.examples[0].input)) for name in NAMES * 2
        ]

    outputs = [task.result().output for task in tasks]
    assert outputs[:4] == outputs[4:]
