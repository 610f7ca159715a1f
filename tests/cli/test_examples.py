"""Every command says what to type, answers in JSON where that makes sense, and its example is one it understands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from agentnexus.cli.app import nexus
from agentnexus.cli.examples import EXAMPLES, with_examples
from agentnexus.cli.options import done, json_option

ROLES = {"serve", "worker", "facilitator", "registry"}
"""They run until they are stopped; their logs are JSON already."""


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        where = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands(command, where)
        else:
            yield where, command


ALL = dict(commands(nexus))


@pytest.mark.parametrize("path", sorted(ALL))
def test_help_ends_with_an_example(path: str) -> None:
    shown = CliRunner().invoke(ALL[path], ["--help"])
    assert shown.exit_code == 0
    assert shown.output.rstrip().endswith(EXAMPLES[path]), "its line in EXAMPLES, whole"


@pytest.mark.parametrize("path", sorted(ALL))
def test_an_example_is_a_call_that_its_command_understands(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(EXAMPLES[path])
    assert words[: 1 + len(path.split())] == ["nexus", *path.split()]
    given = words[1 + len(path.split()) :]
    for word in given:
        if word.endswith((".json", ".pdf", ".csv")):
            Path(word.removeprefix("@")).write_text("{}", encoding="utf-8")
        elif word == "my-agent" and path.endswith("test"):
            Path(word).mkdir()
    assert set(ALL[path].make_context(path, given).params) == {each.name for each in ALL[path].params}


@pytest.mark.parametrize("path", sorted(set(ALL) - ROLES))
def test_every_command_but_the_roles_can_answer_in_json(path: str) -> None:
    (option,) = [each for each in ALL[path].params if "--json" in each.opts]
    assert isinstance(option, click.Option)
    assert option.help


def test_a_group_gives_its_commands_their_examples() -> None:
    @click.group()
    def wallet() -> None: ...

    @wallet.command()
    def odd() -> None: ...

    with_examples(wallet, "wallet")
    assert odd.epilog is None, "what has no example says none"


def test_what_was_done_is_a_sentence_or_json() -> None:
    @click.command()
    @json_option
    def act(as_json: bool) -> int:
        return done("it is done", {"id": "x"}, as_json=as_json)

    assert CliRunner().invoke(act, []).output == "it is done\n"
    assert json.loads(CliRunner().invoke(act, ["--json"]).output) == {"id": "x"}


def test_the_exit_codes_are_in_the_help() -> None:
    shown = CliRunner().invoke(nexus, ["--help"]).output
    for word in ("0 done", "1 failed", "2 wrongly called", "3 over a budget"):
        assert word in " ".join(shown.split())
