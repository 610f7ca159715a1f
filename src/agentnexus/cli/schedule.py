"""`nexus template`, `nexus schedule`, `nexus webhook`: keep plans, run them on time, be told about it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from agentnexus.cli.amounts import AMOUNT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx

json_option = click.option("--json", "as_json", is_flag=True, help="print one JSON object")


def _ask(call: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]) -> dict[str, object]:
    from agentnexus.cli.node import api, find_node

    async def asked() -> dict[str, object]:
        async with api(find_node()) as client:
            return cast("dict[str, object]", (await call(client)).json())

    return asyncio.run(asked())


def _show(answer: dict[str, object], as_json: bool, lines: Callable[[dict[str, object]], list[str]]) -> int:
    from agentnexus.cli.printable import printable

    if as_json:
        click.echo(json.dumps(answer))
        return 0
    for line in lines(answer):
        click.echo(printable(line))
    return 0


def _rows(answer: dict[str, object], key: str) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", answer[key])


@click.group()
def template() -> None:
    """Plans that are kept and run again with other inputs and files."""


@template.command("save")
@click.argument("workflow_id")
@click.argument("name")
@json_option
def save_template(workflow_id: str, name: str, as_json: bool) -> int:
    """Keep the plan of a task under NAME."""
    answer = _ask(lambda client: client.post("/templates", json={"workflowId": workflow_id, "name": name}))
    return _show(answer, as_json, lambda found: _template(cast("dict[str, object]", found["template"])))


@template.command("list")
@json_option
def list_templates(as_json: bool) -> int:
    """Your templates, newest first."""
    answer = _ask(lambda client: client.get("/templates"))
    return _show(answer, as_json, lambda found: [line for row in _rows(found, "templates") for line in _template(row)])


def _template(row: dict[str, object]) -> list[str]:
    inputs = ", ".join(f"{each['name']}={each['default']!r}" for each in _rows(row, "parameters"))
    files = ", ".join(str(each["name"]) for each in _rows(row, "files"))
    return [f"{row['id']}  {row['name']}", f"    inputs: {inputs or 'none'}   files: {files or 'none'}"]


@template.command("run")
@click.argument("template_id")
@click.option("--input", "inputs", multiple=True, metavar="NAME=VALUE", help="a value of the plan, e.g. s1.question=…")
@click.option("--file", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--budget", type=AMOUNT, default=None, help="the most it may cost, in USDC; else as it was saved")
@click.option("--yes", is_flag=True, help="approve the plan without asking")
@json_option
def run_template(
    template_id: str, inputs: tuple[str, ...], files: tuple[Path, ...], budget: str | None, *, yes: bool, as_json: bool
) -> int:
    """Run a template again; `nexus task` shows tasks, and its page approves them."""
    from agentnexus.cli.task import upload

    values: dict[str, object] = {}
    for given in inputs:
        name, sign, value = given.partition("=")
        if not sign:
            raise click.UsageError(f"{given!r} is not NAME=VALUE")
        values[name] = value

    async def call(client: httpx.AsyncClient) -> httpx.Response:
        references = [await upload(client, path) for path in files]
        body: dict[str, object] = {"inputs": values, "files": references, "autoApprove": yes}
        return await client.post(f"/templates/{template_id}/run", json=body | ({"maxCost": budget} if budget else {}))

    return _show(_ask(call), as_json, lambda found: [_began(cast("dict[str, object]", found["workflow"]))])


def _began(workflow: dict[str, object]) -> str:
    return f"{workflow['id']}  {workflow['status']}"


@template.command("delete")
@click.argument("template_id")
def delete_template(template_id: str) -> int:
    """Forget a template; what was run from it stays."""
    _ask(lambda client: client.delete(f"/templates/{template_id}"))
    return 0


@click.group()
def schedule() -> None:
    """Tasks and templates that begin by themselves, once per due time."""


@schedule.command("add")
@click.argument("name")
@click.option("--cron", required=True, help="minute hour day month weekday, e.g. '0 9 * * mon-fri'")
@click.option("--timezone", default="UTC", show_default=True, help="e.g. Europe/Berlin")
@click.option("--missed", type=click.Choice(["skip", "once", "all"]), default="once", show_default=True)
@click.option("--task", "text", default="", help="the task in words")
@click.option("--template", "template_id", default="", help="or a template's id")
@click.option("--budget", required=True, type=AMOUNT, help="the most each run may cost, in USDC")
@click.option("--yes", is_flag=True, help="approve each run's plan without asking")
@json_option
def add_schedule(name: str, *, yes: bool, as_json: bool, text: str, budget: str, **terms: str) -> int:
    """Begin a task or a template at every due time."""
    body = {
        "name": name, "cron": terms["cron"], "timezone": terms["timezone"], "missed": terms["missed"], "input": text,
        "templateId": terms["template_id"], "maxCost": budget, "autoApprove": yes,
    }  # fmt: skip
    answer = _ask(lambda client: client.post("/schedules", json=body))
    return _show(answer, as_json, lambda found: [_schedule(cast("dict[str, object]", found["schedule"]))])


@schedule.command("list")
@json_option
def list_schedules(as_json: bool) -> int:
    """Your schedules and when they are due next."""
    answer = _ask(lambda client: client.get("/schedules"))
    return _show(answer, as_json, lambda found: [_schedule(row) for row in _rows(found, "schedules")])


def _schedule(row: dict[str, object]) -> str:
    due = "paused" if row["paused"] else f"next {row['next_at']}"
    return f"{row['id']}  {row['name']}  [{row['cron']} {row['timezone']}]  {due}"


@schedule.command("pause")
@click.argument("schedule_id")
def pause_schedule(schedule_id: str) -> int:
    """Not due until resumed."""
    _ask(lambda client: client.post(f"/schedules/{schedule_id}/pause"))
    return 0


@schedule.command("resume")
@click.argument("schedule_id")
def resume_schedule(schedule_id: str) -> int:
    """Due again from now on."""
    _ask(lambda client: client.post(f"/schedules/{schedule_id}/resume"))
    return 0


@schedule.command("delete")
@click.argument("schedule_id")
def delete_schedule(schedule_id: str) -> int:
    """Forget a schedule; its workflows stay."""
    _ask(lambda client: client.delete(f"/schedules/{schedule_id}"))
    return 0


@click.group()
def webhook() -> None:
    """Addresses that are told of events, signed and at least once."""


@webhook.command("add")
@click.argument("url")
@click.option("--event", "events", multiple=True, default=("workflow.*",), show_default=True)
@json_option
def add_webhook(url: str, events: tuple[str, ...], as_json: bool) -> int:
    """Send events to URL; prints the secret to check signatures with, this once."""
    answer = _ask(lambda client: client.post("/webhooks", json={"url": url, "events": list(events)}))
    made = cast("dict[str, object]", answer["webhook"])
    return _show(answer, as_json, lambda _: [f"{made['id']}  {made['url']}", f"    secret: {made['secret']}"])


@webhook.command("list")
@json_option
def list_webhooks(as_json: bool) -> int:
    """Your webhooks."""
    answer = _ask(lambda client: client.get("/webhooks"))
    return _show(answer, as_json, lambda found: [_webhook(row) for row in _rows(found, "webhooks")])


def _webhook(row: dict[str, object]) -> str:
    state = "on" if row["enabled"] else f"off: {row['reason']}"
    return f"{row['id']}  {row['url']}  {', '.join(cast('list[str]', row['events']))}  {state}"


@webhook.command("log")
@click.argument("webhook_id")
@json_option
def webhook_log(webhook_id: str, as_json: bool) -> int:
    """What was delivered, and what is tried again when."""
    answer = _ask(lambda client: client.get(f"/webhooks/{webhook_id}/deliveries"))
    return _show(answer, as_json, lambda found: [_delivery(row) for row in _rows(found, "deliveries")])


def _delivery(row: dict[str, object]) -> str:
    answer = row["status"] if row["status"] is not None else row["answer"] or "-"
    return f"{row['created_at']}  {row['name']}  {row['state']}  attempts {row['attempts']}  {answer}"


@webhook.command("delete")
@click.argument("webhook_id")
def delete_webhook(webhook_id: str) -> int:
    """Forget a webhook and its log."""
    _ask(lambda client: client.delete(f"/webhooks/{webhook_id}"))
    return 0
