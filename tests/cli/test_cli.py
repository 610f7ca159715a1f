"""The command line without a node: help, exit codes, advice, and a light start."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentnexus.cli.agents import _price
from agentnexus.cli.app import COMMANDS
from agentnexus.cli.task import _read_plan
from agentnexus.cli.view import money, summary


def nexus(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("NEXUS_", "DATABASE_URL"))}
    return subprocess.run(
        [sys.executable, "-m", "agentnexus.cli", *arguments],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_lists_every_command(tmp_path: Path) -> None:
    done = nexus("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command: str, tmp_path: Path) -> None:
    done = nexus(command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Usage: nexus" in done.stdout


def test_start_up_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, agentnexus.cli.app\n"
        "heavy = {'pydantic', 'fastapi', 'asyncpg', 'httpx', 'eth_account', 'numpy', 'rich', 'x402'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("task",),
        ("task", "x"),
        ("task", "x", "--budget", "1", "--file", "absent.pdf"),
        ("task", "x", "--budget", "1", "--yes", "--plan", "absent.json"),
        ("task", "x", "--budget", "1", "--yes", "--plan", __file__),
        ("budget", "--set", "per_year=5"),
        ("hire", "pdf.extract", "--input", "{not json", "--max-price", "1"),
        ("worker", "--port", "5"),
        ("serve", "--port", "70000"),
    ],
)
def test_wrong_use_exits_with_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = nexus(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("task", "x", "--budget", "1"), ("offers", "pdf.extract"), ("wallet",), ("budget",), ("agents", "list")],
)
def test_without_an_economy_the_advice_is_to_start_one(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = nexus(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "no economy is running here" in done.stderr
    assert "nexus up" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_json_an_error_is_json_too(tmp_path: Path) -> None:
    done = nexus("wallet", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "unavailable"


def test_an_economy_that_stopped_is_said_to_have_stopped(tmp_path: Path) -> None:
    (tmp_path / ".nexus").mkdir()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    facts = {"api_url": "http://127.0.0.1:1", "token": "t", "user": "local", "pid": gone.pid}
    (tmp_path / ".nexus" / "devnet.json").write_text(json.dumps(facts))
    assert "has stopped" in nexus("wallet", cwd=tmp_path).stderr


def test_a_node_that_does_not_answer_is_named(tmp_path: Path) -> None:
    done = nexus("wallet", cwd=tmp_path, NEXUS_API_URL="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "http://127.0.0.1:1 does not answer" in done.stderr


def test_a_receipt_file_that_holds_none_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("[]")
    done = nexus("receipt", "verify", "r.json", cwd=tmp_path)
    assert done.returncode == 1
    assert "holds no receipt" in done.stderr
    (tmp_path / "r.json").write_text("{")
    assert "is not JSON" in nexus("receipt", "verify", "r.json", cwd=tmp_path).stderr


def test_a_role_without_a_database_says_what_to_set(tmp_path: Path) -> None:
    done = nexus("facilitator", "--port", "45999", cwd=tmp_path)
    assert done.returncode == 1
    assert "DATABASE_URL" in done.stderr
    assert nexus("db", cwd=tmp_path).returncode == 1


@pytest.mark.parametrize(
    ("atomic", "text"),
    [(0, "0.00 USDC"), (20_000, "0.02 USDC"), (1_234_567, "1.234567 USDC"), (5_000_000, "5.00 USDC")],
)
def test_money_is_shown_without_floats(atomic: int, text: str) -> None:
    assert money({"asset": "x", "symbol": "USDC", "decimals": 6, "atomic": str(atomic)}) == text


def test_a_result_is_summed_up_by_what_people_look_for_first() -> None:
    result = {"answer": {"result": {"summary": ["First.", "Second."], "word_count": 9}}}
    assert summary(result).splitlines()[:1] != []
    assert "First." in summary(result)
    assert "word_count" not in summary(result)
    assert summary("plain") == "plain"
    assert summary(None) == "null"


def test_prices_have_as_many_decimals_as_they_take() -> None:
    shown = [_price({"price": price, "currency": "USDC"}) for price in ("0.020000", "1.5", "3", "0.0125", "0.000001")]
    assert shown == ["0.02 USDC", "1.50 USDC", "3.00 USDC", "0.0125 USDC", "0.000001 USDC"]


@pytest.mark.parametrize("wrap", [lambda plan: plan, lambda plan: {"input": "Book", "maxCost": "1", "plan": plan}])
def test_a_plan_file_has_the_plan_alone_or_a_whole_request(wrap: Callable[[object], object]) -> None:
    plan = {"steps": [{"id": "book", "capability": "room.book"}]}
    assert _read_plan(io.StringIO(json.dumps(wrap(plan)))) == plan
