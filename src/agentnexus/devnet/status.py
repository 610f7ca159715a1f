"""The status table of `nexus up`: live in a terminal, printed once elsewhere."""

from __future__ import annotations

import asyncio

from rich.console import Console
from rich.live import Live
from rich.table import Table

from agentnexus.devnet.economy import Economy

REFRESH_SECONDS = 1.0
COLOURS = {"running": "green", "restarting": "yellow"}


def table(economy: Economy) -> Table:
    """One row per part."""
    view = Table(title=f"AgentNexus  ·  open {economy.urls['api']}  ·  Ctrl-C stops", title_justify="left")
    for column in ("part", "where", "state", "restarts", "pid"):
        view.add_column(column)
    for part in economy.status():
        colour = COLOURS.get(part.state, "red")
        view.add_row(part.name, part.where, f"[{colour}]{part.state}[/]", str(part.restarts or ""), str(part.pid or ""))
    return view


async def show(economy: Economy, stop: asyncio.Event) -> None:
    """Keep the table up to date until `stop`."""
    console = Console()
    if not console.is_terminal:
        console.print(table(economy))
        await stop.wait()
        return
    with Live(table(economy), console=console, auto_refresh=False) as live:
        while not stop.is_set():
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await stop.wait()
            except TimeoutError:
                live.update(table(economy), refresh=True)
