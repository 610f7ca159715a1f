"""Passwords of key files: the first line of a file, or what the person at the keyboard types."""

from __future__ import annotations

import sys
from pathlib import Path

import click

PASSWORD_CHARS_MIN = 8


def password_of(path: Path, password_file: Path | None) -> str:
    """Of the key file at `path`."""
    if password_file is None:
        return _typed(f"password of {path}", twice=False)
    return _first_line(password_file)


def new_password(password_file: Path | None) -> str:
    """For a key that is about to be written; typed twice. Raises `InvalidInput` for a short one."""
    from agentnexus.core.errors import InvalidInput

    given = "" if password_file is None else _first_line(password_file)
    asked = given or _typed("password", twice=True)
    if len(asked) < PASSWORD_CHARS_MIN:
        raise InvalidInput("the password is too short", next_step=f"use {PASSWORD_CHARS_MIN} characters or more")
    return asked


def _typed(question: str, *, twice: bool) -> str:
    """Raises `click.UsageError` where nobody can be asked."""
    hidden = sys.stdin.isatty() or _has_terminal()  # a pipe has no echo to turn off, and Python warns of that
    try:
        return str(click.prompt(question, hide_input=hidden, confirmation_prompt=twice, err=True))
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise click.UsageError("nobody is there to type the password: add --password-file FILE") from None


def _has_terminal() -> bool:
    """Whether somebody can be asked though standard input is something else."""
    try:
        with Path("/dev/tty").open("rb"):
            return True
    except OSError:
        return False


def _first_line(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    return lines[0] if lines else ""
