"""`nexus entitlements`: what you may run because you bought it or were given it, and passing it on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

import click

from agentnexus.cli.account import carry
from agentnexus.cli.bought import PERIOD, what_of
from agentnexus.cli.operations import How, how_options
from agentnexus.cli.options import done, json_option
from agentnexus.cli.purchase import API

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentnexus.cli.approving import Asked, Tokens

Json = dict[str, object]
STATUSES = {"active": "", "used_up": "  used up", "expired": "  over", "revoked": "  not yours any more"}


@click.group(invoke_without_command=True)
@click.pass_context
@json_option
def entitlements(ctx: click.Context, as_json: bool) -> int:
    """Show what you have bought: runs that are left, and months with their ends."""
    return 0 if ctx.invoked_subcommand else _show(as_json)


def _show(as_json: bool) -> int:
    from agentnexus.cli.hire import fetch
    from agentnexus.cli.printable import printable

    found = cast("list[Json]", asyncio.run(fetch(f"{API}/me/entitlements", {})))
    if as_json:
        return done("", found, as_json=True)
    for each in printable(found):
        left = "any" if each["runs_left"] is None else each["runs_left"]
        status = STATUSES.get(str(each["status"]), f"  {each['status']}")
        click.echo(f"{left:>5}  {_kind(each):<30}  {each['agent_name']}  {each['agent_id']}{status}")
    if not found:
        click.echo("no runs left; buy some: nexus agents buy ID --runs 5, or --month")
    return 0


def _kind(right: Json) -> str:
    """``runs until 2026-12-21``, ``month until 2026-12-06``, ``month 2026-12-06 to 2027-01-05``."""
    starts, ends = right.get("starts_at"), str(right.get("expires_at") or "")[:10]
    word = "month" if right.get("kind") == PERIOD else "runs"
    if starts and datetime.fromisoformat(str(starts)) > datetime.now(UTC):
        return f"{word} {str(starts)[:10]} to {ends}"
    return f"{word} until {ends}" if ends else word


@entitlements.command(name="pass-on")
@click.argument("agent_id")
@click.option("--to", required=True, metavar="0x…", help="whose they are then: an address")
@click.option("--runs", type=click.IntRange(1, 1000), help="how many runs")
@click.option("--month", is_flag=True, help="the month; of two of them, the one that ends first")
@click.option("--key", default="", help="idempotency key: the same key passes on once")
@how_options
def pass_on(agent_id: str, to: str, runs: int | None, month: bool, key: str, how: How) -> int:
    """Pass runs or a month of an agent on to another wallet, for good, where the agent allows it."""
    if (runs is None) != month:
        raise click.UsageError("give --runs N or --month")
    from agentnexus.rails.evm.encoding import address

    receiver, count, kind = address(to, field="to"), runs or 1, PERIOD if month else "runs"
    what = what_of(kind, count, agent_id)
    if not how.as_json:
        _warn(agent_id, kind, how)
    how.agree(f"pass {what} on to {receiver}, for good?")

    def check(asked: Asked, _tokens: Tokens) -> None:
        from agentnexus.cli.approving import require_passing

        require_passing(asked, receiver, count, _passable(agent_id, kind))

    path = f"{API}/me/entitlements/{quote(agent_id, safe='')}/transfer"
    return carry("POST", path, {"kind": kind, "to": receiver, "count": count}, how, check, key=key)


def _warn(agent_id: str, kind: str, how: How) -> None:
    """Of what passing on takes away, and of what its receiver needs."""
    from agentnexus.cli.hire import fetch

    rights = cast("list[Json]", asyncio.run(fetch(f"{API}/me/entitlements", {})))
    ends = [str(each["expires_at"])[:10] for each in rights if (each["agent_id"], each["kind"]) == (agent_id, kind)]
    by = f", on {ends[0]}" if ends and ends[0][:1].isdigit() else ""
    how.tell("its receiver can use it with a wallet on this node, once they have signed with that wallet")
    how.tell(
        "the rest of its purchase cannot be given back while others hold some of it; what nobody uses of it comes "
        f"back at its end{by}"
    )


def _passable(agent_id: str, kind: str) -> frozenset[int]:
    """Tokens that can be meant: of this agent and kind alone, of a month the present or the next."""
    from agentnexus.marketplace.purchases.kinds import Kind, Period, agent_class, token_of

    number = agent_class(agent_id, Kind(kind), transferable=True)
    if kind != PERIOD:
        return frozenset({token_of(number, None)})
    now = Period.at(datetime.now(UTC))
    return frozenset(token_of(number, each) for each in (now, now.following))


def rights_of(made: Mapping[str, object]) -> tuple[frozenset[int], int]:
    """What a purchase gives as it is shown: one of these tokens, and how many of it. None, for a month that is over.

    The number of a token says agent, kind and month; whether it may be passed on is in it as well, and either is good.
    """
    from agentnexus.marketplace.purchases.kinds import PERIOD_SECONDS, Kind, Period, agent_class, token_of

    kind, period = Kind(str(made["kind"])), None
    if kind is Kind.PERIOD:
        period = Period(int(datetime.fromisoformat(str(made["ends_at"])).timestamp()) // PERIOD_SECONDS - 1)
        if period.ends_at <= datetime.now(UTC):
            return frozenset(), 0
    numbers = [agent_class(str(made["agent_id"]), kind, transferable=each) for each in (False, True)]
    return frozenset(token_of(each, period) for each in numbers), int(str(made["quantity"]))
