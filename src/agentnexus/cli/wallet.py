"""`nexus wallet`: the node's wallets on chain and in the books, new encrypted keys, and a person's own account."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import cast

import click

from agentnexus.cli import account, holdings, powers
from agentnexus.cli.options import json_option, password_file_option

OWN = (
    account.create,
    account.account,
    holdings.balance,
    account.top_up,
    holdings.history,
    account.send,
    account.sign,
    account.operation,
    account.discard,
    account.gas,
    account.export,
    powers.guardian,
    powers.session,
)


@click.group(invoke_without_command=True)
@click.pass_context
@json_option
def wallet(ctx: click.Context, as_json: bool) -> int:
    """Show the node's addresses and balances, network by network; the commands are about your own account."""
    return 0 if ctx.invoked_subcommand else _show(as_json)


for each in OWN:
    wallet.add_command(each)


def _show(as_json: bool) -> int:
    from agentnexus.cli.hire import fetch

    facts = cast("dict[str, object]", asyncio.run(fetch("/api/v1/wallet", {})))
    if as_json:
        click.echo(json.dumps(facts))
        return 0
    from agentnexus.cli.view import money

    for each in (facts, *cast("list[dict[str, object]]", facts.get("others", []))):
        seen = "the chain does not answer" if each["on_chain"] is None else money(each["on_chain"])
        click.echo(f"{each['network']}  {each['address']}")
        click.echo(f"  on chain   {seen}")
        click.echo(f"  in books   {money(each['posted'])}, of it reserved {money(each['reserved'])}")
    return 0


@wallet.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--chain", type=click.Choice(["evm", "solana"]), default="evm", show_default=True)
@click.option(
    "--for",
    "kind",
    type=click.Choice(["mainnet", "testnet", "local"]),
    required=True,
    help="the kind of network; it is written into the file, and refused on any other",
)
@password_file_option
@json_option
def new(file: Path, chain: str, kind: str, password_file: Path | None, as_json: bool) -> int:
    """Make a key and write it to FILE, encrypted, for its owner only. Nothing is overwritten."""
    from agentnexus.cli.passwords import new_password
    from agentnexus.core.errors import Conflict

    password = new_password(password_file)
    if file.exists():
        raise Conflict(f"{file} is already there", next_step="name another file; a key that is lost is lost for good")
    address = _make(file, chain, kind, password)
    click.echo(json.dumps({"address": address, "file": str(file)}) if as_json else f"{address}\nwritten to {file}")
    return 0


def _make(file: Path, chain: str, kind: str, password: str) -> str:
    from agentnexus.rails.evm.networks import NetworkKind
    from agentnexus.rails.evm.signer import LocalSigner

    if chain == "evm":
        key = LocalSigner(os.urandom(32), NetworkKind(kind))
        key.write_keystore(file, password)
        return key.public_id
    from agentnexus.rails.solana import networks, signer

    worthless = kind == "local"  # a development chain poses as devnet
    network = networks.NetworkKind.TESTNET if worthless else networks.NetworkKind(kind)
    solana = signer.LocalSigner(os.urandom(32), network)
    solana.write_keystore(file, password)
    return solana.public_id
