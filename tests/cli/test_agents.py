"""`nexus agents show`: what an agent asks for and what it answers."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from agentnexus.cli.agents import _outputs, list_agents, show
from tests.cli.test_offers import Answers

SUMMARY: dict[str, object] = {"type": "object", "properties": {"summary": {}, "word_count": {}}}


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ({"properties": {"result": {"$ref": "#/$defs/Summary"}, "engine": {}}, "$defs": {"Summary": SUMMARY}},
         ["summary", "word_count"]),
        ({"properties": {"result": SUMMARY, "engine": {}}}, ["summary", "word_count"]),
        ({"properties": {"result": {"type": "string"}, "engine": {}}}, ["result", "engine"]),
        ({"properties": {"text": {}}}, ["text"]),
        ({"properties": {"result": {"$ref": "#/$defs/Gone"}}}, ["result"]),
        ({"type": "string"}, []),
        ({}, []),
    ],
)  # fmt: skip
def test_outputs_are_those_of_the_result(schema: dict[str, object], names: list[str]) -> None:
    assert _outputs(schema) == names


def test_an_agent_is_shown_with_inputs_and_outputs() -> None:
    agent = {
        "id": "x", "name": "X", "price": "0.020000", "currency": "USDC", "summary": "Does it", "capability": "a.b",
        "version": "1", "inputSchema": {"properties": {"text": {}, "style": {}}, "required": ["text"]},
        "outputSchema": SUMMARY,
    }  # fmt: skip
    with Answers({"data": agent}).served() as url:
        shown = CliRunner().invoke(show, ["x"], env={"NEXUS_API_URL": url}, standalone_mode=False).stdout
    assert "X  0.02 USDC per run\n" in shown
    words = [line.split() for line in shown.splitlines()]
    assert ["input", "text", "(needed)"] in words
    assert ["output", "summary"] in words
    assert ["word_count"] in words


def test_an_agent_that_is_sold_by_the_month_says_so() -> None:
    agent = {
        "id": "x", "name": "X", "price": "0.02", "currency": "USDC", "summary": "Does it", "capability": "a.b",
        "version": "1", "inputSchema": {}, "month": {"price": "5.000000", "runs": None},
    }  # fmt: skip
    with Answers({"data": agent}).served() as url:
        shown = CliRunner().invoke(show, ["x"], env={"NEXUS_API_URL": url}, standalone_mode=False).stdout
    assert "X  0.02 USDC per run, or 5.00 USDC per month" in shown
    assert "buy runs: nexus agents buy x --runs 5" in shown
    assert "a month:  nexus agents buy x --month   # as many runs as you like" in shown
    assert "passed on" not in shown


def test_what_can_be_bought_is_in_the_list_and_to_be_typed() -> None:
    agent = {
        "id": "x", "name": "X", "price": "0.02", "currency": "USDC", "summary": "Does it", "capability": "a.b",
        "version": "1", "inputSchema": {}, "month": {"price": "5", "runs": 1000}, "transferable": True,
    }  # fmt: skip
    with Answers({"data": agent}).served() as url:
        shown = CliRunner().invoke(show, ["x"], env={"NEXUS_API_URL": url}, standalone_mode=False).stdout
    assert "--month   # at most 1000 runs" in shown
    assert "can be passed on: nexus entitlements pass-on" in shown
    with Answers({"data": [agent, agent | {"id": "y", "month": None}]}).served() as url:
        listed = CliRunner().invoke(list_agents, [], env={"NEXUS_API_URL": url}, standalone_mode=False).stdout
    assert "x  0.02 USDC, or 5.00 USDC per month\n" in listed
    assert "y  0.02 USDC\n" in listed
