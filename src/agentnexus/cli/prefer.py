"""`nexus prefer`: your lists of sellers to take first and sellers never to hire."""

from __future__ import annotations

import asyncio
from typing import cast

import click

from agentnexus.cli.options import done, json_option
from agentnexus.cli.printable import printable

PATH = "/api/v1/preferences"
SAID = {"preferred": "is taken first where it serves", "blocked": "is never hired for you again"}


@click.command()
@click.argument("seller", required=False)
@click.option("--prefer", "kind", flag_value="preferred", help="take it first where it serves (the default)")
@click.option("--block", "kind", flag_value="blocked", help="never hire it")
@click.option("--clear", "kind", flag_value="clear", help="take it off your lists")
@json_option
def prefer(seller: str | None, kind: str | None, as_json: bool) -> int:
    """Prefer SELLER or block it; without one, show your lists.

    SELLER is its key, such as evm:0x…: `nexus offers` and receipts name it.
    """
    if seller is None:
        if kind is not None:
            raise click.UsageError("name the seller")
        return _show(as_json=as_json)
    answer = asyncio.run(_change(seller, kind or "preferred"))
    key = printable(str(answer["seller"]))
    message = f"{key} is on none of your lists" if kind == "clear" else f"{key} {SAID[str(answer['kind'])]}"
    return done(message, answer, as_json=as_json)


def _show(*, as_json: bool) -> int:
    from agentnexus.cli.hire import fetch

    listed = cast("list[dict[str, str]]", asyncio.run(fetch(PATH, {})))
    lines = [f"{each['kind']:<10} {printable(each['seller'])}" for each in listed]
    return done("\n".join(lines) or "your lists are empty", listed, as_json=as_json)


async def _change(seller: str, kind: str) -> dict[str, object]:
    from agentnexus.cli.node import api, find_node

    async with api(find_node()) as client:
        if kind == "clear":
            answer = await client.delete(PATH, params={"seller": seller})
        else:
            answer = await client.put(PATH, json={"seller": seller, "kind": kind})
    return cast("dict[str, object]", answer.json()["data"])
