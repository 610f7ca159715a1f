"""`nexus token`: access tokens of this node's users. For its operator: it works on the database, not over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from agentnexus.cli.options import json_option

if TYPE_CHECKING:
    from agentnexus.identity.tokens import TokenInfo

UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
LIFE = re.compile(r"([1-9]\d{0,3})([hdw])")


class Life(click.ParamType[timedelta]):
    """How long something is good: ``12h``, ``30d``, ``8w``."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = LIFE.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no time; write for example 12h, 30d or 8w", param, ctx)
        return int(found[1]) * UNITS[found[2]]


@click.group()
def token() -> None:
    """Give, list and end access tokens (on the node's own database).

    Example: nexus token issue alice --expires 30d
    """


@token.command()
@click.argument("user")
@click.option("--operator/--basic", "operator", default=None, help="from now on an operator, or no more one")
@click.option("--expires", type=Life(), help="for example 12h, 30d or 8w; without it, until it is ended")
@click.option("--label", default="", help="what it is for, to know it by")
@click.option("--vouch", is_flag=True, help="USER stands before you: for five minutes it is as good as signing in")
@json_option
def issue(user: str, operator: bool | None, expires: timedelta | None, label: str, vouch: bool, as_json: bool) -> int:
    """Make a token for USER. It is shown this once.

    For all but what only a sign-in of the last minutes allows: taking a wallet's key, naming a guardian, adding a
    passkey. Who cannot sign in yet gets in with --vouch, and adds a passkey.
    """
    from agentnexus.bootstrap.keys import open_tokens

    role = None if operator is None else ("operator" if operator else "basic")

    async def make() -> str:
        async with open_tokens() as tokens:
            return await tokens.issue(user, role, lives=expires, label=label, vouched=vouch)

    made = asyncio.run(make())
    click.echo(json.dumps({"user": user, "token": made}) if as_json else made)
    if not as_json:
        click.echo("keep it: it is not shown again. Use: Authorization: Bearer <token>, or NEXUS_TOKEN", err=True)
    return 0


@token.command("list")
@click.argument("user", required=False)
@json_option
def show(user: str | None, as_json: bool) -> int:
    """List the tokens of USER, or everybody's, newest first."""
    from agentnexus.bootstrap.keys import open_tokens

    async def read() -> Sequence[TokenInfo]:
        async with open_tokens() as tokens:
            return await tokens.of(user)

    found = asyncio.run(read())
    if as_json:
        click.echo(json.dumps([entry.to_json() for entry in found]))
        return 0
    for entry in found:
        until = f"until {entry.expires_at:%Y-%m-%d %H:%M}" if entry.expires_at else "no end"
        used = f"used {entry.last_used_at:%Y-%m-%d %H:%M}" if entry.last_used_at else "never used"
        click.echo(f"  {entry.id}  {entry.user_id:<24} {entry.role:<9} {until:<23} {used:<21} {entry.label}".rstrip())
    if not found:
        click.echo("no tokens; make one: nexus token issue USER")
    return 0


@token.command()
@click.argument("token_id")
@json_option
def revoke(token_id: str, as_json: bool) -> int:
    """End the token with this id (`nexus token list`) at once."""
    from agentnexus.bootstrap.keys import open_tokens

    async def end() -> None:
        async with open_tokens() as tokens:
            await tokens.end(token_id)

    asyncio.run(end())
    click.echo(json.dumps({"ended": token_id}) if as_json else f"{token_id} has ended")
    return 0
