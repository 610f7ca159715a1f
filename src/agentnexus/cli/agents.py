"""`nexus agents`: what is on sale here, and the tools of an agent's author."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import cast

import click

from agentnexus.cli.amounts import AMOUNT
from agentnexus.cli.printable import printable

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def agents() -> None:
    """List, show, run, make and test agents."""


@agents.command(name="list")
@click.argument("query", default="")
@click.option("--json", "as_json", is_flag=True)
def list_agents(query: str, as_json: bool) -> int:
    """Agents of the running node, matching QUERY."""
    from agentnexus.cli.hire import fetch

    found = cast("list[dict[str, object]]", asyncio.run(fetch("/api/v1/agents", {"query": query} if query else {})))
    if as_json:
        click.echo(json.dumps(found))
        return 0
    if not found:
        click.echo("no agent matches")
    for agent in printable(found):
        click.echo(f"{agent['id']}  {agent['price']} {agent['currency']}\n    {agent['name']}: {agent['summary']}")
    return 0


@agents.command()
@click.argument("agent_id")
def show(agent_id: str) -> int:
    """Everything about one agent, as JSON."""
    from agentnexus.cli.hire import fetch

    click.echo(json.dumps(asyncio.run(fetch(f"/api/v1/agents/{agent_id}", {})), indent=2))
    return 0


@agents.command()
@click.argument("agent_id")
@click.option("--input", "input_json", required=True, help="the job's input as JSON, or @FILE")
@click.option("--max-price", required=True, type=AMOUNT, help="in USDC, e.g. 0.05")
@click.option("--json", "as_json", is_flag=True)
def run(agent_id: str, input_json: str, max_price: str, as_json: bool) -> int:
    """Hire exactly this agent for one job, whoever else sells what it does (`nexus hire` takes the best)."""
    from agentnexus.cli.hire import fetch, hire_one, parse_input

    listing = cast("dict[str, dict[str, object]]", asyncio.run(fetch(f"/api/v1/agents/{agent_id}", {})))
    sold = listing["x402"]
    payee = cast("list[dict[str, object]]", sold["accepts"])[0]["payTo"]
    pinned = {"seller": f"evm:{str(payee).lower()}", "endpoint": sold["resource"]}
    body = {"need": listing["capability"], "input": parse_input(input_json), "max_price": max_price, **pinned}
    return hire_one(body, as_json=as_json)


@agents.command()
@click.argument("folder", type=click.Path(path_type=Path))
def new(folder: Path) -> int:
    """Make a working agent in FOLDER to start from."""
    from agentnexus.bootstrap.authoring import make_agent

    for path in make_agent(folder):
        click.echo(f"made {path}")
    click.echo(f"try it:  nexus agents test {folder}")
    return 0


@agents.command()
@click.argument("folder", type=FOLDER)
@click.option("--unsafe-local", is_flag=True, help="without isolation")
def test(folder: Path, unsafe_local: bool) -> int:
    """Run the agent in FOLDER on its own examples, in the sandbox, and check the outputs."""
    from agentnexus.bootstrap.authoring import try_examples

    outcomes = asyncio.run(try_examples(folder, unsafe_local=unsafe_local))
    for outcome in outcomes:
        click.secho(
            f"{'ok  ' if outcome.good else 'FAIL'} {outcome.title}  {outcome.note}", fg=None if outcome.good else "red"
        )
    return 0 if outcomes and all(outcome.good for outcome in outcomes) else 1
