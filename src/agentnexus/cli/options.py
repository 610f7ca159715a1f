"""Options that many commands share, and how they answer."""

from __future__ import annotations

import json
from pathlib import Path

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
key_file_option = click.option("--key-file", type=FILE, help="your key: keystore v3, or a file with a hex key (0600)")
password_file_option = click.option("--password-file", type=FILE, help="the first line is the password; else asked")
json_option = click.option("--json", "as_json", is_flag=True, help="print one JSON value, errors as well")


def done(message: str, answer: object, *, as_json: bool) -> int:
    """Say that something was done: in a sentence, or `answer` as JSON. The exit code."""
    click.echo(json.dumps(answer) if as_json else message)
    return 0
