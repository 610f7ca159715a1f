"""Tools of an agent's author: a folder that works from the first minute, and trials that say what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentnexus.bootstrap.authoring import make_agent, try_examples
from agentnexus.core.errors import Conflict, NexusError


async def test_a_new_agent_passes_its_own_example_in_the_sandbox(tmp_path: Path) -> None:
    folder = tmp_path / "Word_Counter"
    assert [path.name for path in make_agent(folder)] == ["agent.toml", "agent.py"]
    assert 'name = "org.example.word-counter"' in (folder / "agent.toml").read_text()
    (trial,) = await try_examples(folder)
    assert (trial.title, trial.good) == ("Two words", True)
    assert trial.note.endswith(" ms")


async def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    make_agent(tmp_path / "mine")
    (tmp_path / "mine" / "agent.py").write_text("precious")
    with pytest.raises(Conflict, match="not empty"):
        make_agent(tmp_path / "mine")
    assert (tmp_path / "mine" / "agent.py").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    assert make_agent(tmp_path / "empty")


async def test_an_example_that_fails_says_why_and_the_others_still_run(tmp_path: Path) -> None:
    make_agent(tmp_path / "mine")
    with (tmp_path / "mine" / "agent.toml").open("a") as manifest:
        manifest.write('\n[[examples]]\ntitle = "Nothing"\ninput = { text = "  " }\n')
        manifest.write('\n[[examples]]\ntitle = "Wrong"\ninput = { words = 5 }\n')
    outcomes = await try_examples(tmp_path / "mine", unsafe_local=True)
    assert [outcome.good for outcome in outcomes] == [True, False, False]
    assert "the text is empty" in outcomes[1].note
    assert outcomes[2].note


async def test_an_agent_that_cannot_be_imported_is_refused_with_the_reason(tmp_path: Path) -> None:
    make_agent(tmp_path / "mine")
    (tmp_path / "mine" / "agent.py").write_text("import a_module_that_nobody_has\n")
    with pytest.raises(NexusError, match="a_module_that_nobody_has"):
        await try_examples(tmp_path / "mine", unsafe_local=True)
