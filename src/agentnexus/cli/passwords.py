"""Passwords of key files: the first line of a file, or what the person at the keyboard types."""

from __future__ import annotations

from pathlib import Path

import click

PASSWORD_CHARS_MIN = 8


def password_of(path: Path, password_file: Path | None) -> str:
    """Of the key file at `path`."""
    if password_file is None:
        return str(click.prompt(f"password of {path}", hide_input=True, err=True))
    return _first_line(password_file)


def new_password(password_file: Path | None) -> str:
    """For a key that is about to be written; typed twice. Raises `InvalidInput` for a short one."""
    from agentnexus.core.errors import InvalidInput

    given = "" if password_file is None else _first_line(password_file)
    asked = str(given or click.prompt("password", hide_input=True, confirmation_prompt=True, err=True))
    if len(asked) < PASSWORD_CHARS_MIN:
        raise InvalidInput("the password is too short", next_step=f"use {PASSWORD_CHARS_MIN} characters or more")
    return asked


def _first_line(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    return lines[0] if lines else ""
