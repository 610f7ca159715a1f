"""`nexus prefer`: what it sends for each option, and what it says."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from agentnexus.cli.prefer import prefer

from .test_offers import Answers

SELLER = "evm:0x" + "1" * 40


def run(answers: Answers, *arguments: str) -> Result:
    with answers.served() as url:
        return CliRunner().invoke(prefer, list(arguments), env={"NEXUS_API_URL": url}, standalone_mode=False)


@pytest.mark.parametrize(
    ("option", "kind", "said"),
    [
        ((), "preferred", "is taken first"),
        (("--prefer",), "preferred", "is taken first"),
        (("--block",), "blocked", "is never hired"),
    ],
)
def test_a_seller_is_put_on_a_list(option: tuple[str, ...], kind: str, said: str) -> None:
    answers = Answers({"data": {"seller": SELLER, "kind": kind}})
    done = run(answers, SELLER, *option)
    assert answers.sent == [("PUT", {"seller": SELLER, "kind": kind})]
    assert f"{SELLER} {said}" in done.stdout


def test_a_seller_is_taken_off() -> None:
    answers = Answers({"data": {"seller": SELLER, "kind": None}})
    done = run(answers, SELLER, "--clear")
    assert answers.sent == [("DELETE", None)]
    assert answers.asked == [{"seller": [SELLER]}]
    assert "on none of your lists" in done.stdout


def test_the_lists_are_shown() -> None:
    listed = [{"seller": SELLER, "kind": "blocked", "since": "2026-11-21T07:00:00Z"}]
    assert f"blocked    {SELLER}" in run(Answers({"data": listed})).stdout
    assert json.loads(run(Answers({"data": listed}), "--json").stdout) == listed
    assert "your lists are empty" in run(Answers({"data": []})).stdout


def test_an_option_without_a_seller_is_wrong_use() -> None:
    done = CliRunner().invoke(prefer, ["--block"])
    assert done.exit_code == 2
    assert "name the seller" in done.output
