"""`nexus task`: runs one when it is given words, and lists and shows those there are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast
from urllib.parse import quote

import click

from agentnexus.cli.options import done, json_option
from agentnexus.cli.task import run

Json = dict[str, object]
COLOURS = {"completed": "green", "failed": "red", "cancelled": "red"}
TEXT_SHOWN = 60


class WithDefault(click.Group):
    """A group whose first command is meant when none is named: ``nexus task "Summarise it" --budget 1``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args[:1] and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else [next(iter(self.commands)), *args])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Those of the default command, then the commands."""
        default = next(iter(self.commands.values()))
        default.format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(cls=WithDefault, subcommand_metavar="TEXT --budget AMOUNT [OPTIONS] | COMMAND …")
def task() -> None:
    """Plan TEXT over the files, show plan and price, ask, run, show result and receipts."""


task.add_command(run)


@task.command(name="list")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@click.option("--cursor", default="", help="go on where an earlier page ended")
@json_option
def list_tasks(limit: int, cursor: str, as_json: bool) -> int:
    """Your tasks, newest first."""
    found = asyncio.run(_list(limit, cursor))
    if as_json:
        return done("", found, as_json=True)
    from agentnexus.cli.printable import printable
    from agentnexus.cli.view import money

    rows = cast("list[Mapping[str, object]]", printable(found["workflows"]))
    for row in rows:
        text = " ".join(str(row["text"]).split())
        head = text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]}…"
        status = click.style(f"{row['status']:<17}", fg=COLOURS.get(str(row["status"]), "yellow"))
        click.echo(f"{row['id']}  {str(row['created_at'])[:19]}  {status} {money(row['cost']):>14}  {head}")
    if not rows:
        click.echo('no tasks yet; try: nexus task "Summarise this" --file report.pdf --budget 0.10')
    elif found["nextCursor"]:
        click.echo(f"more: nexus task list --cursor {found['nextCursor']}")
    return 0


@task.command()
@click.argument("task_id", metavar="TASK")
@json_option
def show(task_id: str, as_json: bool) -> int:
    """One task: its plan, how it stands, result and receipts."""
    state, page = asyncio.run(_one(task_id))
    if as_json:
        return done("", state, as_json=True)
    from agentnexus.cli.view import TaskView

    view = TaskView()
    if cast("Json", state["plan"])["steps"]:
        view.plan(state)
    if str(state["status"]) in COLOURS:
        view.result(state, page)
    else:
        click.secho(f"{state['status']}: {page}", fg="yellow")
    return 0


async def _list(limit: int, cursor: str) -> Json:
    from agentnexus.cli.node import api, find_node

    node = find_node()
    async with api(node) as client:
        path = f"/users/{quote(node.user, safe='')}/workflows"
        return cast("Json", (await client.get(path, params={"limit": limit, "cursor": cursor})).json())


async def _one(task_id: str) -> tuple[Json, str]:
    """The short form, and the address of its page."""
    from agentnexus.cli.node import api, find_node

    node = find_node()
    async with api(node) as client:
        state = cast("Json", (await client.get(f"/workflows/{quote(task_id, safe='')}/task")).json())
    return state, f"{node.api_url.rstrip('/')}/tasks/{state['workflow_id']}"
