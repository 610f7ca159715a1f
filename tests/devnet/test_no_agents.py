"""An economy without a single agent to hire says so at once instead of waiting for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentnexus.bootstrap.authoring import make_agent
from agentnexus.core.errors import IsolationUnavailable, Unavailable
from agentnexus.devnet import economy
from agentnexus.devnet.economy import Plan, run_economy


async def test_a_machine_that_cannot_isolate_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot() -> None:
        raise IsolationUnavailable("This host cannot isolate agents: privilege", next_step="Run as root.")

    monkeypatch.setattr(economy, "require_isolation", cannot)
    told: list[str] = []
    with pytest.raises(IsolationUnavailable, match="privilege"):
        async with run_economy(Plan(home=tmp_path, fixed_ports=False), told.append):
            pytest.fail("started")
    assert told == []
    assert not (tmp_path / "postgres").exists()


@pytest.mark.parametrize(
    ("broken", "said"), [(True, "no agent is on sale: mine: .*broken on purpose"), (False, "folder holds none")]
)
async def test_without_an_agent_that_can_be_listed_the_reason_is_said_at_once(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, *, broken: bool, said: str
) -> None:
    monkeypatch.setattr(economy, "READY_SECONDS", 600.0)  # the time limit of the test is far below it
    agents = tmp_path / "agents"
    agents.mkdir()
    if broken:
        make_agent(agents / "mine")
        (agents / "mine" / "agent.py").write_text("raise RuntimeError('broken on purpose')\n")
    plan = Plan(
        home=tmp_path / "home", database_url=database_url, fixed_ports=False, unsafe_local=True, agents_dir=agents
    )
    told: list[str] = []
    with pytest.raises(Unavailable, match=said) as error:
        async with run_economy(plan, told.append):
            pytest.fail("started")
    assert "nexus doctor" in error.value.next_step
    assert any(line.startswith("api ready") for line in told)
