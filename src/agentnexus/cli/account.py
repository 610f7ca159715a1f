"""`nexus wallet …` of a person: their own account on the chain, and what it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote
from uuid import uuid4

import click

from agentnexus.cli.amounts import AMOUNT, Amount, spell
from agentnexus.cli.operations import PATH, How, carry_out, finish, followed, how_options, show_operation
from agentnexus.cli.options import done, json_option, key_file_option, password_file_option

if TYPE_CHECKING:
    import httpx

    from agentnexus.cli.approving import Asked, Tokens

Json = dict[str, object]
WALLET = "/api/v1/wallet"
ANY = Amount(24, "a token")
USDC_DECIMALS = 6
SIGNERS = {
    "server": "this node signs for you (nexus wallet export hands the key over)",
    "passkey": "your passkey signs, on the page /wallet",
    "key": "your own key signs (--key-file)",
    "delegated": "your own key signs, at its own address (--key-file)",
}
gas_option = click.option(
    "--gas",
    type=click.Choice(["sponsor", "usdc", "account"]),
    default="sponsor",
    show_default=True,
    help="who pays for gas: the node by its policies, you in USDC, or you in the chain's coin",
)


@click.command()
@click.option("--kind", type=click.Choice(["server", "key", "delegated"]), help="server, or key where a key is given")
@key_file_option
@password_file_option
@json_option
def create(kind: str | None, key_file: Path | None, password_file: Path | None, as_json: bool) -> int:
    """Make your account: one on which this node signs for you (server), or your own key does.

    key: an account that your key owns. delegated: your key's own address acts as one (EIP-7702). Either way the key
    stays in its file.
    """
    chosen = kind or ("server" if key_file is None else "key")
    if (chosen == "server") != (key_file is None):
        raise click.UsageError("give --key-file for the kinds key and delegated, and only for them")
    body: Json = {"kind": chosen}
    if key_file is not None:
        from agentnexus.cli.keys import load_wallet

        body["address"] = load_wallet(key_file, password_file).address
    return _show_account(cast("Json", ask("POST", WALLET, body)), as_json=as_json)


@click.command()
@json_option
def account(as_json: bool) -> int:
    """Show your account: address, network, and who signs for it."""
    return _show_account(cast("Json", ask("GET", f"{WALLET}/account")), as_json=as_json)


def _show_account(facts: Json, *, as_json: bool) -> int:
    from agentnexus.cli.printable import printable

    shown = printable(facts)
    kind = str(shown["kind"])
    return done(f"{shown['network']}  {shown['address']}\n  {SIGNERS.get(kind, kind)}", facts, as_json=as_json)


@click.command(name="top-up")
@click.argument("amount", type=ANY)
@click.option("--to", "address", default="", help="another account than yours, such as one made on the page")
@json_option
def top_up(amount: str, address: str, as_json: bool) -> int:
    """Give your account AMOUNT of play USDC; in the local economy of `nexus up` alone."""
    from agentnexus.cli.node import find_node
    from agentnexus.cli.view import money
    from agentnexus.devnet.funding import fund

    address = address or str(cast("Json", ask("GET", f"{WALLET}/account"))["address"])
    held = asyncio.run(fund(find_node().facts, address, amount))
    shown = held.to_json()
    return done(f"{address} holds {money(shown)}", {"address": address, "balance": shown}, as_json=as_json)


@click.command()
@click.argument("to")
@click.argument("amount", type=ANY)
@click.option("--asset", default="USDC", show_default=True, help="USDC, the chain's coin, or a token's address")
@gas_option
@click.option("--key", default="", help="idempotency key: the same key is the same transfer")
@how_options
def send(to: str, amount: str, asset: str, gas: str, key: str, how: How) -> int:
    """Send AMOUNT to the address TO. You are asked first."""
    from agentnexus.cli.printable import printable

    how.agree(printable(f"send {spell(amount)} {asset} to {to}?"))

    def check(asked: Asked, tokens: Tokens) -> None:
        from agentnexus.cli.approving import require_transfer

        require_transfer(asked, to, amount, asset, tokens)

    call = {"to": to, "amount": amount, "asset": asset}
    return carry("POST", PATH, {"calls": [call], "gas": gas}, how, check, key=key)


@click.command()
@click.argument("operation_id", metavar="OPERATION")
@how_options
def sign(operation_id: str, how: How) -> int:
    """Sign an OPERATION that waits for your key: its calls are read and shown first."""
    if how.key_file is None:
        raise click.UsageError("give --key-file")

    async def signed() -> Json:
        async with _api() as client:
            found = await _operation(client, operation_id)

            def check(asked: Asked) -> None:
                from agentnexus.cli.approving import in_words, trusted

                for call in asked.calls:
                    how.tell(in_words(call, asked.sender, trusted(tokens, asked.chain_id)))
                how.agree("sign that?")

            tokens = await known_tokens(client) if isinstance(found.get("sign"), dict) else {}
            return await carry_out(client, found, how, check)

    return finish(asyncio.run(signed()), how, show_operation)


@click.command()
@click.argument("operation_id", metavar="OPERATION")
@click.option("--wait", is_flag=True, help="until the chain has it")
@json_option
def operation(operation_id: str, wait: bool, as_json: bool) -> int:
    """Show how far an OPERATION got."""
    how = How(None, None, wait=wait, yes=False, as_json=as_json)

    async def looked() -> Json:
        async with _api() as client:
            found = await _operation(client, operation_id)
            return await followed(client, found, how) if wait and found["state"] != "unsigned" else found

    return finish(asyncio.run(looked()), how, show_operation)


@click.command()
@click.argument("operation_id", metavar="OPERATION")
@json_option
def discard(operation_id: str, as_json: bool) -> int:
    """Forget an OPERATION that nobody has signed: no signature is taken for it afterwards."""
    gone = cast("Json", ask("DELETE", f"{PATH}/{quote(operation_id, safe='')}"))
    return done(f"{gone['title']}: discarded, nothing of it happens", gone, as_json=as_json)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@password_file_option
@click.option("--yes", is_flag=True, help="do not ask")
@json_option
def export(file: Path, password_file: Path | None, yes: bool, as_json: bool) -> int:
    """Take the key that this node keeps for you, and write it to FILE, encrypted, for its owner only."""
    from agentnexus.cli.passwords import new_password
    from agentnexus.core.errors import Conflict
    from agentnexus.rails.evm.networks import network_by_name
    from agentnexus.rails.evm.signer import signer_from_hex

    if file.exists():
        raise Conflict(f"{file} is already there", next_step="name another file")
    How(None, None, wait=False, yes=yes, as_json=as_json).agree("whoever has the key has the wallet. Go on?")
    password = new_password(password_file)
    facts = cast("Json", ask("GET", f"{WALLET}/account"))
    handed = cast("Json", ask("POST", f"{WALLET}/export", {"confirm": True}))
    signer = signer_from_hex(str(handed["key"]), network_by_name(str(facts["network"])).kind)
    signer.write_keystore(file, password)
    answer: Json = {"owner": signer.public_id, "address": facts["address"], "file": str(file)}
    return done(f"the key of {facts['address']} is in {file}", answer, as_json=as_json)


@click.command()
@click.option("--allow", type=AMOUNT, help="let the node take up to so much USDC for gas: what `--gas usdc` needs")
@how_options
def gas(allow: str | None, how: How) -> int:
    """Show who pays for gas: the node's policies, and what is left of them for you."""
    described = cast("Json", ask("GET", f"{WALLET}/gas"))
    if allow is None:
        return say(described, _gas_lines, as_json=how.as_json)

    def check(asked: Asked, tokens: Tokens) -> None:
        from agentnexus.cli.approving import approval, asset_of, atomic

        token, decimals = asset_of("USDC", tokens, asked.chain_id)
        asked.require_calls([approval(token, str(described["paymaster"]), atomic(allow, decimals))])

    return carry("POST", f"{WALLET}/gas", {"amount": allow}, how, check)


