"""`nexus escrow` on a running economy: a person's prepaid account from opening to taking the money back."""

from __future__ import annotations

import json
import os
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from solders.keypair import Keypair

from agentnexus.core.clock import SystemEntropy
from agentnexus.devnet.solana.accounts import solana_accounts
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Database
from agentnexus.rails.solana.networks import NetworkKind
from agentnexus.rails.solana.signer import LocalSigner
from tests.economy.conftest import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class Person:
    """Somebody at a terminal of the economy, with a home of their own: the local user goes on without an account."""

    town: Town
    home: Path

    async def nexus(self, *arguments: str) -> tuple[int, str, str]:
        process = await create_subprocess_exec(
            sys.executable, "-m", "agentnexus.cli", *arguments,
            env={**os.environ, "NEXUS_HOME": str(self.home)}, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def told(self, *arguments: str) -> dict[str, object]:
        code, out, err = await self.nexus("escrow", *arguments, "--json")
        assert code == 0, out + err
        answer: dict[str, object] = json.loads(out)
        return answer

    async def refused(self, *arguments: str) -> tuple[int, str]:
        """Exit code and the error's code."""
        code, out, _ = await self.nexus("escrow", *arguments, "--json")
        assert code != 0
        return code, str(json.loads(out)["error"]["code"])


async def person(town: Town, folder: Path, name: str) -> Person:
    database = await Database.open(town.economy.database_url, max_size=1)
    token = await Tokens(database, SystemEntropy()).issue(name)
    await database.close()
    description = {**town.economy.describe(), "token": token, "user": name}
    (folder / "devnet.json").write_text(json.dumps(description))
    return Person(town, folder)


@pytest_asyncio.fixture(loop_scope="session")
async def ann(town: Town, tmp_path: Path) -> AsyncIterator[Person]:
    yield await person(town, tmp_path, f"ann-{tmp_path.name}")


async def test_top_up_opens_an_account_pays_and_claims(ann: Person) -> None:
    code, out, err = await ann.nexus("escrow", "top-up", "1.5")
    assert (code, out) == (0, "1.50 USDC credited; 1.50 USDC available\n"), err
    assert (await ann.told("top-up", "0.25"))["message"] == "Deposit confirmed"
    _, out, _ = await ann.nexus("escrow", "balance")
    assert out.splitlines()[0].split() == ["USDC", "1.75", "available,", "0.00", "reserved"]
    done = await ann.told("withdraw", "0.5", "--key", "w1")
    assert await ann.told("withdraw", "0.5", "--key", "w1") == done  # the same key, the same withdrawal
    _, out, _ = await ann.nexus("escrow", "history")
    kinds = [line.split()[1:4] for line in out.splitlines()]
    assert kinds == [["withdrawal", "-0.50", "USDC"], ["deposit", "+0.25", "USDC"], ["deposit", "+1.50", "USDC"]]
    assert str(done["signature"]) in out
    assert await ann.refused("withdraw", "99") == (3, "insufficient_funds")
    assert await ann.refused("withdraw", "0.0000001", "--asset", "USDC") == (1, "invalid_input")
    assert await ann.refused("create", "--wallet", str(Keypair().pubkey())) == (1, "conflict")


async def test_an_account_of_ones_own_key_is_proven_and_topped_up_from_outside(ann: Person, tmp_path: Path) -> None:
    keypair, path = Keypair(), tmp_path / "wallet.json"
    LocalSigner(keypair.secret(), NetworkKind.TESTNET).write_keypair_file(path)
    code, out, err = await ann.nexus("escrow", "create", "--key", str(path))
    assert code == 0, err
    assert str(keypair.pubkey()) in out
    code, _, err = await ann.nexus("escrow", "top-up", "1")
    assert code == 1
    assert "no development wallet" in err
    assert "nexus escrow deposit" in err
    assert await ann.refused("deposit", "1" * 88) == (1, "invalid_input")
    _, out, _ = await ann.nexus("escrow", "history")
    assert "nothing yet" in out


async def test_the_address_says_where_and_what(ann: Person) -> None:
    _, out, _ = await ann.nexus("escrow", "address")
    assert solana_accounts()["treasury"].address in out
    assert "send USDC from" in out
    assert "SOL is kept" in out
    facts = await ann.told("address")
    assert [asset["symbol"] for asset in facts["assets"]] == ["USDC", "SOL"]  # type: ignore[attr-defined]  # JSON


async def test_before_there_is_an_account_every_command_says_how_to_open_one(ann: Person) -> None:
    for arguments in (("balance",), ("history",), ("withdraw", "1"), ("deposit", "1" * 88)):
        assert await ann.refused(*arguments) == (1, "not_found"), arguments
    code, _, err = await ann.nexus("escrow", "balance")
    assert (code, "create one with your wallet" in err) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("withdraw", "nan"),
        ("withdraw", "-1"),
        ("withdraw", "1", "--asset", "EURC"),
        ("create",),
        ("create", "--wallet", "a", "--key", "/dev/null"),
        ("top-up", "1e99"),
        ("history", "--limit", "0"),
        ("deposit",),
    ],
)
async def test_wrong_use_is_said_before_anything_is_asked(ann: Person, arguments: tuple[str, ...]) -> None:
    code, _, err = await ann.nexus("escrow", *arguments)
    assert code == 2, err


async def test_a_key_that_is_no_solana_key_proves_nothing(ann: Person, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("0x" + "11" * 32)
    path.chmod(0o600)
    code, _, err = await ann.nexus("escrow", "create", "--key", str(path))
    assert code == 1
    assert "is no Solana key" in err


async def test_the_ledger_check_covers_the_treasury(ann: Person, town: Town) -> None:
    await ann.told("top-up", "0.75")
    process = await create_subprocess_exec(
        sys.executable, "-m", "agentnexus.cli", "ledger", "check",
        env={**os.environ, "NEXUS_HOME": str(town.economy.home)}, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    shown = out.decode()
    assert process.returncode == 0, shown + err.decode()
    assert shown.count("treasury:solana:") == 2
    assert "the books balance" in shown


async def test_the_page_of_a_running_node_shows_the_account(ann: Person, town: Town) -> None:
    await ann.told("top-up", "0.5")
    headers = {"Authorization": f"Bearer {json.loads((ann.home / 'devnet.json').read_text())['token']}"}
    page = (await town.client.get("/prepaid", headers=headers)).text
    assert "0.50 USDC" in page
    assert solana_accounts()["treasury"].address in page
    mine = (await town.client.get("/prepaid")).text
    assert "Open an account" in mine
