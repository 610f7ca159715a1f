"""`nexus task run`: a task in plain words becomes a plan, a price, and after approval paid and checked results."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import click

from agentnexus.cli.amounts import AMOUNT

if TYPE_CHECKING:
    import httpx

    from agentnexus.cli.node import Node
    from agentnexus.cli.view import TaskView

ENDED = {"completed": 0, "failed": 1, "cancelled": 1}
EXIT_OVER_BUDGET = 3


@click.command(name="run")
@click.argument("text")
@click.option("--file", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--budget", required=True, type=AMOUNT, help="the most it may cost, in USDC, e.g. 0.50")
@click.option("--max-seconds", type=click.IntRange(1, 86_400), default=600, show_default=True)
@click.option("--yes", is_flag=True, help="approve the plan without asking")
@click.option("--grant", default="", help="go ahead under a signed approval that allows the plan: its id, or any")
@click.option("--plan", type=click.File(encoding="utf-8"), help="a plan of your own as JSON; TEXT is its title then")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object at the end")
def run(
    text: str,
    files: tuple[Path, ...],
    budget: str,
    max_seconds: int,
    yes: bool,
    grant: str,
    plan: TextIO | None,
    as_json: bool,
) -> int:
    """Plan TEXT over the files, show plan and price, ask, run, show result and receipts."""
    from agentnexus.cli.node import find_node

    if as_json and not (yes or grant):
        raise click.UsageError("--json cannot ask: add --yes or --grant, or leave --json out")
    terms: dict[str, object] = {"input": text, "maxCost": budget, "maxTime": max_seconds * 1000, "grant": grant}
    if plan is not None:
        terms["plan"] = _read_plan(plan)
    return asyncio.run(_task(find_node(), terms, files, yes=yes, as_json=as_json))


def _read_plan(file: TextIO) -> object:
    """The plan, from a file that has it alone or as a part of a request's body."""
    try:
        read = json.load(file)
        return read["plan"] if isinstance(read, dict) and isinstance(read.get("plan"), dict) else read
    except ValueError as error:
        raise click.BadParameter(f"{file.name} is not JSON: {error}", param_hint="--plan") from error


async def _task(node: Node, terms: dict[str, object], files: tuple[Path, ...], *, yes: bool, as_json: bool) -> int:
    from agentnexus.cli.node import api
    from agentnexus.cli.view import TaskView

    async with api(node) as client:
        references = [await upload(client, path) for path in files]
        made = await client.post("/workflows/create", json={**terms, "userId": node.user, "files": references})
        identifier = made.json()["workflow"]["id"]
        view = TaskView(quiet=as_json)
        try:
            await _until_done(client, identifier, view, yes=yes, may_ask=not as_json)
        except asyncio.CancelledError:
            await client.post(f"/workflows/{identifier}/cancel")  # Ctrl-C: nothing more is bought, holds go back
            click.echo(f"{identifier} is cancelled", err=True)
            raise
        state = await _state(client, identifier)
    if as_json:
        click.echo(json.dumps(state))
    else:
        view.result(state, f"{node.api_url.rstrip('/')}/tasks/{identifier}")
    return _exit_code(state)


async def upload(client: httpx.AsyncClient, path: Path) -> dict[str, object]:
    """Send one file; its reference for the workflow."""
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    answer = await client.post("/files", files={"file": (path.name, path.read_bytes(), media_type)})
    reference: dict[str, object] = answer.json()["file"]
    return reference


async def _until_done(client: httpx.AsyncClient, identifier: str, view: TaskView, *, yes: bool, may_ask: bool) -> None:
    from agentnexus.cli.events import follow

    with view:
        async for event in follow(client, f"/workflows/{identifier}/events"):
            view.event(event)
            if event["type"] == "workflow.awaiting_approval":
                view.plan(await _state(client, identifier))
                if objection := cast("dict[str, object]", event["data"]).get("objection"):
                    click.secho(f"not approved by a grant: {objection}", fg="yellow", err=True)
                await _decide(client, identifier, "approve" if yes or (may_ask and view.ask()) else "cancel")


async def _state(client: httpx.AsyncClient, identifier: str) -> dict[str, object]:
    from agentnexus.cli.events import patiently

    state: dict[str, object] = (await patiently(lambda: client.get(f"/workflows/{identifier}/task"))).json()
    return state


async def _decide(client: httpx.AsyncClient, identifier: str, decision: str) -> None:
    """Send it until it is known to have arrived: the answer may be lost with a server that ends."""
    from agentnexus.cli.events import patiently

    async def once() -> None:
        if (await _state(client, identifier))["status"] == "awaiting_approval":
            await client.post(f"/workflows/{identifier}/{decision}")

    await patiently(once)


def _exit_code(state: dict[str, object]) -> int:
    error = state.get("error")
    if isinstance(error, dict) and error.get("code") in ("budget_exceeded", "insufficient_funds"):
        return EXIT_OVER_BUDGET
    return ENDED.get(str(state["status"]), 1)
