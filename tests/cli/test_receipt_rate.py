"""`nexus receipt rate`: what it sends, and what it says of here and of the registry."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from agentnexus.cli.receipt import rate

from .test_offers import Answers


def run(answers: Answers, *arguments: str) -> Result:
    with answers.served() as url:
        return CliRunner().invoke(rate, ["rct_1", *arguments], env={"NEXUS_API_URL": url}, standalone_mode=False)


def test_stars_go_to_the_registry_as_well() -> None:
    answers = Answers({"data": {"receipt": "rct_1", "rating": 5, "published": True}})
    done = run(answers, "--stars", "5", "--comment", "quick")
    assert answers.sent == [("POST", {"rating": 5, "publish": True, "comment": "quick"})]
    assert done.stdout == "5 of 5 for rct_1, at the registry as well\n"


def test_private_stars_stay_here() -> None:
    answers = Answers({"data": {"receipt": "rct_1", "rating": 1}})
    done = run(answers, "--stars", "1", "--private")
    assert answers.sent == [("POST", {"rating": 1, "publish": False, "comment": ""})]
    assert done.stdout == "1 of 5 for rct_1\n"


def test_why_the_registry_has_none_is_said_without_its_control_characters() -> None:
    answers = Answers({"data": {"rating": 3, "published": False, "reason": "rated \x1b[2Jbefore"}})
    said = run(answers, "--stars", "3").stdout
    assert "3 of 5 for rct_1; not at the registry: rated" in said
    assert "\x1b" not in said


def test_the_json_is_the_answer() -> None:
    answers = Answers({"data": {"rating": 3, "published": True}})
    assert json.loads(run(answers, "--stars", "3", "--json").stdout) == {"rating": 3, "published": True}


@pytest.mark.parametrize("stars", ["0", "6", "many"])
def test_other_than_one_to_five_stars_is_wrong_use(stars: str) -> None:
    assert CliRunner().invoke(rate, ["rct_1", "--stars", stars]).exit_code == 2
