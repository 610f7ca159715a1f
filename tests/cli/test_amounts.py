"""Amounts and errors of the command line, before any node is asked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import pytest

from agentnexus.cli.amounts import AMOUNT
from agentnexus.cli.app import report, wants_json
from agentnexus.cli.node import RemoteError, _alive, find_node
from agentnexus.core.errors import BudgetExceeded, InvalidInput, Unavailable
from tests.cli.test_cli import nexus


@pytest.mark.parametrize(
    ("text", "amount"), [("0.50", "0.50"), ("5", "5"), ("1e-6", "0.000001"), ("0.000001", "0.000001"), ("1E1", "10")]
)
def test_amounts_stay_text(text: str, amount: str) -> None:
    assert AMOUNT.convert(text, None, None) == amount


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "abc", "", "0.0000001", "1,5", "0x10"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="amount"):
        AMOUNT.convert(text, None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("task", "x", "--budget", "abc", "--yes", "--json"),
        ("task", "x", "--budget", "1", "--json"),
        ("task", "--json"),
        ("hire", "x", "--input", "@absent.json", "--max-price", "1", "--json"),
        ("wallet", "--nonsense", "--json"),
        ("nonsense", "--json"),
    ],
)
def test_with_json_wrong_use_is_json_too(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = nexus(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    answer = json.loads(done.stdout)
    assert answer["success"] is False
    assert answer["error"]["code"] == "invalid_input"
    assert answer["error"]["message"]


def test_the_file_of_up_is_not_a_wish_for_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["nexus", "up", "--json", "devnet.json"])
    assert not wants_json()
    monkeypatch.setattr("sys.argv", ["nexus", "wallet", "--json"])
    assert wants_json()


def test_an_error_shows_its_fields_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["nexus", "task"])
    fields = [{"field": "body.input", "problem": "too short"}]
    report(InvalidInput("the request is not valid", next_step="mend it", fields=fields))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "error: the request is not valid", "  body.input: too short", "  what to do: mend it"
    ]  # fmt: skip


def test_a_remote_error_keeps_its_code_and_details() -> None:
    body = {"code": "budget_exceeded", "message": "no", "next_step": "wait", "details": {"limit": "per_day"}}
    error = RemoteError(402, body)
    assert error.code == BudgetExceeded.code
    assert error.to_json() == body
    assert RemoteError(500, {}).message == "the node answered 500"


def test_a_later_process_with_the_same_number_is_not_the_economy(tmp_path: Path) -> None:
    assert _alive(os.getpid(), described_at=4e9)
    assert not _alive(os.getpid(), described_at=1.0)


def test_the_node_is_that_of_the_environment_or_of_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path))
    monkeypatch.delenv("NEXUS_API_URL", raising=False)
    with pytest.raises(Unavailable, match="no economy"):
        find_node()
    facts = {"api_url": "http://here", "token": "t", "user": "me", "pid": os.getpid()}
    (tmp_path / "devnet.json").write_text(json.dumps(facts))
    assert find_node().api_url == "http://here"
    monkeypatch.setenv("NEXUS_API_URL", "http://there")
    monkeypatch.setenv("NEXUS_TOKEN", "nx_1")
    assert (find_node().api_url, find_node().token, find_node().facts) == ("http://there", "nx_1", {})
