"""`nexus task` with words, `list` and `show`: what was meant is found, and tasks are shown as they stand."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from agentnexus.cli.app import nexus
from tests.cli.test_offers import Answers

USDC = {"asset": "eip155:1/erc20:0x" + "a" * 40, "symbol": "USDC", "decimals": 6}
PLAN = {"steps": [{"id": "s1", "capability": "text.summarize", "seller": "evm:0x1", "market": "x402"}]}


def row(number: int, **changes: object) -> dict[str, object]:
    return {
        "id": f"wf_{number}", "text": f"Summarise\nthe report {number}", "status": "completed",
        "created_at": "2026-11-21T10:00:00.123+00:00", "cost": {**USDC, "atomic": "10000"}, **changes,
    }  # fmt: skip


def state(**changes: object) -> dict[str, object]:
    return {
        "workflow_id": "wf_1", "status": "completed", "planner": "offline", "plan": PLAN, "estimate": None,
        "cost": {**USDC, "atomic": "10000"}, "result": {"summary": ["All is well."]}, "receipts": [], "error": None,
        **changes,
    }  # fmt: skip


def ask(answer: object, *arguments: str) -> tuple[Result, Answers]:
    answers = Answers(answer)
    with answers.served() as url:
        environment = {"NEXUS_API_URL": url, "NEXUS_USER": "ada b"}
        return CliRunner().invoke(nexus, ["task", *arguments], env=environment, standalone_mode=False), answers


def test_tasks_are_listed_a_line_each() -> None:
    done, answers = ask({"workflows": [row(1), row(2, status="failed")], "nextCursor": "c2"}, "list", "--limit", "2")
    first, second, more = done.output.splitlines()
    assert first.split() == [
        "wf_1",
        "2026-11-21T10:00:00",
        "completed",
        "0.01",
        "USDC",
        "Summarise",
        "the",
        "report",
        "1",
    ]
    assert "failed" in second
    assert more == "more: nexus task list --cursor c2"
    assert answers.asked == [{"limit": ["2"]}], "an empty cursor is none"


def test_what_a_task_says_cannot_steer_the_terminal_and_is_cut_at_its_end() -> None:
    done, _ = ask({"workflows": [row(1, text="\x1b[2J" + "x" * 100)], "nextCursor": ""}, "list")
    assert "\x1b[2J" not in done.output
    assert done.output.rstrip().endswith("x…")


def test_no_tasks_are_no_failure() -> None:
    done, _ = ask({"workflows": [], "nextCursor": ""}, "list")
    assert done.return_value == 0
    assert "no tasks yet" in done.output


def test_a_list_in_json_is_the_nodes_answer() -> None:
    answer = {"workflows": [row(1)], "nextCursor": "", "total": 1}
    done, _ = ask(answer, "list", "--json")
    assert json.loads(done.output) == answer


def test_a_task_is_shown_with_plan_and_result() -> None:
    done, _ = ask(state(), "show", "wf_1")
    assert "text.summarize" in done.output
    assert "All is well." in done.output
    assert "0.01 USDC" in done.output


@pytest.mark.parametrize("status", ["planning", "running", "awaiting_approval"])
def test_a_task_under_way_says_how_it_stands(status: str) -> None:
    done, _ = ask(state(status=status, plan={"steps": []}), "show", "wf_1")
    assert done.output.startswith(f"{status}: http://")
    assert done.output.rstrip().endswith("/tasks/wf_1")


def test_words_are_a_task_without_naming_the_command() -> None:
    """Each fails for want of a budget, after the words were taken as a task."""
    for arguments in (["Summarise it"], ["run", "Summarise it"], ["--yes", "Summarise it"]):
        done = CliRunner().invoke(nexus, ["task", *arguments])
        assert "Missing option '--budget'" in done.output
        assert "nexus task run" in done.output or "task run" in done.output


def test_help_shows_the_options_of_a_task_and_the_commands() -> None:
    shown = CliRunner().invoke(nexus, ["task", "--help"]).output
    for word in ("--budget", "--grant", "list", "show"):
        assert word in shown
