"""Passwords where nobody can type one: what to add is said, and Python's own warnings are not for people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from agentnexus.cli.passwords import new_password, password_of

NEW = "from agentnexus.cli.passwords import new_password; print(new_password(None))"


def test_without_a_terminal_the_option_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agentnexus.cli", "wallet", "new", "key.json", "--for", "local"]
    done = subprocess.run(
        command, cwd=tmp_path, stdin=subprocess.DEVNULL, text=True, capture_output=True, start_new_session=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "add --password-file" in done.stderr
    assert "Warning" not in done.stderr
    assert not (tmp_path / "key.json").exists()


def test_a_password_may_come_through_a_pipe() -> None:
    typed = "correct horse battery\n" * 2
    done = subprocess.run(
        [sys.executable, "-c", NEW], input=typed, text=True, capture_output=True, start_new_session=True, check=True
    )
    assert "correct horse battery" in done.stdout
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("there", [True, False])
def test_a_person_who_stops_is_not_told_about_options(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_question: object, **_options: object) -> None:
        raise click.Abort

    monkeypatch.setattr("click.prompt", stop)
    monkeypatch.setattr("sys.stdin.isatty", lambda: there)
    with pytest.raises(click.Abort if there else click.UsageError):
        new_password(None)
    with pytest.raises(click.Abort if there else click.UsageError):
        password_of(Path("key.json"), None)
