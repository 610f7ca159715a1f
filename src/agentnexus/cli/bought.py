"""What a purchase is called and how it is shown: what was bought, how far it is, what is left and what comes back."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import click

from agentnexus.cli.amounts import spell
from agentnexus.cli.operations import show_problem, show_signing

Json = dict[str, object]
PERIOD = "period"
ENDS = {"completed": 0, "failed": 1, "refunded": 1}
MOVING = frozenset({"refunding", "ending"})
STATES = {
    "initiated": "being checked",
    "validating": "being checked",
    "processing": "on its way",
    "completed": "the runs are yours",
    "failed": "failed: nothing was paid",
    "refunded": "what was not used is back in your wallet",
}
STEPS = {
    "signing": "waits for your signature",
    "sent": "sent to the chain",
    "confirmed": "the chain has it",
    "refunding": "the money is coming back",
}
RIGHTS = {"used_up": "used up", "passed_on": "passed on", "expired": "over", "refunded": STATES["refunded"]}
COLOURS = {"completed": "green", "failed": "red"}


def words(made: Json) -> str:
    """How far a purchase is, and then what became of what it gave."""
    state, step = str(made["state"]), str(made.get("step"))
    if _signed(made):
        return "on its way: nothing is left for you to sign"
    if step in STEPS and (state not in ENDS or step in MOVING):
        return STEPS[step]
    if state == "completed":
        month = "the month is yours" if made.get("kind") == PERIOD else STATES[state]
        return RIGHTS.get(str(made.get("right")), month)
    return STATES.get(state, state)


def _signed(made: Json) -> bool:
    """Nothing is left to sign for who asks, though the node has not moved on yet."""
    return made.get("step") == "signing" and "sign" in made and not made["sign"] and not made.get("sign_error")


def what_of(kind: object, quantity: object, agent: object, ends_at: object = None) -> str:
    """``3 runs of Reader``, ``a month of Reader until 2026-12-06``."""
    if kind == PERIOD:
        return f"a month of {agent}" + (f" until {str(ends_at)[:10]}" if ends_at else "")
    return f"{_runs(quantity)} of {agent}"


def bought(made: Json) -> str:
    """What it is a purchase of."""
    return what_of(made.get("kind"), made["quantity"], made["agent_name"], made.get("ends_at"))


def comes_back(made: Json) -> str:
    """``0.04 USDC``: what giving it back now brings. What a run took that is not settled yet stays away."""
    held = Decimal(str(made.get("held") or 0))
    if made.get("kind") != PERIOD:
        held = min(held, Decimal(str(made["price"])) * int(str(made.get("runs_left") or 0)))
    return f"{spell(held)} {made['currency']}"


def left_of(made: Json) -> str:
    """``, 3 runs left`` of one that can be run."""
    return f", {_left(made)}" if _usable(made) else ""


def replaces(offer: Json) -> str:
    """What an upgrade gives back, of a month's quote."""
    back = offer.get("upgrade")
    if not isinstance(back, dict) or not back.get("runs"):
        return "of your unused runs none can be given back: they stay"
    return f"{_runs(back['runs'])} come back once the month is there: {spell(back['amount'])} {offer['currency']}"


def timed(moment: object) -> str:
    """``2026-12-03 10:20 UTC`` from the form that nodes give."""
    return f"{datetime.fromisoformat(str(moment)).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def show_purchase(shown: Json) -> None:
    """What was bought, how far it is, what is left of it, and what went wrong."""
    _show_head(shown, words(shown), "transaction")
    if _usable(shown):
        passed = f", {shown['passed_on']} passed on" if shown.get("passed_on") else ""
        click.echo(f"  {_left(shown)} until {timed(shown['expires_at'])}{passed}")
        if shown.get("refund_blocked"):
            click.echo(f"  cannot be given back now: {shown['refund_blocked']}")
        click.echo(f"  run it:  nexus agents execute {shown['agent_id']} --input @input.json")
    show_problem(shown.get("error"))
    if shown.get("step") == "signing" and not _signed(shown):
        show_signing(shown, f"nexus purchase sign {shown['id']} --key-file FILE", f"purchases/{shown['id']}")


def show_given_back(shown: Json, amount: str) -> None:
    """The same of one that was to be given back, with what came of it."""
    said = {"refunded": f"{amount} is back in your wallet", "completed": f"{amount} is coming back"}
    state = str(shown["state"])
    if state not in said or (state == "completed" and shown.get("step") not in MOVING):
        show_purchase(shown)
    else:
        _show_head(shown, said[state], "bought in transaction")
        show_problem(shown.get("error"))


def _show_head(shown: Json, said: str, transaction: str) -> None:
    what = f"{bought(shown)} for {spell(shown['amount'])} {shown['currency']}"
    click.secho(f"{what}: {said}", fg=COLOURS.get(str(shown["state"]), "yellow"))
    click.echo(f"  {shown['id']}")
    if shown.get("transaction"):
        click.echo(f"  {transaction} {shown['transaction']}")


def _usable(made: Json) -> bool:
    return made["state"] == "completed" and made.get("right") not in RIGHTS and made.get("step") not in MOVING


def _left(made: Json) -> str:
    left = made["runs_left"]
    return "as many runs as you like" if left is None else f"{_runs(left)} left"


def _runs(count: object) -> str:
    return f"{count} run{'' if count == 1 else 's'}"
