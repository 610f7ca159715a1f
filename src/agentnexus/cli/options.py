"""Options that many commands share, and how they answer."""

from __future__ import annotations

import json

import click

json_option = click.option("--json", "as_json", is_flag=True, help="print one JSON value, errors as well")


def done(message: str, answer: object, *, as_json: bool) -> int:
    """Say that something was done: in a sentence, or `answer` as JSON. The exit code."""
    click.echo(json.dumps(answer) if as_json else message)
    return 0
