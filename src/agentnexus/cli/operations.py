"""What a person's own wallet does: asked for, signed where that is ours to do, and followed until the chain has it."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from agentnexus.cli.amounts import Amount
from agentnexus.cli.options import key_file_option, password_file_option

if TYPE_CHECKING:
    import httpx

    from agentnexus.cli.approving import Asked

Json = dict[str, object]
EXIT_FAILED, EXIT_OVER_BUDGET, EXIT_NOT_YET = 1, 3, 4
PATH = "/api/v1/wallet/user-operations"
FINAL = {"succeeded": 0, "failed": EXIT_FAILED, "rejected": EXIT_FAILED}
ASK_SECONDS, WAIT_SECONDS, MOVES_SECONDS = 20, 180, 5
MAX_GAS = "0.01"
SAID = {
    "unsigned": "waits for your signature",
    "signed": "on its way",
    "succeeded": "done",
    "failed": "failed: nothing of it happened",
    "rejected": "not sent, and never will be",
}


@dataclass(frozen=True, slots=True)
class Course:
    """Something that takes its time at the node.

    Args:
        path: below it is what is made, by id.
        words: how far it is, for people.
        ends: exit codes by final state.
        moving: steps within a state that is final otherwise.
    """

    path: str
    words: Callable[[Json], str]
    ends: Mapping[str, int]
    moving: frozenset[str] = frozenset()

    def where(self, made: Json) -> str:
        return f"{self.path}/{made['id']}"

    def ended(self, made: Json) -> bool:
        return str(made["state"]) in self.ends and made.get("step") not in self.moving

    def exit_code(self, made: Json) -> int:
        """Of how far it got."""
        error = made.get("error")
        if isinstance(error, dict) and error.get("code") in ("budget_exceeded", "insufficient_funds"):
            return EXIT_OVER_BUDGET
        return self.ends[str(made["state"])] if self.ended(made) else EXIT_NOT_YET


OPERATION = Course(PATH, lambda made: SAID.get(str(made["state"]), str(made["state"])), FINAL)


@dataclass(frozen=True, slots=True)
class How:
    """How something is carried out: with which key, whether to wait, and whether anybody is told or asked.

    `max_gas`: the most of the chain's coin that is signed for as gas, decimal text.
    """

    key_file: Path | None
    password_file: Path | None
    wait: bool
    yes: bool
    as_json: bool
    max_gas: str = MAX_GAS

    def tell(self, text: str) -> None:
        """Progress, on standard error."""
        if not self.as_json:
            from agentnexus.cli.printable import printable

            click.secho(printable(text), dim=True, err=True)

    def agree(self, question: str, instead: str = "--yes") -> None:
        """Raises `click.UsageError` where nobody can be asked, stops at a no. `instead`: what spares the question."""
        if self.yes:
            return
        if self.as_json:
            raise click.UsageError(f"--json cannot ask: add {instead}")
        try:
            agreed = click.confirm(question, err=True)
        except click.Abort:
            if sys.stdin.isatty():
                raise
            raise click.UsageError(f"nobody is there to answer: add {instead}") from None
        if not agreed:
            raise click.Abort


def how_options(command: Callable[..., int]) -> Callable[..., int]:
    """What every command has that makes a wallet do something; the command gets them as ``how``."""

    @key_file_option
    @password_file_option
    @click.option(
        "--max-gas",
        type=Amount(18, "coin"),
        default=MAX_GAS,
        show_default=True,
        help="coin that gas may take",
    )
    @click.option("--wait/--no-wait", default=True, help="until the chain has it (the default), or only ask for it")
    @click.option("--yes", is_flag=True, help="do not ask")
    @click.option("--json", "as_json", is_flag=True, help="print one JSON value, errors as well")
    @functools.wraps(command)
    def with_how(
        *arguments: object, key_file: Path | None, password_file: Path | None, max_gas: str, wait: bool, yes: bool,
        as_json: bool, **more: object,
    ) -> int:  # fmt: skip
        return command(*arguments, how=How(key_file, password_file, wait, yes, as_json, max_gas), **more)

    return with_how


async def carry_out(
    client: httpx.AsyncClient, made: Json, how: How, check: Callable[[Asked], None], course: Course = OPERATION
) -> Json:
    """It, as far as it got: signed when it asks for that and there is a key, then waited for.

    `check` raises for what must not be signed.
    """
    sign = made.get("sign")
    if isinstance(sign, dict):
        if how.key_file is None:
            return made
        answer = await answered(cast("Json", sign), how, check)
        made = cast("Json", (await client.post(f"{course.where(made)}/signature", json=answer)).json()["data"])
        if not how.wait and made.get("step") == "signing":  # the answer was faster than what it began
            made = await _moved(client, made, course, MOVES_SECONDS)
    return await followed(client, made, how, course) if how.wait else made


async def answered(sign: Json, how: How, check: Callable[[Asked], None]) -> dict[str, str]:
    """What is sent back for a request to sign, after the checks."""
    from agentnexus.cli.approving import Asked
    from agentnexus.cli.keys import load_signer
    from agentnexus.core.errors import NotAllowed
    from agentnexus.rails.evm.networks import network_by_id

    asked = Asked.read(sign)
    check(asked)
    asked.require_gas(how.max_gas)
    if asked.delegation is not None:
        delegate = asked.delegation.delegate
        if not asked.obeys_ours:
            raise NotAllowed(
                f"the code at {delegate} is not that of our accounts, and could do anything with {asked.sender}",
                next_step="do not trust this node, or use the same version of nexus as it does",
            )
        how.agree(f"from now on {asked.sender} obeys the code at {delegate} as well (EIP-7702). Go on?")
    assert how.key_file is not None
    return await asked.sign(load_signer(how.key_file, how.password_file, network_by_id(asked.chain_id)))


async def followed(client: httpx.AsyncClient, made: Json, how: How, course: Course = OPERATION) -> Json:
    """Ask until it is final, or for three minutes; the node waits with its answers, so this asks rarely."""
    until, told = time.monotonic() + WAIT_SECONDS, ""
    while True:
        words = course.words(made)
        if words != told:
            how.tell(words)
            told = words
        if course.ended(made) or time.monotonic() > until:
            return made
        made = await _moved(client, made, course, ASK_SECONDS)


async def _moved(client: httpx.AsyncClient, made: Json, course: Course, seconds: int) -> Json:
    """It, once it moves or time is up."""
    answer = await client.get(course.where(made), params={"wait": seconds}, timeout=3 * ASK_SECONDS)
    return cast("Json", answer.json()["data"])


def finish(made: Json, how: How, show: Callable[[Json], None], course: Course = OPERATION) -> int:
    """Say how far it got. The exit code; what was not to be waited for is done when it was asked for."""
    if how.as_json:
        click.echo(json.dumps(made))
    else:
        from agentnexus.cli.printable import printable

        show(printable(made))
    return course.exit_code(made) if how.wait or course.ended(made) else 0


def show_operation(shown: Json) -> None:
    """Two to five lines: what it does, how far it is, where to look it up, what went wrong, and what is to be done."""
    state = str(shown["state"])
    colour = {"succeeded": "green", "failed": "red", "rejected": "red"}.get(state, "yellow")
    click.secho(f"{shown['title']}: {OPERATION.words(shown)}", fg=colour)
    click.echo(f"  {shown['id']}")
    if shown.get("transaction"):
        click.echo(f"  transaction {shown['transaction']}")
    show_problem(shown.get("error"))
    if state == "unsigned":
        show_signing(shown, f"nexus wallet sign {shown['id']} --key-file FILE", f"wallet/operations/{shown['id']}")


def show_signing(shown: Json, command: str, page: str) -> None:
    """How what waits is signed: a passkey does that on its page."""
    sign = shown.get("sign")
    if isinstance(sign, dict) and sign.get("kind") == "passkey":
        from agentnexus.cli.node import find_node

        command = f"with your passkey, at {find_node().api_url.rstrip('/')}/{page}"
    click.echo(f"  sign it:  {command}")


def show_problem(error: object) -> None:
    """An error of ours inside an answer, in the same form as others."""
    if isinstance(error, dict):
        from agentnexus.cli.node import advice

        click.echo(f"  {error.get('message')}", err=True)
        if next_step := advice(error):
            click.echo(f"  what to do: {next_step}", err=True)
