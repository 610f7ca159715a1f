"""The roles a node can play, one process each: `serve`, `worker`, `facilitator`, `registry`; and `db`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import click

from agentnexus.cli.options import done, json_option


def _start(role: str, run: Callable[[], Awaitable[None]]) -> int:
    import uvloop

    from agentnexus.platform.logs import configure_logs
    from agentnexus.platform.settings import Settings
    from agentnexus.platform.telemetry import configure_traces, serve_metrics

    settings = Settings()
    configure_logs(settings.log_level, role=role)
    configure_traces(role)
    if settings.metrics_port is not None:
        serve_metrics(settings.metrics_port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_awaited(run))
    return 0


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()


port_option = click.option("--port", type=click.IntRange(1, 65535), required=True)
host_option = click.option("--host", default="127.0.0.1", show_default=True)


@click.command()
@host_option
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def serve(host: str, port: int) -> int:
    """API, pages and the seller's side of the listed agents."""
    from agentnexus.bootstrap.roles.api import run_api

    return _start("api", lambda: run_api(host, port))


@click.command()
def worker() -> int:
    """Run workflows, repair what a crash left open, follow the chain."""
    from agentnexus.bootstrap.roles.worker import run_worker

    return _start("worker", run_worker)


@click.command()
@host_option
@port_option
def facilitator(host: str, port: int) -> int:
    """x402 verify and settle over HTTP."""
    from agentnexus.bootstrap.roles.facilitator import run_facilitator

    return _start("facilitator", lambda: run_facilitator(host, port))


@click.command()
@host_option
@port_option
def registry(host: str, port: int) -> int:
    """x402 registry and Bazaar over HTTP."""
    from agentnexus.bootstrap.roles.registry import run_registry

    return _start("registry", lambda: run_registry(host, port))


@click.command()
@click.argument("revision", default="head")
@json_option
def db(revision: str, as_json: bool) -> int:
    """Migrate the database of DATABASE_URL to REVISION (default: the newest)."""
    from agentnexus.core.errors import InvalidInput
    from agentnexus.platform.migrations.run import migrate
    from agentnexus.platform.settings import Settings

    url = Settings().database_url
    if url is None:
        raise InvalidInput("DATABASE_URL is not set", next_step="`nexus up` migrates the embedded database by itself")
    asyncio.run(migrate(url, revision))
    return done(f"the database is at {revision}", {"revision": revision}, as_json=as_json)
