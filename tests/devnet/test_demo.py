"""What the demo says at its end about the addresses that it printed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from agentnexus.devnet.demo import DEMO_HOME, seeing_again


@pytest.mark.parametrize("home", [DEMO_HOME, Path("/tmp/a folder; with $signs")])
def test_the_command_that_shows_the_demos_pages_again_names_the_demos_home(home: Path) -> None:
    text = seeing_again(home)
    assert "has ended" in text
    variable, *command = shlex.split(text.splitlines()[-1])
    assert variable == f"NEXUS_HOME={home}"
    assert command == [".venv/bin/nexus", "up"]
