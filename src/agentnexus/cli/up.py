"""`nexus up`: the economy in one terminal, with a status table, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import click


@click.command()
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="also describe it in FILE")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--unsafe-local", is_flag=True, help="run agents without isolation (this machine cannot isolate)")
@click.option("--free-ports", is_flag=True, help="take free ports instead of the well-known ones")
def up(json_file: Path | None, workers: int, unsafe_local: bool, free_ports: bool) -> int:
    """Start database, chain, facilitator, registry, agents, workers, API and pages."""
    from agentnexus.devnet.economy import Plan
    from agentnexus.platform.settings import Settings

    settings = Settings()
    plan = Plan(
        home=settings.home,
        database_url=settings.database_url,
        workers=workers,
        fixed_ports=not free_ports,
        unsafe_local=unsafe_local or settings.unsafe_local,
        agents_dir=settings.agents_dir,
    )
    asyncio.run(_run(plan, json_file))
    return 0


async def _run(plan: object, json_file: Path | None) -> None:
    from agentnexus.devnet.economy import Plan, run_economy, write_description
    from agentnexus.devnet.status import show

    assert isinstance(plan, Plan)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(sign, stop.set)
    started = time.monotonic()
    description = plan.home / "devnet.json"
    starting = asyncio.create_task(stop.wait())
    click.echo("starting the economy …")
    async with run_economy(plan) as economy:
        for path in {description, json_file or description}:
            write_description(economy, path)
        click.echo(f"ready in {time.monotonic() - started:.1f} s; everything is described in {description}")
        await show(economy, stop)
        click.echo("stopping …")
    starting.cancel()
    description.unlink(missing_ok=True)
    click.echo("stopped")
