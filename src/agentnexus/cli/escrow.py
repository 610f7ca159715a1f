"""`nexus escrow`: your prepaid account on this node, from opening it to taking the money back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import cast
from urllib.parse import quote

import click

from agentnexus.cli.amounts import AMOUNT, TOKENS, spell
from agentnexus.cli.options import json_option

Json = dict[str, object]
ANSWER_SECONDS = 120.0  # a withdrawal is answered when the network confirmed it
KEY = click.Path(exists=True, dir_okay=False, path_type=Path)
ASSET = click.Choice(["USDC", "SOL"])


@click.group()
def escrow() -> None:
    """Your prepaid account."""


@escrow.command()
@json_option
def address(as_json: bool) -> int:
    """Show where to send money, on which network, and what is taken."""
    facts = asyncio.run(_ask("GET", "/escrow/address"))
    if as_json:
        return _print(facts)
    assets = cast("list[Json]", facts["assets"])
    paying = " or ".join(str(asset["symbol"]) for asset in assets if asset["spendable"])
    kept = " and ".join(str(asset["symbol"]) for asset in assets if not asset["spendable"])
    days = int(str(facts["claimWithinSeconds"])) // 86_400
    click.echo(f"{facts['network']}  {facts['address']}")
    click.echo(f"  send {paying} from your account's wallet, then within {days} days: nexus escrow deposit SIGNATURE")
    if kept:
        click.echo(f"  {kept} is kept for you and can be withdrawn, but pays for no task")
    return 0


@escrow.command()
@click.option("--key", type=KEY, help="Solana keypair file: signs that the wallet is yours")
@click.option("--wallet", help="address alone, when you sign elsewhere (see --proof)")
@click.option("--proof", default="", help="the wallet's signature (base58) of the message that is shown without it")
@json_option
def create(key: Path | None, wallet: str | None, proof: str, as_json: bool) -> int:
    """Open the account for one wallet: only what it sends is credited, and money goes back only there."""
    if (key is None) == (wallet is None):
        raise click.UsageError("give one of --key FILE and --wallet ADDRESS")
    made = asyncio.run(_create(key, wallet or "", proof))
    if as_json:
        return _print(made)
    from agentnexus.cli.printable import printable

    account = cast("Json", printable(made["escrow"]))
    click.echo(f"account {account['userId']} belongs to {account['userWallet']}: {spell(account['balance'])} USDC")
    return 0


@escrow.command()
@json_option
def balance(as_json: bool) -> int:
    """Show what is available, what running tasks have reserved, and both together."""
    facts = asyncio.run(_ask("GET", _path("balance")))
    if as_json:
        return _print(facts)
    for asset in cast("list[Json]", facts["assets"]):
        click.echo(
            f"{asset['symbol']:<5} {spell(asset['available']):>16} available, {spell(asset['reserved']):>12} reserved"
        )
    return 0


@escrow.command()
@click.argument("signature")
@click.option("--amount", type=TOKENS, help="what you sent; another amount on the chain is refused")
@json_option
def deposit(signature: str, amount: str | None, as_json: bool) -> int:
    """Claim a transfer to the node by its transaction's SIGNATURE; it is credited once."""
    done = asyncio.run(_ask("POST", _path("deposit"), {"signature": signature, "amount": amount}))
    return _print(done) if as_json else _credited(done)


@escrow.command()
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("--before", type=click.IntRange(1), help="go on where an earlier page ended")
@json_option
def history(limit: int, before: int | None, as_json: bool) -> int:
    """Show every movement, newest first, with its transaction."""
    further = f"&before={before}" if before else ""
    facts = asyncio.run(_ask("GET", f"{_path('history')}?limit={limit}{further}"))
    if as_json:
        return _print(facts)
    from agentnexus.cli.printable import printable

    lines = cast("list[Json]", printable(facts["history"]))
    for line in lines:
        amount = f"{'' if str(line['amount']).startswith('-') else '+'}{spell(line['amount'])}"
        where = line["signature"] or line["reference"]
        click.echo(f"{str(line['timestamp'])[:19]}  {line['kind']:<10} {amount:>14} {line['asset']:<5} {where}")
    if not lines:
        click.echo("nothing yet; `nexus escrow address` says where to send money")
    elif facts.get("nextCursor"):
        click.echo(f"more: nexus escrow history --before {facts['nextCursor']}")
    return 0


@escrow.command()
@click.argument("amount", type=TOKENS)
@click.option("--asset", type=ASSET, default="USDC", show_default=True)
@click.option("--key", default="", help="idempotency key: the same key is the same withdrawal")
@json_option
def withdraw(amount: str, asset: str, key: str, as_json: bool) -> int:
    """Send AMOUNT from what is available to the account's own wallet."""
    done = asyncio.run(_withdraw(amount, asset, key))
    if as_json:
        return _print(done)
    click.echo(f"{done['message']}\n  transaction {done['signature']}")
    return 0


@escrow.command(name="top-up")
@click.argument("amount", type=AMOUNT)
@json_option
def top_up(amount: str, as_json: bool) -> int:
    """Development only: send AMOUNT of play USDC from a development wallet, wait until it is final, claim it."""
    done = asyncio.run(_top_up(amount))
    return _print(done) if as_json else _credited(done)


def _path(what: str) -> str:
    from agentnexus.cli.node import find_node

    return f"/escrow/{quote(find_node().user, safe='')}/{what}"


async def _ask(method: str, path: str, body: Json | None = None, **headers: str) -> Json:
    from agentnexus.cli.node import api, find_node

    async with api(find_node()) as client:
        answer = await client.request(method, path, json=body, headers=headers, timeout=ANSWER_SECONDS)
        return cast("Json", answer.json())


async def _create(key: Path | None, wallet: str, proof: str) -> Json:
    from agentnexus.cli.keys import solana_wallet

    signer = None if key is None else solana_wallet(key)
    owner = wallet if signer is None else signer.address
    if signer is not None:
        from agentnexus.cli.node import find_node

        shown = await _ask("GET", f"/escrow/address?userId={quote(find_node().user, safe='')}&wallet={owner}")
        proof = await signer.sign_text(str(shown["message"]))
    return await _ask("POST", _path("create"), {"userWallet": owner, "proof": proof})


async def _withdraw(amount: str, asset: str, key: str) -> Json:
    from uuid import uuid4

    from agentnexus.core.errors import ErrorCode, NexusError

    chosen = key or uuid4().hex
    body: Json = {"amount": amount, "asset": asset}
    try:
        return await _ask("POST", _path("withdraw"), body, **{"Idempotency-Key": chosen})
    except NexusError as error:
        if error.code in (ErrorCode.UNAVAILABLE, ErrorCode.PAYMENT_UNKNOWN):
            error.next_step = f"ask again with --key {chosen}: it is looked up and never sent twice"
        raise


async def _top_up(amount: str) -> Json:
    from agentnexus.cli.node import find_node
    from agentnexus.devnet.topup import Claims, pay_treasury

    node = find_node()
    claims = Claims(_ask, f"/escrow/{quote(node.user, safe='')}")
    wallet = await claims.development_wallet(node.facts)
    return await claims.claim(await pay_treasury(node.facts, wallet, amount))


def _credited(done: Json) -> int:
    from agentnexus.cli.view import money

    account = cast("Json", done["escrow"])
    click.echo(f"{money(done['credited'])} credited; {spell(account['balance'])} USDC available")
    return 0


def _print(facts: Json) -> int:
    click.echo(json.dumps(facts))
    return 0
