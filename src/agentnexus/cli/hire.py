"""`nexus offers` and `nexus hire`: see what all markets sell for a need, and buy one."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import click

from agentnexus.cli.amounts import AMOUNT
from agentnexus.cli.options import json_option
from agentnexus.cli.printable import printable

if TYPE_CHECKING:
    import httpx

strategy_option = click.option(
    "--strategy",
    type=click.Choice(["value", "price", "reputation", "latency", "composite"]),
    default="value",
    help="how offers are ordered",
)


def limit_options(command: Callable[..., int]) -> Callable[..., int]:
    """Whom to leave out; the command gets what is set as ``limits``, in the API's words."""

    @click.option("--min-reputation", type=click.FloatRange(0, 5), help="the least reputation, 0 to 5")
    @click.option("--market", multiple=True, help="only this market, e.g. x402 (repeat it for more)")
    @click.option("--network", multiple=True, help="paid on this network, e.g. eip155:8453 (repeat it for more)")
    @click.option("--region", help="not in another region than this one")
    @functools.wraps(command)
    def with_limits(
        *arguments: object,
        min_reputation: float | None,
        market: tuple[str, ...],
        network: tuple[str, ...],
        region: str | None,
        **more: object,
    ) -> int:
        given = {"min_reputation": min_reputation, "market": list(market), "network": list(network), "region": region}
        limits = {name: value for name, value in given.items() if value not in (None, [])}
        return command(*arguments, limits=limits, **more)

    return with_limits


@click.command()
@click.argument("need")
@strategy_option
@click.option("--max-price", type=AMOUNT, help="in USDC, e.g. 0.05")
@limit_options
@json_option
def offers(need: str, strategy: str, max_price: str | None, limits: dict[str, object], as_json: bool) -> int:
    """Compare the offers for NEED (a capability such as pdf.extract, or plain words)."""
    wanted = {"need": need, "strategy": strategy, **limits} | ({"max_price": max_price} if max_price else {})
    body = asyncio.run(fetch_body("/api/v1/offers", wanted))
    missing = cast("list[dict[str, str]]", printable(body.get("missing", [])))
    for market in missing:  # beside the list, which stays the same for programs
        click.secho(f"{market['market']} did not answer: {market['reason']}", fg="yellow", err=True)
    if as_json:
        click.echo(json.dumps(body["data"]))
        return 0
    entries = cast("list[dict[str, object]]", body["data"])
    if not entries:
        click.echo(_nobody(need, [market["market"] for market in missing]))
        left_out = cast("dict[str, int]", printable(body.get("left_out", {})))
        for rule, count in left_out.items():
            click.echo(f"  {count} left out: {rule}")
    for number, ranked in enumerate(printable(entries), 1):
        _show_offer(number, ranked)
    return 0


def _nobody(need: str, missing: list[str]) -> str:
    """An empty list of offers in words; a market that is down may well sell it."""
    if missing:
        return f"nobody else sells {need!r} right now; try again when {' and '.join(missing)} answers"
    return f"nobody sells {need!r} right now; see `nexus agents list`"


def _show_offer(number: int, ranked: dict[str, object]) -> None:
    """Four lines: what and how much, how good, from whom, and why it is ranked here."""
    from agentnexus.cli.view import money

    offer = cast("dict[str, dict[str, object]]", ranked["offer"])
    reputation = offer["reputation"]
    stars = f"{reputation['score']:.1f} of 5 ({reputation['count']})" if reputation["count"] else "not rated yet"
    click.secho(f"{number:>2}  {offer['title']}  {money(offer['price']['per_job'])}", bold=True)
    click.echo(f"    {offer['capability']['name']} on {offer['market']}  {stars}  value {ranked['value_score']:.3g}")
    name, key = offer["seller"]["name"], ranked["seller"]
    click.echo(f"    from {f'{name}, {key}' if name else key}")
    click.echo(f"    {'; '.join(str(reason) for reason in cast('list[object]', ranked['reasons']))}")


@click.command()
@click.argument("need")
@click.option("--input", "input_json", required=True, help="the job's input as JSON, or @FILE")
@click.option("--max-price", required=True, type=AMOUNT, help="in USDC, e.g. 0.05")
@click.option("--key", default="", help="idempotency key: the same key is the same hire")
@strategy_option
@click.option(
    "--policy",
    type=click.Choice(["balanced", "best", "cheapest", "round_robin"]),
    default="balanced",
    help="how one is taken from the ordered offers",
)
@limit_options
@json_option
def hire(
    need: str,
    input_json: str,
    max_price: str,
    key: str,
    strategy: str,
    policy: str,
    limits: dict[str, object],
    as_json: bool,
) -> int:
    """Hire the best seller for NEED, pay at most --max-price, print result and receipt."""
    body = {"need": need, "input": parse_input(input_json), "max_price": max_price, "key": key}
    body |= {"strategy": strategy, "policy": policy, **limits}
    return hire_one(body, as_json=as_json)


def hire_one(body: dict[str, object], *, as_json: bool) -> int:
    """Send a body of ``POST /hire`` and print result and receipt."""
    done = cast("dict[str, object]", asyncio.run(send("/api/v1/hire", body)))
    if as_json:
        click.echo(json.dumps(done))
        return 0
    from agentnexus.cli.view import TaskView, summary

    view = TaskView()
    view.console.print(summary(printable(done["output"])), markup=False)
    view.receipts([cast("dict[str, object]", done["receipt"])])
    return 0


def parse_input(text: str) -> object:
    """What ``--input`` says: JSON, or ``@FILE``."""
    from pathlib import Path

    try:
        raw = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
        return json.loads(raw)
    except OSError as error:
        raise click.UsageError(f"--input {text}: {error.strerror}") from error
    except ValueError as error:
        raise click.UsageError(f"--input is not JSON: {error}") from error


async def fetch(path: str, parameters: Mapping[str, object]) -> object:
    """``data`` of a GET on the running node."""
    return (await fetch_body(path, parameters))["data"]


async def fetch_body(path: str, parameters: Mapping[str, object]) -> dict[str, object]:
    """The whole answer to a GET on the running node, with what stands beside ``data``."""
    from agentnexus.cli.node import api, find_node

    async with api(find_node()) as client:
        return cast("dict[str, object]", (await client.get(path, params=as_query(parameters))).json())


def as_query(parameters: Mapping[str, object]) -> httpx.QueryParams:
    """A list is its name once for each of its values."""
    import httpx

    return httpx.QueryParams(
        {
            name: [str(each) for each in value] if isinstance(value, list) else str(value)
            for name, value in parameters.items()
        }
    )


async def send(path: str, body: object) -> object:
    """``data`` of a POST on the running node."""
    from agentnexus.cli.node import api, find_node

    async with api(find_node()) as client:
        return (await client.post(path, json=body, timeout=600)).json()["data"]
