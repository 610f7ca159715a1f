"""Run and test an agent from its folder, without the platform: ``run_folder`` and ``check_folder``."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agentnexus.sdk.agent import Agent
from agentnexus.sdk.context import Context, Recorder
from agentnexus.sdk.execute import Outcome, execute, load_agent
from agentnexus.sdk.manifest import Manifest


@dataclass(frozen=True, slots=True)
class LocalRun:
    """One run on this machine: how it ended and everything it said on the way."""

    outcome: Outcome
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    @property
    def artifacts(self) -> dict[str, bytes]:
        """Files the agent handed over, by name."""
        files = [data for kind, data in self.events if kind == "artifact"]
        return {str(data["name"]): base64.b64decode(str(data["data"])) for data in files}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something to correct before publishing. `where`: a field of the manifest, or ``examples.<title>``."""

    where: str
    what: str


def open_folder(folder: Path) -> tuple[Manifest, Agent[..., object]]:
    """The manifest and the agent. Raises `ManifestError`, or `ImportError` when the entry names no agent."""
    manifest = Manifest.load(folder)
    return manifest, load_agent(folder.resolve(), manifest.entry)


def describe(folder: Path) -> dict[str, object]:
    """``{manifest, input, output}`` for pages, cards and ``GET /manifest``."""
    manifest, agent = open_folder(folder)
    return {
        "manifest": manifest.model_dump(mode="json"),
        "manifest_hash": manifest.content_hash,
        "input": agent.input_schema,
        "output": agent.output_schema,
    }


async def run_agent(
    agent: Agent[..., object],
    value: object,
    *,
    secrets: Mapping[str, str] | None = None,
    timeout_seconds: float | None = None,
) -> LocalRun:
    """Run with plain JSON in. A timeout raises `TimeoutError`."""
    recorder = Recorder()
    context = Context(emit=recorder, secrets=secrets, timeout_seconds=timeout_seconds)
    async with asyncio.timeout(timeout_seconds):
        outcome = await execute(agent, value, context)
    return LocalRun(outcome, recorder.events)


def run_folder(folder: Path, value: object, *, secrets: Mapping[str, str] | None = None) -> LocalRun:
    """Run an agent from its folder, limited by the time its manifest asks for."""
    manifest, agent = open_folder(folder)
    return asyncio.run(run_agent(agent, value, secrets=secrets, timeout_seconds=manifest.limits.timeout_seconds))


def check_folder(folder: Path, *, secrets: Mapping[str, str] | None = None) -> list[Problem]:
    """What `nexus agents test` reports: the manifest, every example, and that each answer can travel as JSON."""
    manifest, agent = open_folder(folder)
    problems = [] if manifest.examples else [Problem("examples", "add one: it is the demo and the daily test")]
    for example in manifest.examples:
        where = f"examples.{example.title}"
        try:
            timeout = manifest.limits.timeout_seconds
            run = asyncio.run(run_agent(agent, example.input, secrets=secrets, timeout_seconds=timeout))
        except TimeoutError:
            problems.append(Problem(where, f"took longer than {manifest.limits.timeout_seconds:g} seconds"))
            continue
        if run.outcome.error is not None:
            problems.append(Problem(where, run.outcome.error.message))
        else:
            problems += [Problem(where, what) for what in _charge_problems(manifest, run)]
    return problems


def _charge_problems(manifest: Manifest, run: LocalRun) -> list[str]:
    caps = {event.name: event.maximum for event in manifest.pricing.events}
    totals: dict[str, int] = {}
    for kind, data in run.events:
        if kind == "charge":
            totals[str(data["event"])] = totals.get(str(data["event"]), 0) + int(str(data["count"]))
    unknown = [f"charges for {name}, which is not in pricing.events" for name in totals if name not in caps]
    above = [
        f"charges {count} of {name}; the most is {caps[name]}"
        for name, count in totals.items()
        if count > caps.get(name, count)
    ]
    return unknown + above
