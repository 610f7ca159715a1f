"""Signing in to a running economy from a terminal: a wallet's key file, a code by e-mail, and out again."""

from __future__ import annotations

import json
import os
import re
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from eth_account import Account

from agentnexus.identity.mail_codes import person_of
from tests.economy.conftest import Town

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]
EMAIL = "grace@example.org"


@pytest.fixture
def home(town: Town, tmp_path: Path) -> Path:
    """A home of somebody's own, which knows where the economy is and has no token of it."""
    (tmp_path / "devnet.json").write_text(json.dumps({**town.economy.describe(), "token": "", "user": "nobody"}))
    return tmp_path


async def nexus(home: Path, *arguments: str) -> dict[str, object]:
    process = await create_subprocess_exec(
        sys.executable, "-m", "agentnexus.cli", *arguments, "--json",
        env={**os.environ, "NEXUS_HOME": str(home)}, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, out.decode() + err.decode()
    answer: dict[str, object] = json.loads(out)
    return answer


def token_in(home: Path) -> str:
    (kept,) = json.loads((home / "sign-in.json").read_text()).values()
    return str(kept["token"])


async def who(town: Town, token: str) -> tuple[int, object]:
    async with httpx.AsyncClient(base_url=town.economy.urls["api"]) as client:
        answer = await client.get("/api/v1/auth/session", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code, answer.json().get("data", {}).get("user")


async def signed_in_and_out(town: Town, home: Path, expected: str) -> None:
    """Who signed in is known by the node until they sign out."""
    token = token_in(home)
    assert await who(town, token) == (200, expected)
    assert (await nexus(home, "sign-out"))["user"] == expected
    assert (await who(town, token))[0] == 403


async def test_a_key_file_signs_in_and_out(town: Town, home: Path) -> None:
    key = Account.create()
    path = home / "key"
    path.write_text(key.key.hex())
    path.chmod(0o600)
    assert (await nexus(home, "sign-in", "--key-file", str(path)))["user"] == key.address.lower()
    await signed_in_and_out(town, home, key.address.lower())


async def test_a_code_by_e_mail_signs_in_and_out(town: Town, home: Path) -> None:
    begun = await nexus(home, "sign-in", "--email", EMAIL)
    code = newest_code(town.economy.home / "mail", lambda text: f"To: {EMAIL}" in text)
    answer = await nexus(home, "sign-in", "--challenge", str(begun["challenge"]), "--code", code)
    assert answer["user"] == person_of(EMAIL)
    await signed_in_and_out(town, home, person_of(EMAIL))


def newest_code(folder: Path, wanted: Callable[[str], bool]) -> str:
    texts = [path.read_text() for path in sorted(folder.glob("*.eml"))]
    text = next(each for each in reversed(texts) if wanted(each))
    (code,) = re.findall(r"^ {4}(\d{8})$", text, re.MULTILINE)
    return str(code)


async def test_the_key_of_a_wallet_is_handed_to_who_is_here_or_has_just_signed_in(town: Town, home: Path) -> None:
    password = home / "password"
    password.write_text("correct horse battery\n")
    taken = []

    async def takes_the_key(name: str) -> None:
        file = home / f"{name}.json"
        await nexus(home, "wallet", "create")
        taken.append(await nexus(home, "wallet", "export", str(file), "--password-file", str(password), "--yes"))
        assert file.exists()

    key = home / "key"
    key.write_text(Account.create().key.hex())
    key.chmod(0o600)
    await nexus(home, "sign-in", "--key-file", str(key))
    await takes_the_key("signed-in")
    await nexus(home, "sign-out")
    (home / "devnet.json").write_text(json.dumps(town.economy.describe()))  # the one who runs the economy
    await takes_the_key("local")
    assert taken[0]["address"] != taken[1]["address"]
