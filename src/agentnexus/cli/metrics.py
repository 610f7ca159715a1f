"""`nexus metrics`: what was spent, earned and saved, and on what."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import cast

import click

from agentnexus.cli.options import json_option

Json = dict[str, object]
BARS = 24
SHOWN_MAX = 12
LABEL_CHARS = 32


@click.command()
@click.option(
    "--by", type=click.Choice(["capability", "seller", "rail", "day"]), default="capability", show_default=True
)
@click.option("--days", type=click.IntRange(1, 3660), help="only the last so many days")
@click.option("--workflow", help="only this task")
@click.option("--budget", help="only what was paid under this budget or grant")
@click.option("--hosted", "prices", multiple=True, metavar="CAPABILITY=PRICE", help="a hosted price to compare with")
@json_option
def metrics(
    by: str, days: int | None, workflow: str | None, budget: str | None, prices: tuple[str, ...], as_json: bool
) -> int:
    """Show your economy; --hosted NAME=0.10 (or none) keeps a price that savings are counted against."""
    wanted: dict[str, str | None] = {}
    for entry in prices:
        name, _, price = entry.partition("=")
        if not name or not price:
            raise click.UsageError(f"{entry!r} is not CAPABILITY=PRICE")
        wanted[name] = None if price == "none" else price
    parameters = {"workflow": workflow, "budget": budget}
    if days is not None:
        parameters["since"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    report = asyncio.run(_report({name: text for name, text in parameters.items() if text}, wanted))
    if as_json:
        click.echo(json.dumps(report))
        return 0
    _show(report, by)
    return 0


async def _report(parameters: dict[str, str], prices: dict[str, str | None]) -> Json:
    from agentnexus.cli.node import api, find_node

    async with api(find_node()) as client:
        if prices:
            await client.patch("/api/v1/metrics/prices", json=prices)
        return cast("Json", (await client.get("/api/v1/metrics/economy", params=parameters)).json()["data"])


def _show(report: Json, by: str) -> None:
    from agentnexus.cli.printable import printable
    from agentnexus.cli.view import money

    for name in ("spent", "earned", "fees", "net"):
        click.echo(f"  {name:<8} {money(report[name]):>18}")
    click.echo(f"  {report['count']} payments, {money(report['average'])} each on average")
    savings = report["savings"]
    if isinstance(savings, dict):
        click.echo(f"  saved    {money(savings['saved']):>18}  against hosted prices, over {savings['calls']} calls")
    groups = printable(cast("dict[str, list[Json]]", report["by"])[by])
    largest = max((_atomic(group) for group in groups), default=0)
    shown = groups[-SHOWN_MAX:] if by == "day" else groups[:SHOWN_MAX]
    for group in shown:
        bar = "█" * (_atomic(group) * BARS // largest) if largest else ""
        click.echo(f"  {_label(group):<{LABEL_CHARS}} {money(group['spent']):>16} {group['count']:>6}  {bar}")


def _label(group: Json) -> str:
    """Long ones by both their ends: keys that begin alike end differently."""
    text = str(group["label"]) or "(none)"
    return text if len(text) <= LABEL_CHARS else f"{text[: LABEL_CHARS - 13]}…{text[-12:]}"


def _atomic(group: Json) -> int:
    return int(str(cast("Json", group["spent"])["atomic"]))
