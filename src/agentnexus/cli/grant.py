"""`nexus grant`: let tasks go ahead within limits that your wallet signed, look at what was spent, take it back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import cast

import click

from agentnexus.cli.amounts import AMOUNT
from agentnexus.cli.options import FILE, done, json_option, password_file_option

Json = dict[str, object]
UNITS = {"m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType[int]):
    """``30m``, ``12h`` or ``7d``, as seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        number, unit = text[:-1], text[-1:]
        if unit not in UNITS or not number.isdecimal() or not 0 < int(number) < 100_000:
            self.fail(f"{text!r} is no duration; write for example 30m, 12h or 7d", param, ctx)
        return int(number) * UNITS[unit]


@click.group()
def grant() -> None:
    """Session approvals signed by your wallet."""


@grant.command()
@click.option("--key", type=FILE, required=True, help="keystore v3, file with a hex key, or Solana keypair file")
@click.option("--with", "voucher", type=FILE, help="a linked wallet's key: every wallet but the first needs one")
@password_file_option
@json_option
def link(key: Path, voucher: Path | None, password_file: Path | None, as_json: bool) -> int:
    """Let a wallet approve your spending."""
    linked = asyncio.run(_link(key, voucher, password_file))
    return done(f"{linked['wallet']} may approve your spending now", linked, as_json=as_json)


@grant.command()
@click.option("--key", type=FILE, required=True, help="keystore v3, file with a hex key, or Solana keypair file")
@click.option("--total", type=AMOUNT, required=True, help="the most that may be spent in all, in USDC")
@click.option("--per-payment", type=AMOUNT, help="the most for one payment")
@click.option("--per-day", type=AMOUNT, help="the most for one day (UTC)")
@click.option("--capability", "capabilities", multiple=True, help="allow only this one; may be repeated")
@click.option("--seller", "sellers", multiple=True, help="allow only this seller's key; may be repeated")
@click.option("--for", "seconds", type=Duration(), default="1d", show_default=True, help="how long: 30m, 12h, 7d")
@password_file_option
@json_option
def new(
    key: Path,
    total: str,
    per_payment: str | None,
    per_day: str | None,
    capabilities: tuple[str, ...],
    sellers: tuple[str, ...],
    seconds: int,
    password_file: Path | None,
    as_json: bool,
) -> int:
    """Sign an approval: `nexus task --grant any` then goes ahead within it without asking."""
    wanted: Json = {
        "total": total,
        "per_payment": per_payment,
        "per_day": per_day,
        "capabilities": list(capabilities) or None,
        "sellers": list(sellers) or None,
        "lasts_seconds": seconds,
    }
    made = asyncio.run(_new(key, password_file, wanted))
    if as_json:
        click.echo(json.dumps(made))
    else:
        _show(made)
    return 0


@grant.command(name="list")
@json_option
def list_grants(as_json: bool) -> int:
    """Your approvals and what is left of each."""
    from agentnexus.cli.hire import fetch

    grants = cast("list[Json]", asyncio.run(fetch("/api/v1/grants", {})))
    if as_json:
        click.echo(json.dumps(grants))
        return 0
    for each in grants:
        _show(each)
    if not grants:
        click.echo("no approvals; sign one with `nexus grant new`")
    return 0


@grant.command()
@click.argument("grant_id")
@json_option
def uses(grant_id: str, as_json: bool) -> int:
    """Every payment that GRANT_ID allowed, newest first."""
    from agentnexus.cli.hire import fetch
    from agentnexus.cli.printable import printable
    from agentnexus.cli.view import money

    found = cast("list[Json]", asyncio.run(fetch(f"/api/v1/grants/{grant_id}/uses", {})))
    if as_json:
        click.echo(json.dumps(found))
        return 0
    for use in printable(found):
        paid = money(use["paid"] if use["state"] == "posted" else use["reserved"])
        click.echo(f"{str(use['at'])[:19]}  {use['state']:<8} {paid:>16}  {use['capability']}  {use['workflow'] or ''}")
    if not found:
        click.echo("nothing was spent under it")
    return 0


