"""`nexus template`, `nexus schedule`, `nexus webhook`: keep plans, run them on time, be told about it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from agentnexus.cli.amounts import AMOUNT
from agentnexus.cli.options import done, json_option

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx


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
    return _show(
        answer, as_json, lambda found: [line for row in _rows(found, "templates") for line in _template(row)]
        or ["no templates; keep a task's plan with `nexus template save`"],
    )  # fmt: skip


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
@click.option("--grant", default="", help="go ahead under a signed approval that allows the plan: its id, or any")
@json_option
def run_template(
    template_id: str,
    inputs: tuple[str, ...],
    files: tuple[Path, ...],
    budget: str | None,
    *,
    yes: bool,
    grant: str,
    as_json: bool,
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
        body: dict[str, object] = {"inputs": values, "files": references, "autoApprove": yes, "grant": grant}
        return await client.post(f"/templates/{template_id}/run", json=body | ({"maxCost": budget} if budget else {}))

    return _show(_ask(call), as_json, lambda found: [_began(cast("dict[str, object]", found["workflow"]))])


def _began(workflow: dict[str, object]) -> str:
    return f"{workflow['id']}  {workflow['status']}"


@template.command("delete")
@click.argument("template_id")
@json_option
def delete_template(template_id: str, as_json: bool) -> int:
    """Forget a template; what was run from it stays."""
    answer = _ask(lambda client: client.delete(f"/templates/{template_id}"))
    return done(f"{template_id} is forgotten", answer, as_json=as_json)


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
@click.option("--grant", default="", help="each run goes ahead under a signed approval that allows it: its id, or any")
@json_option
def add_schedule(name: str, *, yes: bool, as_json: bool, text: str, budget: str, **terms: str) -> int:
    """Begin a task or a template at every due time."""
    body = {
        "name": name, "cron": terms["cron"], "timezone": terms["timezone"], "missed": terms["missed"], "input": text,
        "templateId": terms["template_id"], "maxCost": budget, "autoApprove": yes,
        "grant": terms["grant"],
    }  # fmt: skip
    answer = _ask(lambda client: client.post("/schedules", json=body))
    return _show(answer, as_json, lambda found: [_schedule(cast("dict[str, object]", found["schedule"]))])


@schedule.command("list")
@json_option
def list_schedules(as_json: bool) -> int:
    """Your schedules and when they are due next."""
    answer = _ask(lambda client: client.get("/schedules"))
    return _show(
        answer, as_json, lambda found: [_schedule(row) for row in _rows(found, "schedules")]
        or ["no schedules; make one with `nexus schedule add`"],
    )  # fmt: skip


@schedule.command("show")
@click.argument("schedule_id")
@json_option
def show_schedule(schedule_id: str, as_json: bool) -> int:
    """One schedule with its last due times and what came of them."""
    answer = _ask(lambda client: client.get(f"/schedules/{schedule_id}"))
    made = cast("dict[str, object]", answer["schedule"])
    return _show(answer, as_json, lambda found: [_schedule(made), *map(_firing, _rows(found, "firings"))])


def _firing(row: dict[str, object]) -> str:
    error = cast("dict[str, object] | None", row["error"]) or {}
    state = row.get("status") or row["state"]  # of the task that was begun, else of the beginning itself
    said = [str(each) for each in (row["workflow_id"], error.get("message")) if each]
    return f"    {row['due_at']}  {state:<17} {'  '.join(said)}"


def _schedule(row: dict[str, object]) -> str:
    due = "paused" if row["paused"] else f"next {row['next_at']}"
    return f"{row['id']}  {row['name']}  [{row['cron']} {row['timezone']}]  {due}"


@schedule.command("pause")
@click.argument("schedule_id")
@json_option
def pause_schedule(schedule_id: str, as_json: bool) -> int:
    """Not due until resumed."""
    answer = _ask(lambda client: client.post(f"/schedules/{schedule_id}/pause"))
    return done(f"{schedule_id} is paused", answer, as_json=as_json)


@schedule.command("resume")
@click.argument("schedule_id")
@json_option
def resume_schedule(schedule_id: str, as_json: bool) -> int:
    """Due again from now on."""
    answer = _ask(lambda client: client.post(f"/schedules/{schedule_id}/resume"))
    return _show(answer, as_json, lambda found: [_schedule(cast("dict[str, object]", found["schedule"]))])


@schedule.command("delete")
@click.argument("schedule_id")
@json_option
def delete_schedule(schedule_id: str, as_json: bool) -> int:
    """Forget a schedule; its workflows stay."""
    answer = _ask(lambda client: client.delete(f"/schedules/{schedule_id}"))
    return done(f"{schedule_id} is forgotten", answer, as_json=as_json)


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
    return _show(
        answer, as_json, lambda found: [_webhook(row) for row in _rows(found, "webhooks")]
        or ["no webhooks; make one with `nexus webhook add`"],
    )  # fmt: skip


def _webhook(row: dict[str, object]) -> str:
    state = "on" if row["enabled"] else f"off: {row['reason']}"
    return f"{row['id']}  {row['url']}  {', '.join(cast('list[str]', row['events']))}  {state}"


@webhook.command("log")
@click.argument("webhook_id")
@json_option
def webhook_log(webhook_id: str, as_json: bool) -> int:
    """What was delivered, and what is tried again when."""
    answer = _ask(lambda client: client.get(f"/webhooks/{webhook_id}/deliveries"))
    return _show(
        answer,
        as_json,
        lambda found: [_delivery(row) for row in _rows(found, "deliveries")] or ["nothing was sent yet"],
    )


def _delivery(row: dict[str, object]) -> str:
    answer = row["status"] if row["status"] is not None else row["answer"] or "-"
    return f"{row['created_at']}  {row['name']}  {row['state']}  attempts {row['attempts']}  {answer}"


@webhook.command("delete")
@click.argument("webhook_id")
@json_option
def delete_webhook(webhook_id: str, as_json: bool) -> int:
    """Forget a webhook and its log."""
    answer = _ask(lambda client: client.delete(f"/webhooks/{webhook_id}"))
    return done(f"{webhook_id} is forgotten", answer, as_json=as_json)
