"""`nexus sign-in` and `sign-out`: what is signed is looked at first, and wrong use is said to be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from agentnexus.cli.sign_in import check_message
from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import NotAllowed
from agentnexus.platform.database import Database
from agentnexus.platform.signing import Ed25519Signer
from tests.cli.site import Terminal, key_file, served
from tests.cli.test_cli import nexus
from tests.identity.desk import open_desk

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
SECRET = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"


@pytest.fixture
async def terminal(database: Database, tmp_path: Path) -> AsyncIterator[Terminal]:
    """At a node with the ways to sign in."""
    desk = open_desk(database, SystemClock(), public_url="", local_user="local")
    async with served(desk.app) as url:
        yield Terminal(url, tmp_path / "home")


def solana_pair(folder: Path) -> tuple[Path, str]:
    seed = b"\x05" * 32
    person = Ed25519Signer.from_seed(seed).public_id
    return key_file(folder, json.dumps(list(seed + bytes.fromhex(person.removeprefix("ed25519:"))))), person


def message(domain: str = "node.example", address: str = ADDRESS) -> str:
    return f"{domain} wants you to sign in with your Ethereum account:\n{address}\n\nNonce: 1"


@pytest.mark.parametrize(
    ("domain", "url"),
    [
        ("node.example", "https://node.example"),
        ("node.example:8443", "https://node.example:8443/"),
        ("localhost:5000", "http://127.0.0.1:5001"),
    ],
)
def test_a_message_of_this_node_is_signed(domain: str, url: str) -> None:
    check_message(message(domain), ADDRESS.lower(), url)


@pytest.mark.parametrize(
    "text",
    [
        message("evil.example"),
        message("node.example.evil.example"),
        message("node.example@evil.example"),
        message("localhost:5000"),
        message(address="0x" + "00" * 20),
        "Send all your money",
        "",
        f"x\n{message()}",
    ],
)
def test_a_message_for_another_place_or_wallet_is_not(text: str) -> None:
    with pytest.raises(NotAllowed):
        check_message(text, ADDRESS, "https://node.example")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--email", "a@b.example", "--key-file", __file__),
        ("--challenge", "x"),
        ("--challenge", "x", "--code", "1", "--email", "a@b.example"),
        ("--json",),
        ("--key-file", "absent.json"),
    ],
)
def test_wrong_use_is_said_before_any_node_is_asked(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = nexus("sign-in", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr + done.stdout


def test_nobody_signed_in_is_no_failure(tmp_path: Path) -> None:
    done = nexus("sign-out", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "nobody is signed in here\n")


def test_a_node_that_is_gone_is_forgotten_all_the_same(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    path = home / "sign-in.json"
    path.write_text('{"http://127.0.0.1:1": {"user": "ada", "token": "t"}}')
    path.chmod(0o600)
    done = nexus("sign-out", cwd=tmp_path, NEXUS_HOME=str(home), NEXUS_API_URL="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert path.read_text() == "{}"


async def who(url: str, token: str) -> object:
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        return (await client.get("/api/v1/auth/session")).json()["data"]["user"]


def kept(terminal: Terminal) -> dict[str, str]:
    entry: dict[str, str] = json.loads((terminal.home / "sign-in.json").read_text())[terminal.url]
    return entry


async def test_a_key_signs_its_owner_in_and_the_token_works_until_signed_out(
    terminal: Terminal, tmp_path: Path
) -> None:
    key = key_file(tmp_path, SECRET)
    told = await terminal.told("sign-in", "--key-file", str(key))
    assert told == {"user": ADDRESS.lower(), "node": terminal.url, "file": str(terminal.home / "sign-in.json")}
    token = kept(terminal)["token"]
    assert await who(terminal.url, token) == ADDRESS.lower()
    out = await terminal.run("sign-out")
    assert (out.code, out.stdout) == (0, f"{ADDRESS.lower()} is signed out\n")
    assert json.loads((terminal.home / "sign-in.json").read_text()) == {}
    async with httpx.AsyncClient(base_url=terminal.url, headers={"Authorization": f"Bearer {token}"}) as client:
        ended = await client.get("/api/v1/auth/session")
    assert ended.json().get("data", {}).get("user") is None, "the token is of no use any more"


async def test_a_solana_key_signs_in_as_well(terminal: Terminal, tmp_path: Path) -> None:
    key, person = solana_pair(tmp_path)
    done = await terminal.run("sign-in", "--key-file", str(key))
    assert done.code == 0, done.stderr
    assert done.stdout.startswith(f"you are {person.replace(':', '.')} at {terminal.url}")
    assert kept(terminal)["token"] not in done.stdout, "a token is not for eyes"


async def test_signing_in_again_is_somebody_else(terminal: Terminal, tmp_path: Path) -> None:
    key, person = solana_pair(tmp_path)
    await terminal.told("sign-in", "--key-file", str(key_file(tmp_path, SECRET, "evm")))
    await terminal.told("sign-in", "--key-file", str(key))
    assert kept(terminal)["user"] == person.replace(":", ".")
