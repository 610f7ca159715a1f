"""`nexus budget`: how much may be spent, how much is, and changing it."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import click

from agentnexus.cli.options import json_option

LIMITS = ("per_payment", "per_task", "per_hour", "per_day", "total")


@click.command()
@click.option("--set", "changes", multiple=True, metavar="LIMIT=AMOUNT", help=f"one of {', '.join(LIMITS)}, in USDC")
@json_option
def budget(changes: tuple[str, ...], as_json: bool) -> int:
    """Show your budget; with --set change its limits (``--set per_day=5``, ``--set per_day=none``)."""
    wanted: dict[str, str | None] = {}
    for change in changes:
        name, _, amount = change.partition("=")
        if name not in LIMITS or not amount:
            raise click.UsageError(f"{change!r} is not LIMIT=AMOUNT with LIMIT one of {', '.join(LIMITS)}")
        wanted[name] = None if amount == "none" else amount
    status = asyncio.run(_budget(wanted))
    if as_json:
        click.echo(json.dumps(status))
        return 0
    from agentnexus.cli.view import money

    click.echo(f"budget {status['id']}: spent {money(status['spent'])}, reserved {money(status['reserved'])}")
    for limit, entry in cast("dict[str, dict[str, object]]", status["limits"]).items():
        click.echo(f"  {limit:<16} {money(entry['limit']):>20}   left {money(entry.get('left'))}")
    return 0


async def _budget(changes: dict[str, str | None]) -> dict[str, object]:
    from agentnexus.cli.node import api, find_node

    async with api(find_node()) as client:
        if changes:
            return cast("dict[str, object]", (await client.patch("/api/v1/budget", json=changes)).json()["data"])
        return cast("dict[str, object]", (await client.get("/api/v1/budget")).json()["data"])
