"""`nexus wallet balance` and `history`: what a person's account holds, and what came in and went out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import click

from agentnexus.cli.account import WALLET, Json, ask, say
from agentnexus.cli.amounts import spell
from agentnexus.cli.bought import timed
from agentnexus.cli.options import json_option

STATES = {
    "succeeded": "",
    "unsigned": "waits for your signature",
    "signed": "on its way",
    "rejected": "never sent, and never will be",
}


@click.command()
@json_option
def balance(as_json: bool) -> int:
    """Show what your account holds, in its tokens and in dollars."""
    held = cast("Json", ask("GET", f"{WALLET}/balance"))
    return say(held, _balance_lines, as_json=as_json)


def _balance_lines(held: Json) -> Iterator[str]:
    for each in cast("list[Json]", held["balances"]):
        worth = "" if each["usd"] is None else f"{each['usd']:>12} USD"
        yield f"{spell(each['amount']):>24} {each['symbol']:<6}{worth}"
    yield f"{held['total_usd']:>43} USD in all, in block {held['block_number']}"


@click.command()
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@click.option("--before", default="", help="go on where an earlier page ended")
@json_option
def history(limit: int, before: str, as_json: bool) -> int:
    """Show what came in and went out, and what else your account did, newest first."""
    found = cast("Json", ask("GET", f"{WALLET}/transactions", limit=limit, before=before))
    return say(found, _history_lines, as_json=as_json)


def _history_lines(found: Json) -> Iterator[str]:
    lines = cast("list[Json]", found["transactions"])
    for each in lines:
        sign = {"in": "+", "out": "-"}.get(str(each["kind"]), "")
        amount = "" if each["amount"] is None else f"{sign}{spell(each['amount'])} {each['symbol']}"
        ended = "discarded" if each.get("discarded") else STATES.get(str(each["state"]), str(each["state"]))
        state = f"  ({ended})" if ended else ""
        yield f"{timed(each['at'])}  {amount:>20}  {each['title']}{state}"
        if each["transaction"]:
            yield f"{'':>43}{each['transaction']}"
    if not lines:
        yield "nothing yet; nexus wallet account says where to send USDC"
    elif found["next"]:
        yield f"more: nexus wallet history --before {found['next']}"
