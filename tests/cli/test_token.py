"""`nexus token` on a real database: what is issued opens doors, what is revoked does not."""

from __future__ import annotations

import json

import pytest

from agentnexus.cli.app import LazyGroup
from agentnexus.core.clock import SystemEntropy
from agentnexus.identity.tokens import Holder, Tokens
from agentnexus.platform.database import Database


@pytest.fixture
def nexus(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> object:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.delenv("NEXUS_DATABASE_URL", raising=False)

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["nexus", *arguments])
        code = LazyGroup(name="nexus").main(list(arguments), standalone_mode=False)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


async def found(database_url: str, token: str) -> Holder | None:
    database = await Database.open(database_url, max_size=2)
    try:
        return await Tokens(database, SystemEntropy()).find(token)
    finally:
        await database.close()


def test_issue_list_and_revoke(nexus, database_url: str) -> None:  # type: ignore[no-untyped-def]  # the fixture's function
    import asyncio

    code, out, err = nexus("token", "issue", "alice", "--operator", "--expires", "30d", "--label", "laptop")
    token = out.strip()
    assert (code, token.startswith("nx_")) == (0, True)
    assert "not shown again" in err
    assert asyncio.run(found(database_url, token)) == Holder("alice", "operator")

    code, out, _ = nexus("token", "list", "alice", "--json")
    (entry,) = json.loads(out)
    assert (entry["user"], entry["role"], entry["label"]) == ("alice", "operator", "laptop")
    assert token not in out
    assert entry["id"] in nexus("token", "list")[1]

    assert nexus("token", "revoke", entry["id"], "--json")[0] == 0
    assert asyncio.run(found(database_url, token)) is None
    code, _, err = nexus("token", "revoke", entry["id"])
    assert code == 1
    assert "no token with that id" in err
    assert "nexus token issue" in nexus("token", "list")[1]


def test_a_token_is_as_good_as_signing_in_where_the_operator_vouches_for_it(nexus, database_url: str) -> None:  # type: ignore[no-untyped-def]  # the fixture's function
    import asyncio

    ages = []
    for more in ([], ["--vouch"]):
        holder = asyncio.run(found(database_url, nexus("token", "issue", "alice", *more)[1].strip()))
        assert holder is not None
        ages.append(holder.proof_age)
    assert ages[0] is None
    assert ages[1] is not None


@pytest.mark.parametrize("life", ["0d", "5", "d", "10y", "-1d", "99999d"])
def test_a_life_that_is_none_is_refused_with_an_example(nexus, life: str) -> None:  # type: ignore[no-untyped-def]  # as above
    code, _, err = nexus("token", "issue", "alice", f"--expires={life}")
    assert code == 2
    assert "30d" in err


def test_a_name_that_is_none_is_refused(nexus) -> None:  # type: ignore[no-untyped-def]  # as above
    code, _, err = nexus("token", "issue", "a b")
    assert code == 1
    assert "letters" in err
