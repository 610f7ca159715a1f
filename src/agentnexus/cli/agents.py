"""`nexus agents`: what is on sale here, and the tools of an agent's author."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import click

from agentnexus.cli.amounts import AMOUNT, spell
from agentnexus.cli.options import done, json_option
from agentnexus.cli.printable import printable
from agentnexus.cli.purchase import buy, execute

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def agents() -> None:
    """List, show, run, buy, make and test agents."""


agents.add_command(buy)
agents.add_command(execute)


@agents.command(name="list")
@click.argument("query", default="")
@json_option
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
        click.echo(f"{agent['id']}  {_price(agent)}{_monthly(agent)}\n    {agent['name']}: {agent['summary']}")
    return 0


def _price(agent: dict[str, object]) -> str:
    return f"{spell(agent['price'])} {agent['currency']}"


def _monthly(agent: dict[str, object]) -> str:
    """``, or 5.00 USDC per month``, where it is sold so."""
    month = cast("dict[str, object] | None", agent.get("month"))
    return f", or {spell(month['price'])} {agent['currency']} per month" if month else ""


def _ways_to_buy(agent: dict[str, object]) -> Iterator[str]:
    """What can be bought of it ahead, to be typed."""
    month = cast("dict[str, object] | None", agent.get("month"))
    buy = f"nexus agents buy {agent['id']}"
    yield f"buy runs: {buy} --runs 5"
    if month:
        runs = "as many runs as you like" if month.get("runs") is None else f"at most {month['runs']} runs"
        yield f"a month:  {buy} --month   # {runs}"
    if agent.get("transferable"):
        yield "what you buy of it can be passed on: nexus entitlements pass-on"


@agents.command()
@click.argument("agent_id")
@json_option
def show(agent_id: str, as_json: bool) -> int:
    """One agent: what it does, asks for and takes; with --json everything about it, schemas as well."""
    from agentnexus.cli.hire import fetch

    found = cast("dict[str, object]", asyncio.run(fetch(f"/api/v1/agents/{agent_id}", {})))
    if as_json:
        click.echo(json.dumps(found))
        return 0
    shown = printable(found)
    click.secho(f"{shown['name']}  {_price(shown)} per run{_monthly(shown)}", bold=True)
    click.echo(f"{shown['summary']}\n")
    for label, value in (("capability", shown["capability"]), ("version", shown["version"]), ("id", shown["id"])):
        click.echo(f"  {label:<11} {value}")
    schema = cast("dict[str, object]", shown["inputSchema"])
    needed = cast("list[str]", schema.get("required", []))
    for at, name in enumerate(cast("dict[str, object]", schema.get("properties", {}))):
        click.echo(f"  {'' if at else 'input':<11} {name}{' (needed)' if name in needed else ''}")
    for at, name in enumerate(_outputs(cast("dict[str, object]", shown.get("outputSchema") or {}))):
        click.echo(f"  {'' if at else 'output':<11} {name}")
    click.echo(f"\nhire it:  nexus agents run {shown['id']} --input @input.json --max-price {_price(shown).split()[0]}")
    click.echo("\n".join(_ways_to_buy(shown)))
    return 0


def _outputs(schema: dict[str, object]) -> list[str]:
    """Names of what it answers; of the result inside, where that is in an envelope of ours."""
    fields = cast("dict[str, dict[str, object]]", schema.get("properties", {}))
    result = fields.get("result", {})
    kinds = cast("dict[str, dict[str, object]]", schema.get("$defs", {}))
    inner = kinds.get(str(result.get("$ref", "")).rpartition("/")[2], result)
    return list(cast("dict[str, object]", inner.get("properties", fields)))


@agents.command()
@click.argument("agent_id")
@click.option("--input", "input_json", required=True, help="the job's input as JSON, or @FILE")
@click.option("--max-price", required=True, type=AMOUNT, help="in USDC, e.g. 0.05")
@json_option
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
@json_option
def new(folder: Path, as_json: bool) -> int:
    """Make a working agent in FOLDER to start from."""
    from agentnexus.bootstrap.authoring import make_agent

    made = [str(path) for path in make_agent(folder)]
    said = "\n".join([*(f"made {path}" for path in made), f"try it:  nexus agents test {folder}"])
    return done(said, {"made": made}, as_json=as_json)


@agents.command()
@click.argument("folder", type=FOLDER)
@click.option("--unsafe-local", is_flag=True, help="without isolation")
@json_option
def test(folder: Path, unsafe_local: bool, as_json: bool) -> int:
    """Run the agent in FOLDER on its own examples, in the sandbox, and check the outputs."""
    from agentnexus.bootstrap.authoring import try_examples

    outcomes = asyncio.run(try_examples(folder, unsafe_local=unsafe_local))
    if as_json:
        click.echo(json.dumps([{"good": each.good, "title": each.title, "note": each.note} for each in outcomes]))
    for outcome in outcomes if not as_json else ():
        click.secho(
            f"{'ok  ' if outcome.good else 'FAIL'} {outcome.title}  {outcome.note}", fg=None if outcome.good else "red"
        )
    return 0 if outcomes and all(outcome.good for outcome in outcomes) else 1
