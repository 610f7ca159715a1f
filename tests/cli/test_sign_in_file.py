"""The file of tokens: private, whole, one token per node, and never the wrong one."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import psutil
import pytest

from agentnexus.cli.node import find_node
from agentnexus.cli.sign_in_file import HERE, NAME, SignedIn, forget, place, remember, signed_in
from agentnexus.core.errors import InvalidInput, NotAllowed

ADA, BOB = SignedIn("ada", "nx_ada"), SignedIn("bob", "nx_bob")
URL = "https://node.example"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("NEXUS_API_URL", "NEXUS_TOKEN", "NEXUS_USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def describe_economy(home: Path) -> None:
    home.mkdir(exist_ok=True)
    facts = {"api_url": "http://127.0.0.1:1", "token": "own", "user": "local", "pid": os.getpid()}
    (home / "devnet.json").write_text(json.dumps(facts))
    assert psutil.Process(os.getpid()).create_time() <= (home / "devnet.json").stat().st_mtime


def test_a_token_is_kept_for_its_owner_alone(home: Path) -> None:
    path = remember(URL, ADA)
    assert path == home / NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert signed_in(URL) == ADA
    assert [each.name for each in home.iterdir()] == [NAME], "nothing is left beside it"


def test_each_node_has_its_own_token() -> None:
    remember(URL, ADA)
    remember(HERE, BOB)
    assert (signed_in(f"{URL.upper()}/"), signed_in(HERE)) == (ADA, BOB)
    assert signed_in("https://other.example") is None
    assert forget(URL)
    assert not forget(URL)
    assert (signed_in(URL), signed_in(HERE)) == (None, BOB)


def test_a_token_shows_in_no_message() -> None:
    assert "nx_ada" not in repr(ADA)


def test_a_file_that_others_can_read_is_refused(home: Path) -> None:
    remember(URL, ADA).chmod(0o644)
    with pytest.raises(NotAllowed, match="readable by others"):
        signed_in(URL)


@pytest.mark.parametrize("text", ["", "[]", '{"x": 1}', '{"x": {"user": "ada"}}', '{"x": {"user": 1, "token": "t"}}'])
def test_a_damaged_file_is_named_with_what_to_do(home: Path, text: str) -> None:
    path = remember(URL, ADA)
    path.write_text(text)
    with pytest.raises(InvalidInput, match="damaged") as caught:
        signed_in(URL)
    assert "sign in again" in caught.value.next_step


def test_every_command_uses_the_token_of_the_node_it_talks_to(monkeypatch: pytest.MonkeyPatch) -> None:
    remember(URL, ADA)
    monkeypatch.setenv("NEXUS_API_URL", URL)
    assert (place(), find_node().token, find_node().user) == (URL, "nx_ada", "ada")
    monkeypatch.setenv("NEXUS_API_URL", "https://other.example")
    assert (find_node().token, find_node().user) == ("", "local")


def test_a_token_of_the_environment_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(URL, ADA)
    remember(HERE, ADA)
    monkeypatch.setenv("NEXUS_TOKEN", "nx_env")
    monkeypatch.setenv("NEXUS_USER", "eve")
    monkeypatch.setenv("NEXUS_API_URL", URL)
    assert (find_node().token, find_node().user) == ("nx_env", "eve")
    monkeypatch.delenv("NEXUS_API_URL")
    describe_economy(home)
    assert (find_node().token, find_node().user) == ("nx_env", "eve")


def test_in_the_economy_of_this_home_you_are_who_signed_in_else_its_own_user(home: Path) -> None:
    describe_economy(home)
    assert (find_node().token, find_node().user) == ("own", "local")
    remember(HERE, BOB)
    assert (find_node().token, find_node().user) == ("nx_bob", "bob")
    forget(HERE)
    assert find_node().user == "local"
