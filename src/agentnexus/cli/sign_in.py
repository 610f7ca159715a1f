"""`nexus sign-in` and `nexus sign-out`: by a code in an e-mail, or by a wallet's key file; the token is kept."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import click

from agentnexus.cli.options import FILE, done, json_option, password_file_option
from agentnexus.cli.printable import printable

if TYPE_CHECKING:
    from agentnexus.cli.keys import KeyFile

Json = dict[str, object]
AUTH = "/api/v1/auth"
FIRST_LINE = re.compile(r"(\S+) wants you to sign in with your \w+ account:")
HERE = {"localhost", "127.0.0.1", "::1"}


@click.command()
@click.option("--email", default="", help="a code is sent there")
@click.option("--key-file", type=FILE, help="or: your wallet's key, which signs a message that spends nothing")
@password_file_option
@click.option("--challenge", default="", help="for programs: go on with the code that was sent; needs --code")
@click.option("--code", default="", help="the code of the e-mail; asked for when it is left out")
@json_option
def sign_in(
    email: str, key_file: Path | None, password_file: Path | None, challenge: str, code: str, as_json: bool
) -> int:
    """Sign in: all commands then are yours, until `nexus sign-out`.

    The token is kept in NEXUS home, for you alone. NEXUS_TOKEN wins over it.
    """
    if sum(map(bool, (email, key_file, challenge))) > 1 or (bool(challenge) and not code):
        raise click.UsageError("give one of --email, --key-file, and --challenge with --code")
    if key_file is not None:
        answer = asyncio.run(_by_key(key_file, password_file))
    elif challenge:
        answer = asyncio.run(_by_code(challenge, code))
    else:
        if not email and as_json:
            raise click.UsageError("--json cannot ask: give --email or --key-file")
        address = email or _typed("e-mail", "give --email or --key-file")
        sent = asyncio.run(_post("email", {"email": address}))
        if as_json and not code:
            return done("", {"challenge": sent["id"], "expires_at": sent["expires_at"]}, as_json=True)
        challenge = str(sent["id"])
        instead = f"a code was sent; go on with: nexus sign-in --challenge {printable(challenge)} --code CODE"
        answer = asyncio.run(_by_code(challenge, code or _typed(_where_it_went(), instead)))
    return _keep(answer, as_json=as_json)


@click.command()
@json_option
def sign_out(as_json: bool) -> int:
    """End the session that `nexus sign-in` began, here and at the node."""
    from agentnexus.cli.sign_in_file import forget, place, signed_in
    from agentnexus.core.errors import ErrorCode, NexusError

    who = signed_in(place())
    if who is None:
        return done("nobody is signed in here", {"signed_out": False}, as_json=as_json)
    try:
        asyncio.run(_end(who.token))
    except NexusError as error:
        if error.code != ErrorCode.NOT_ALLOWED:  # a token that the node does not know has ended already
            raise
    finally:  # a token whose node is gone is of no use either
        forget(place())
    now = asyncio.run(_whoever())
    said = f"{who.user} is signed out"
    if now:
        said += f"; on this machine you are now {now}, the node's local user"
    return done(said, {"signed_out": True, "user": who.user, "now": now or None}, as_json=as_json)


def check_message(message: str, address: str, api_url: str) -> None:
    """Raises `NotAllowed` for a message that would sign this wallet in elsewhere, or another wallet (EIP-4361)."""
    from agentnexus.core.errors import NotAllowed

    first, _, rest = message.partition("\n")
    found, node = FIRST_LINE.fullmatch(first), urlsplit(api_url)
    named = urlsplit(f"//{found[1]}") if found else None
    if named is None or rest.partition("\n")[0].lower() != address.lower():
        raise NotAllowed("the node asks to sign something else than a sign-in", next_step="do not trust this node")
    if not _same_host(named.hostname, node.hostname):
        raise NotAllowed(
            f"the message signs in at {found[1] if found else ''}, not at {node.netloc}",
            next_step="set NEXUS_API_URL to the node's public address, if you trust it",
        )


def _same_host(one: str | None, other: str | None) -> bool:
    return one == other or (one in HERE and other in HERE)


def _where_it_went() -> str:
    """The economy of `nexus up` sends nothing: it writes its mail down."""
    from agentnexus.cli.node import find_node

    home = find_node().facts.get("home")
    return f"the code (development: the newest file in {home}/mail)" if home else "the code that was sent there"


def _typed(question: str, instead: str) -> str:
    """Raises `click.UsageError` with `instead` where nobody can be asked."""
    try:
        return str(click.prompt(question, err=True))
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise click.UsageError(f"nobody is there to answer: {instead}") from None


async def _by_key(path: Path, password_file: Path | None) -> Json:
    from agentnexus.cli.keys import load_wallet
    from agentnexus.cli.node import find_node

    wallet: KeyFile = load_wallet(path, password_file)
    name = wallet.id.removeprefix("evm:")
    asked = await _post("challenge", {"address": name})
    message = str(asked["message"])
    check_message(message, name, find_node().api_url)
    signature = await wallet.sign_in(message)
    return await _post("login", {"address": name, "nonce": asked["nonce"], "signature": signature})


async def _by_code(challenge: str, code: str) -> Json:
    return await _post("email/verify", {"id": challenge, "code": code.strip()})


async def _post(path: str, body: Json) -> Json:
    """Without a token: whoever signs in has none yet, and an old one must not get in the way."""
    from dataclasses import replace

    from agentnexus.cli.node import api, find_node

    async with api(replace(find_node(), token="")) as client:
        return cast("Json", (await client.post(f"{AUTH}/{path}", json=body)).json()["data"])


async def _end(token: str) -> None:
    from dataclasses import replace

    from agentnexus.cli.node import api, find_node

    async with api(replace(find_node(), token=token)) as client:
        await client.delete(f"{AUTH}/session")


async def _whoever() -> str:
    """Who somebody without a sign-in is to the node; "" for nobody, and for a node that does not say."""
    from agentnexus.cli.node import api, find_node
    from agentnexus.core.errors import NexusError

    try:
        async with api(find_node()) as client:
            found = cast("Json", (await client.get(f"{AUTH}/session")).json()["data"])
    except NexusError:
        return ""
    return printable(str(found.get("user") or ""))


def _keep(answer: Json, *, as_json: bool) -> int:
    from agentnexus.cli.node import find_node
    from agentnexus.cli.sign_in_file import SignedIn, place, remember

    user, node = str(answer["user"]), find_node()
    path = remember(place(), SignedIn(user, str(answer["token"])))
    if as_json:
        click.echo(json.dumps({"user": user, "node": node.api_url, "file": str(path)}))
    else:
        click.echo(f"you are {user} at {node.api_url}\n  the token is in {path}")
    return 0
