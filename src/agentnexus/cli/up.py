"""`nexus up`: the economy in one terminal, with a status table, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentnexus.devnet.nursery import Nursery

if TYPE_CHECKING:
    from agentnexus.devnet.economy import Plan


@click.command()
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="also describe it in FILE")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--unsafe-local", is_flag=True, help="run agents without isolation (this machine cannot isolate)")
@click.option("--free-ports", is_flag=True, help="take free ports instead of the well-known ones")
def up(json_file: Path | None, workers: int, unsafe_local: bool, free_ports: bool) -> int:
    """Start database, chain, facilitator, registry, agents, workers, API and pages."""
    return asyncio.run(_run(json_file, workers, unsafe_local=unsafe_local, fixed_ports=not free_ports))


async def _run(json_file: Path | None, workers: int, *, unsafe_local: bool, fixed_ports: bool) -> int:
    """The longest part of a start is importing, in the process that forks the roles: that begins first of all."""
    click.echo("starting the economy …")
    started = time.monotonic()
    interrupt = Interrupt()
    nursery = Nursery(Path(os.environ.get("NEXUS_HOME", ".nexus")) / "logs" / "nursery.log")
    try:
        await nursery.start()
        plan = _plan(workers, unsafe_local=unsafe_local, fixed_ports=fixed_ports)
        await _hold(nursery, plan, json_file, interrupt, started)
    except asyncio.CancelledError:
        if not interrupt.wanted.is_set():
            raise
        click.echo("stopped before everything was up")
        return 1
    finally:
        await nursery.stop()
    click.echo("stopped")
    return 0


def _plan(workers: int, *, unsafe_local: bool, fixed_ports: bool) -> Plan:
    from agentnexus.devnet.economy import Plan
    from agentnexus.platform.settings import Settings

    settings = Settings()
    return Plan(
        home=settings.home,
        database_url=settings.database_url,
        workers=workers,
        fixed_ports=fixed_ports,
        unsafe_local=unsafe_local or settings.unsafe_local,
        agents_dir=settings.agents_dir,
    )


async def _hold(nursery: Nursery, plan: Plan, json_file: Path | None, interrupt: Interrupt, started: float) -> None:
    """Up, shown, and down again when that is wanted."""
    from agentnexus.devnet.economy import run_economy, write_description
    from agentnexus.devnet.status import show

    description = plan.home / "devnet.json"
    async with run_economy(plan, lambda line: click.echo(f"  {line}"), nursery) as economy:
        for path in {description, json_file or description}:
            write_description(economy, path)
        click.echo(f"ready in {time.monotonic() - started:.1f} s; everything is described in {description}")
        interrupt.started = True
        await show(economy, interrupt.wanted)
        click.echo("stopping …")
        description.unlink(missing_ok=True)


class Interrupt:
    """What Ctrl-C and SIGTERM do: end the start-up at once, later the waiting; a second one changes nothing."""

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.started = False
        self._task = asyncio.current_task()
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(sign, self._come)

    def _come(self) -> None:
        if self.wanted.is_set():
            return
        self.wanted.set()
        if not self.started and self._task is not None:
            self._task.cancel()
