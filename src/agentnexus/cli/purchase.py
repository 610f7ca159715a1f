"""Runs and months bought ahead, and runs on them: `nexus agents buy`, `nexus agents execute`, `nexus purchase`."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import TYPE_CHECKING, cast
from urllib.parse import quote
from uuid import uuid4

import click

from agentnexus.cli.amounts import AMOUNT, spell
from agentnexus.cli.bought import (
    COLOURS,
    ENDS,
    MOVING,
    PERIOD,
    bought,
    comes_back,
    left_of,
    replaces,
    show_given_back,
    show_purchase,
    timed,
    what_of,
    words,
)
from agentnexus.cli.operations import Course, How, carry_out, finish, followed, how_options, show_problem
from agentnexus.cli.options import done, json_option
from agentnexus.cli.printable import printable

if TYPE_CHECKING:
    import httpx

    from agentnexus.cli.approving import Asked

Json = dict[str, object]
API = "/api/v1"
USDC_DECIMALS = 6
PURCHASE = Course(f"{API}/purchases", words, ENDS, MOVING)
REFUND = Course(f"{API}/purchases", words, {"completed": 1, "failed": 0, "refunded": 0}, MOVING)
USE = Course(f"{API}/me/uses", lambda made: str(made["state"]), ENDS)


@click.command()
@click.argument("agent_id")
@click.option("--runs", type=click.IntRange(1, 1000), help="how many runs; one, if you say nothing")
@click.option("--month", is_flag=True, help="instead of runs: until the month ends; bought again, the next one")
@click.option("--upgrade", is_flag=True, help="with --month: unused runs are given back once the month is there")
@click.option("--budget", type=AMOUNT, help="the most it may cost, in USDC; then nothing is asked")
@click.option("--key", default="", help="idempotency key: the same key is the same purchase")
@how_options
def buy(
    agent_id: str, runs: int | None, month: bool, upgrade: bool, budget: str | None, key: str, how: How
) -> int:  # fmt: skip
    """Buy runs of an agent, or a month of it, from your wallet.

    Runs are paid as they succeed, and the rest comes back when you want. A month is paid with its first run that
    succeeds, and comes back before that. `nexus agents execute` uses both.
    """
    if month and runs is not None:
        raise click.UsageError("give --runs or --month, not both")
    if upgrade and not month:
        raise click.UsageError("--upgrade is for --month: runs become a month")
    order: Json = {"kind": PERIOD if month else "runs", "quantity": runs or 1}
    made = asyncio.run(_buy(agent_id, order, upgrade, budget, key or uuid4().hex, how))
    return finish(made, how, show_purchase, PURCHASE)


async def _buy(agent_id: str, order: Json, upgrade: bool, budget: str | None, key: str, how: How) -> Json:
    from agentnexus.core.errors import InvalidInput

    place = f"{API}/agents/{quote(agent_id, safe='')}"
    async with _api() as client:
        agent = cast("Json", (await client.get(place)).json()["data"])
        if order["kind"] == PERIOD and "month" in agent and agent["month"] is None:
            raise InvalidInput(
                printable(f"{agent['name']} is sold by the run"), next_step="leave --month out, and say --runs N"
            )
        offer = cast("Json", (await client.get(f"{place}/quote", params=cast("dict[str, str]", order))).json()["data"])
        amount = Decimal(str(offer["amount"]))
        what = what_of(order["kind"], order["quantity"], agent["name"], offer.get("ends_at"))
        if upgrade:
            how.tell(replaces(offer))
        _agree(amount, what, str(offer["currency"]), budget, how)
        body = {**order, "at_most": f"{amount:f}", "upgrade": upgrade}
        answer = await client.post(f"{place}/purchase", json=body, headers={"Idempotency-Key": key})
        made = cast("Json", answer.json()["data"])
        if made.get("ends_at") != offer.get("ends_at"):  # asked again under a key, when the present month was taken
            how.agree(printable(f"this key is of {bought(made)}. Go on?"))
        return await _signed(client, {**made, "agent_id": agent_id}, amount, how)


def _agree(amount: Decimal, what: str, currency: str, budget: str | None, how: How) -> None:
    """Raises `BudgetExceeded` over what was typed; asks where nothing was."""
    from agentnexus.core.errors import BudgetExceeded

    if budget is None:
        how.agree(
            printable(f"buy {what} for {spell(amount)} {currency}?"), "--yes, or --budget with the most it may cost"
        )
    elif amount > Decimal(budget):
        raise BudgetExceeded(
            printable(f"{what} cost {spell(amount)} {currency}, and at most {budget} is allowed"),
            next_step="buy less, or give a larger --budget",
        )


async def _signed(client: httpx.AsyncClient, made: Json, amount: Decimal, how: How) -> Json:
    """Carried out; signed is only a deposit of what it costs, `amount` at most, for exactly what is shown."""

    def check(asked: Asked) -> None:
        from agentnexus.cli.approving import atomic, require_purchase
        from agentnexus.cli.rights import rights_of

        costs, token = min(Decimal(str(made["amount"])), amount), str(made["asset"]).rpartition(":")[2]
        require_purchase(asked, token=token, amount_atomic=atomic(f"{costs:f}", USDC_DECIMALS), rights=rights_of(made))

    return await carry_out(client, made, how, check, PURCHASE)


@click.command()
@click.argument("agent_id")
@click.option("--input", "input_json", required=True, help="the run's input as JSON, or @FILE")
@click.option("--key", default="", help="idempotency key: the same key is the same run")
@click.option("--wait/--no-wait", default=True, help="until it has ended (the default), or only begin it")
@json_option
def execute(agent_id: str, input_json: str, key: str, wait: bool, as_json: bool) -> int:
    """Run an agent on what you have bought of it; a run that fails costs nothing and is not used up."""
    from agentnexus.cli.hire import parse_input

    how, value = How(None, None, wait=wait, yes=False, as_json=as_json), parse_input(input_json)

    async def executed() -> Json:
        async with _api() as client:
            path = f"{API}/agents/{quote(agent_id, safe='')}/execute"
            headers = {"Idempotency-Key": key or uuid4().hex}
            answer = await client.post(path, json={"input": value}, headers=headers, timeout=600)
            made = cast("Json", answer.json()["data"])
            return await followed(client, made, how, USE) if wait else made

    return finish(asyncio.run(executed()), how, _show_use, USE)


def _show_use(shown: Json) -> None:
    from agentnexus.cli.view import summary

    click.secho(f"{shown['state']}  {shown['id']}", fg=COLOURS.get(str(shown["state"]), "yellow"))
    if shown.get("output") is not None:
        click.echo(summary(shown["output"]))
    show_problem(shown.get("error"))


@click.group()
def purchase() -> None:
    """Runs and months that you bought: how far each got, and your money back."""


@purchase.command(name="list")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@click.option("--before", default="", help="go on after this purchase")
@json_option
def list_purchases(limit: int, before: str, as_json: bool) -> int:
    """Your purchases, newest first."""
    from agentnexus.cli.hire import fetch

    parameters = {"limit": limit} | ({"before": before} if before else {})
    found = cast("list[Json]", asyncio.run(fetch(f"{API}/me/purchases", parameters)))
    if as_json:
        return done("", found, as_json=True)
    for each in printable(found):
        paid = f"{spell(each['amount'])} {each['currency']}"
        click.echo(f"{timed(each['created_at'])}  {each['id']}  {bought(each)}  {paid}  {words(each)}{left_of(each)}")
    if not found:
        click.echo("none before that, if it is yours" if before else "nothing bought yet: nexus agents buy ID --runs 5")
    return 0


@purchase.command()
@click.argument("purchase_id")
@click.option("--wait", is_flag=True, help="until it has ended")
@json_option
def show(purchase_id: str, wait: bool, as_json: bool) -> int:
    """How far a purchase got, and what is left of it."""
    how = How(None, None, wait=wait, yes=False, as_json=as_json)

    async def looked() -> Json:
        async with _api() as client:
            found = await _one(client, purchase_id)
            goes_on = wait and found.get("step") != "signing"
            return await followed(client, found, how, PURCHASE) if goes_on else found

    return finish(asyncio.run(looked()), how, show_purchase, PURCHASE)


@purchase.command()
@click.argument("purchase_id")
@how_options
def sign(purchase_id: str, how: How) -> int:
    """Sign a purchase that waits for your key; nothing but its amount leaves the wallet."""
    if how.key_file is None:
        raise click.UsageError("give --key-file")

    async def signed() -> Json:
        async with _api() as client:
            found = await _one(client, purchase_id)
            amount = Decimal(str(found["amount"]))
            if isinstance(found.get("sign"), dict):
                _agree(amount, bought(found), str(found["currency"]), None, how)
            return await _signed(client, found, amount, how)

    return finish(asyncio.run(signed()), how, show_purchase, PURCHASE)


@purchase.command()
@click.argument("purchase_id")
@click.option("--wait/--no-wait", default=True, help="until the money is back (the default), or only ask for it")
@click.option("--yes", is_flag=True, help="do not ask; asked is only about a month")
@json_option
def refund(purchase_id: str, wait: bool, yes: bool, as_json: bool) -> int:
    """Take back what was not used of a purchase; a month ends with that, so you are asked first."""
    how = How(None, None, wait=wait, yes=yes, as_json=as_json)
    told: list[str] = []

    async def refunded() -> Json:
        async with _api() as client:
            found = await _one(client, purchase_id)
            told.append(comes_back(found))
            if found["state"] == "completed" and found.get("refundable") and found.get("kind") == PERIOD:
                how.agree(printable(f"give {bought(found)} back for {told[0]}? it is over then"))
            answer = await client.post(f"{API}/purchases/{quote(purchase_id, safe='')}/refund")
            made = cast("Json", answer.json()["data"])
            return await followed(client, made, how, REFUND) if wait else made

    return finish(asyncio.run(refunded()), how, lambda shown: show_given_back(shown, told[0]), REFUND)


async def _one(client: httpx.AsyncClient, purchase_id: str) -> Json:
    return cast("Json", (await client.get(f"{API}/purchases/{quote(purchase_id, safe='')}")).json()["data"])


def _api() -> AbstractAsyncContextManager[httpx.AsyncClient]:
    from agentnexus.cli.node import api, find_node

    return api(find_node())
