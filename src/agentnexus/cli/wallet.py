"""`nexus wallet`: what is in the node's wallets on chain and in the books; new encrypted keys for them."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import cast

import click

from agentnexus.cli.options import json_option

PASSWORD_CHARS_MIN = 8


@click.group(invoke_without_command=True)
@click.pass_context
@json_option
def wallet(ctx: click.Context, as_json: bool) -> int:
    """Show addresses and balances, network by network; `wallet new` makes a key."""
    return 0 if ctx.invoked_subcommand else _show(as_json)


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
@click.option(
    "--password-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="its first line; else asked"
)
@json_option
def new(file: Path, chain: str, kind: str, password_file: Path | None, as_json: bool) -> int:
    """Make a key and write it to FILE, encrypted, for its owner only. Nothing is overwritten."""
    from agentnexus.core.errors import Conflict

    password = _password(password_file)
    if file.exists():
        raise Conflict(f"{file} is already there", next_step="name another file; a key that is lost is lost for good")
    address = _make(file, chain, kind, password)
    click.echo(json.dumps({"address": address, "file": str(file)}) if as_json else f"{address}\nwritten to {file}")
    return 0


def _password(file: Path | None) -> str:
    from agentnexus.core.errors import InvalidInput

    lines = [""] if file is None else file.read_text(encoding="utf-8").splitlines()
    given = lines[0] if lines else ""
    asked = given or click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    if len(asked) < PASSWORD_CHARS_MIN:
        raise InvalidInput("the password is too short", next_step=f"use {PASSWORD_CHARS_MIN} characters or more")
    return str(asked)


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
