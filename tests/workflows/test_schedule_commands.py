"""`nexus template`, `schedule` and `webhook` against a running API."""

from __future__ import annotations

import asyncio
import json

from click.testing import CliRunner

from agentnexus.cli.app import nexus

from .site import Site, make, sse


async def run(site: Site, *words: str) -> tuple[int, str]:
    """Exit code and standard output of ``nexus <words>``."""
    env = {"NEXUS_API_URL": site.url, "NEXUS_TOKEN": site.tokens["ann"], "NEXUS_USER": "ann"}
    result = await asyncio.to_thread(CliRunner().invoke, nexus, list(words), env=env, standalone_mode=False)
    assert result.exception is None, result.output
    return int(result.return_value or 0), result.output


async def test_a_template_is_kept_listed_run_and_deleted(site: Site) -> None:
    ann = await site.client("ann")
    workflow_id = await make(ann, "What is the sum of column b in sales.csv?", autoApprove=True)
    await sse(ann, workflow_id)
    code, said = await run(site, "template", "save", workflow_id, "Monthly")
    assert code == 0
    template_id = said.split()[0]
    _, listed = await run(site, "template", "list")
    assert "Monthly" in listed
    assert "s1.question=" in listed
    _, began = await run(site, "template", "run", template_id, "--input", "s1.question=What is the mean of b?", "--yes")
    assert (await sse(ann, began.split()[0]))[-2]["event"] == "workflow.completed"
    await run(site, "template", "delete", template_id)
    assert (await run(site, "template", "list"))[1].startswith("no templates; ")


async def test_a_schedule_is_added_paused_resumed_and_deleted(site: Site) -> None:
    words = ("--cron", "0 9 * * mon", "--timezone", "Europe/Berlin", "--task", "Analyse it", "--budget", "0.50")
    _, said = await run(site, "schedule", "add", "weekly", *words)
    schedule_id = said.split()[0]
    await run(site, "schedule", "pause", schedule_id)
    assert "paused" in (await run(site, "schedule", "list"))[1]
    assert "next 20" in (await run(site, "schedule", "resume", schedule_id))[1]
    assert "weekly" in (await run(site, "schedule", "show", schedule_id))[1]
    _, one = await run(site, "schedule", "show", schedule_id, "--json")
    assert json.loads(one)["firings"] == []
    _, shown = await run(site, "schedule", "list", "--json")
    assert json.loads(shown)["schedules"][0]["paused"] is False
    assert (await run(site, "schedule", "delete", schedule_id))[1] == f"{schedule_id} is forgotten\n"
    assert (await run(site, "schedule", "list"))[1].startswith("no schedules; ")


async def test_a_webhook_is_added_with_its_secret_and_its_log_is_shown(site: Site) -> None:
    _, said = await run(site, "webhook", "add", "http://127.0.0.1:9/hook", "--event", "*")
    assert "whsec_" in said
    webhook_id = said.split()[0]
    ann = await site.client("ann")
    await sse(ann, await make(ann, autoApprove=True))
    assert "workflow.completed  waiting" in (await run(site, "webhook", "log", webhook_id))[1]
    assert "on" in (await run(site, "webhook", "list"))[1]
    _, gone = await run(site, "webhook", "delete", webhook_id, "--json")
    assert json.loads(gone)["success"] is True
    assert (await run(site, "webhook", "list"))[1].startswith("no webhooks; ")


async def test_a_refusal_is_told_with_what_to_do(site: Site) -> None:
    words = ("schedule", "add", "often", "--cron", "often", "--task", "Analyse it", "--budget", "1")
    env = {"NEXUS_API_URL": site.url, "NEXUS_TOKEN": site.tokens["ann"]}
    result = await asyncio.to_thread(CliRunner().invoke, nexus, list(words), env=env)
    assert "not a cron expression" in result.output
    assert "what to do" in result.output
