"""`nexus offers` and `nexus hire`: see what all markets sell for a need, and buy one."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import click


@click.command()
@click.argument("need")
@click.option(
    "--strategy", type=click.Choice(["value", "price", "reputation", "latency", "composite"]), default="value"
)
@click.option("--json", "as_json", is_flag=True)
def offers(need: str, strategy: str, as_json: bool) -> int:
    """Compare the offers for NEED (a capability such as pdf.extract, or plain words)."""
    found = asyncio.run(fetch("/api/v1/offers", {"need": need, "strategy": strategy}))
    if as_json:
        click.echo(json.dumps(found))
        return 0
    from rich.console import Console
    from rich.table import Table

    from agentnexus.cli.view import money

    table = Table(title=f"offers for {need!r}", title_justify="left")
    for column in ("#", "offer", "capability", "market", "price", "reputation", "value", "why"):
        table.add_column(column)
    for number, ranked in enumerate(cast("list[dict[str, object]]", found), 1):
        offer = cast("dict[str, dict[str, object]]", ranked["offer"])
        count = offer["reputation"]["count"]
        table.add_row(
            str(number),
            str(offer["title"]),
            str(offer["capability"]["name"]),
            str(offer["market"]),
            money(offer["price"]["per_job"]),
            f"{offer['reputation']['score']:.1f} ({count})" if count else "new",
            f"{ranked['value_score']:.3g}",
            "; ".join(str(reason) for reason in cast("list[object]", ranked["reasons"]))[:60],
        )
    Console(highlight=False).print(table)
    return 0


@click.command()
@click.argument("need")
@click.option("--input", "input_json", required=True, help="the job's input as JSON, or @FILE")
@click.option("--max-price", required=True, help="in USDC, e.g. 0.05")
@click.option("--key", default="", help="idempotency key: the same key is the same hire")
@click.option("--json", "as_json", is_flag=True)
def hire(need: str, input_json: str, max_price: str, key: str, as_json: bool) -> int:
    """Hire the best seller for NEED, pay at most --max-price, print result and receipt."""
    body = {"need": need, "input": _input(input_json), "max_price": max_price, "key": key}
    done = cast("dict[str, object]", asyncio.run(send("/api/v1/hire", body)))
    if as_json:
        click.echo(json.dumps(done))
        return 0
    from agentnexus.cli.view import TaskView, summary

    view = TaskView()
    view.console.print(summary(done["output"]), markup=False)
    view.receipts([cast("dict[str, object]", done["receipt"])])
    return 0


def _input(text: str) -> object:
    from pathlib import Path

    raw = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
    try:
        return json.loads(raw)
    except ValueError as error:
        raise click.UsageError(f"--input is not JSON: {error}") from error


async def fetch(path: str, parameters: dict[str, str]) -> object:
    """``data`` of a GET on the running node."""
    from agentnexus.cli.node import api, find_node

    async with api(find_node()) as client:
        return (await client.get(path, params=parameters)).json()["data"]


async def send(path: str, body: object) -> object:
    """``data`` of a POST on the running node."""
    from agentnexus.cli.node import api, find_node

    async with api(find_node()) as client:
        return (await client.post(path, json=body, timeout=600)).json()["data"]