@grant.command()
@click.argument("grant_id")
@click.option("--key", type=FILE, help="revoke by the wallet's signature, without an access token")
@password_file_option
@json_option
def revoke(grant_id: str, key: Path | None, password_file: Path | None, as_json: bool) -> int:
    """Take an approval back: from now on nothing is spent under it."""
    asyncio.run(_revoke(grant_id, key, password_file))
    return done(f"{grant_id} is revoked", {"id": grant_id, "state": "revoked"}, as_json=as_json)


async def _link(key: Path, voucher: Path | None, password_file: Path | None) -> Json:
    from agentnexus.cli.hire import send
    from agentnexus.cli.keys import load_wallet
    from agentnexus.ledger.mandates import WalletLink

    wallet = load_wallet(key, password_file)
    shown = cast("Json", await send("/api/v1/wallets/proof", {"wallet": wallet.id}))
    proof, network = WalletLink.model_validate(shown["proof"]), str(shown["network"])
    body: Json = {"proof": proof.model_dump(mode="json"), "signature": await wallet.sign(proof, network)}
    if voucher is not None:
        other = load_wallet(voucher, password_file)
        same = proof.model_copy(update={"iss": other.id})
        body |= {"by": other.id, "by_signature": await other.sign(same, network)}
    return cast("Json", await send("/api/v1/wallets", body))


async def _new(key: Path, password_file: Path | None, wanted: Json) -> Json:
    from agentnexus.cli.hire import send
    from agentnexus.cli.keys import check_draft, load_wallet
    from agentnexus.ledger.mandates import Mandate

    wallet = load_wallet(key, password_file)
    drafted = cast("Json", await send("/api/v1/grants/draft", {**wanted, "wallet": wallet.id}))
    mandate = Mandate.model_validate(drafted["mandate"])
    check_draft(mandate, wallet.id, wanted)
    signature = await wallet.sign(mandate, str(drafted["network"]))
    return cast(
        "Json", await send("/api/v1/grants", {"mandate": mandate.model_dump(mode="json"), "signature": signature})
    )


async def _revoke(grant_id: str, key: Path | None, password_file: Path | None) -> None:
    from agentnexus.cli.hire import fetch, send
    from agentnexus.cli.keys import load_wallet
    from agentnexus.ledger.grants import revocation_of
    from agentnexus.ledger.mandates import Mandate

    if key is None:
        await send(f"/api/v1/grants/{grant_id}/revoke", {})
        return
    grant = cast("Json", await fetch(f"/api/v1/grants/{grant_id}", {}))
    revocation = revocation_of(Mandate.model_validate(grant["mandate"]))
    network = str(cast("Json", grant["budget"])["asset"]).partition("/")[0]
    signature = await load_wallet(key, password_file).sign(revocation, network)
    await send(f"/api/v1/grants/{grant_id}/revocation", {"signature": signature})


def _show(made: Json) -> None:
    from agentnexus.cli.printable import printable
    from agentnexus.cli.view import money

    budget = cast("Json", printable(made["budget"]))
    left = cast("Json", budget["left"])
    limits = cast("Json", budget["limits"])
    colour = "green" if made["state"] == "open" else "yellow"
    click.secho(f"{made['id']}  {made['state']}", fg=colour)
    click.echo(f"  signed by  {printable(made['wallet'])}")
    click.echo(f"  left       {money(left['total'])} of {money(limits['total'])}, until {budget['expires_at']}")
    for name in ("per_payment", "per_hour", "per_day"):
        if limits.get(name):
            click.echo(f"  {name:<10} {money(limits[name])}")
    for name in ("capabilities", "sellers"):
        if budget[name] is not None:
            click.echo(f"  only       {', '.join(cast('list[str]', budget[name]))}")