def _gas_lines(found: Json) -> Iterator[str]:
    policies = cast("list[Json]", found["policies"])
    for each in policies:
        sold = cast("Json | None", each.get("paid_in"))
        how = "sold for USDC (--gas usdc)" if sold else "paid for you (--gas sponsor)"
        yield f"{each['title']}: gas is {how}"
        for whose, left in cast("dict[str, Json | None]", each["left"]).items():
            known = ", ".join(
                f"{amount} {found['coin']} {name.replace('_', ' ')}" for name, amount in (left or {}).items()
            )
            yield f"  left for {whose}: {known or 'all of it'}"
    if not policies:
        yield "nobody pays gas here; yours does: --gas account"


async def known_tokens(client: httpx.AsyncClient) -> Tokens:
    """Symbol and decimals of what the account's balances name, by address."""
    held = cast("Json", (await client.get(f"{WALLET}/balance")).json()["data"])
    found = {}
    for each in cast("list[Json]", held["balances"]):
        token = str(each["asset"]).partition("/erc20:")[2]
        if token:
            found[token] = (str(each["symbol"]), USDC_DECIMALS)
    return found


def _api() -> AbstractAsyncContextManager[httpx.AsyncClient]:
    from agentnexus.cli.node import api, find_node

    return api(find_node())


def ask(method: str, path: str, body: Json | None = None, **parameters: object) -> object:
    """The data of the node's answer."""

    async def asked() -> object:
        async with _api() as client:
            answer = await client.request(method, path, json=body, params={k: str(v) for k, v in parameters.items()})
            return answer.json()["data"]

    return asyncio.run(asked())


async def _operation(client: httpx.AsyncClient, operation_id: str) -> Json:
    return cast("Json", (await client.get(f"{PATH}/{quote(operation_id, safe='')}")).json()["data"])


def carry(
    method: str, path: str, body: Json | None, how: How, check: Callable[[Asked, Tokens], None], *, key: str = ""
) -> int:
    """Have the account do something, and say how far it got."""

    async def did() -> Json:
        async with _api() as client:
            headers = {"Idempotency-Key": key or uuid4().hex}
            made = cast("Json", (await client.request(method, path, json=body, headers=headers)).json()["data"])
            tokens = await known_tokens(client) if isinstance(made.get("sign"), dict) and how.key_file else {}
            return await carry_out(client, made, how, lambda asked: check(asked, tokens))

    return finish(asyncio.run(did()), how, show_operation)


def say(found: Json, lines: Callable[[Json], Iterator[str]], *, as_json: bool) -> int:
    """What the node answered, in `lines` or as JSON. The exit code."""
    from agentnexus.cli.printable import printable

    return done("\n".join(lines(printable(found))), found, as_json=as_json)
