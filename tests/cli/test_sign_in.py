"""`nexus sign-in` and `sign-out`: what is signed is looked at first, and wrong use is said to be."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from agentnexus.api.mail_routes import mail_routes
from agentnexus.cli.sign_in import check_message
from agentnexus.core.clock import SystemClock, SystemEntropy, TimeOrderedIds
from agentnexus.core.errors import NotAllowed
from agentnexus.identity.mail_codes import MailLogin, person_of
from agentnexus.platform.database import Database
from agentnexus.platform.mail import MailFolder
from agentnexus.platform.sealing import Sealer
from agentnexus.platform.signing import Ed25519Signer
from tests.cli.site import Terminal, key_file, served
from tests.cli.test_cli import nexus
from tests.identity.desk import open_desk

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
SECRET = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"


@dataclass(frozen=True)
class Letterbox:
    """Somebody at a node that writes its mail into a folder."""

    terminal: Terminal
    mail: Path

    def code(self) -> str:
        text = sorted(self.mail.iterdir())[-1].read_text()
        (found,) = re.findall(r"^ {4}(\d{8})$", text, re.MULTILINE)
        return str(found)


@pytest.fixture
async def letterbox(database: Database, tmp_path: Path) -> AsyncIterator[Letterbox]:
    desk = open_desk(database, SystemClock(), public_url="", local_user="local")
    login = MailLogin(
        database, desk.tokens, MailFolder(tmp_path / "mail"), Sealer(b"k" * 32, SystemEntropy()),
        clock=SystemClock(), entropy=SystemEntropy(), ids=TimeOrderedIds(), name="nexus.example",
    )  # fmt: skip
    desk.app.include_router(mail_routes(login, desk.door), prefix="/api/v1")
    async with served(desk.app) as url:
        yield Letterbox(Terminal(url, tmp_path / "home"), tmp_path / "mail")


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
    said = f"{ADDRESS.lower()} is signed out; on this machine you are now local, the node's local user\n"
    assert (out.code, out.stdout) == (0, said)
    assert json.loads((terminal.home / "sign-in.json").read_text()) == {}
    async with httpx.AsyncClient(base_url=terminal.url, headers={"Authorization": f"Bearer {token}"}) as client:
        ended = await client.get("/api/v1/auth/session")
    assert ended.json().get("data", {}).get("user") is None, "the token is of no use any more"


async def test_a_token_that_has_ended_already_is_signed_out_all_the_same(terminal: Terminal, tmp_path: Path) -> None:
    await terminal.told("sign-in", "--key-file", str(key_file(tmp_path, SECRET)))
    path = terminal.home / "sign-in.json"
    path.write_text(path.read_text().replace(kept(terminal)["token"], "nx_gone"))
    assert (await terminal.run("sign-out")).code == 0
    assert json.loads(path.read_text()) == {}


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


async def test_a_program_signs_in_by_mail_in_two_steps(letterbox: Letterbox) -> None:
    sent = await letterbox.terminal.told("sign-in", "--email", "ada@example.org")
    code = letterbox.code()
    assert code not in json.dumps(sent)
    told = await letterbox.terminal.told("sign-in", "--challenge", str(sent["challenge"]), "--code", code)
    assert told["user"] == person_of("ada@example.org")
    assert await who(letterbox.terminal.url, kept(letterbox.terminal)["token"]) == told["user"]


async def test_a_wrong_code_signs_nobody_in(letterbox: Letterbox) -> None:
    done = await letterbox.terminal.run("sign-in", "--email", "ada@example.org", typed="12345\n")
    assert done.code == 1
    assert "what to do" in done.stderr
    assert not (letterbox.terminal.home / "sign-in.json").exists()


async def test_where_nobody_can_type_a_code_the_way_on_is_said(letterbox: Letterbox) -> None:
    done = await letterbox.terminal.run("sign-in", "--email", "ada@example.org")
    assert done.code == 2
    (challenge,) = re.findall(r"go on with: nexus sign-in --challenge (\S+) --code CODE", done.stderr)
    told = await letterbox.terminal.told("sign-in", "--challenge", challenge, "--code", letterbox.code())
    assert told["user"] == person_of("ada@example.org")
    nobody = await letterbox.terminal.run("sign-in")
    assert nobody.code == 2
    assert "give --email or --key-file" in nobody.stderr


async def test_who_is_signed_out_where_there_is_no_local_user_is_nobody(database: Database, tmp_path: Path) -> None:
    desk = open_desk(database, SystemClock(), public_url="http://localhost:5000", local_user=None)
    async with served(desk.app) as url:
        terminal = Terminal(url, tmp_path / "home")
        await terminal.told("sign-in", "--key-file", str(key_file(tmp_path, SECRET)))
        assert await terminal.told("sign-out") == {"signed_out": True, "user": ADDRESS.lower(), "now": None}


async def test_a_person_is_asked_for_address_and_code(letterbox: Letterbox, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(question: str, **_options: object) -> str:
        asked.append(question)
        return "ada@example.org" if question == "e-mail" else letterbox.code()

    monkeypatch.setattr("click.prompt", answer)
    done = await letterbox.terminal.run("sign-in")
    assert done.code == 0, done.stderr
    assert asked == ["e-mail", "the code that was sent there"]


async def test_a_node_that_sends_no_mail_says_so(terminal: Terminal) -> None:
    assert (await terminal.run("sign-in", "--email", "ada@example.org")).code == 1
