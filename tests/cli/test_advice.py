"""What to do about an error: play money is named where it is to be had, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentnexus.cli.node import advice

POOR = {"code": "insufficient_funds", "next_step": "send 0.05 USDC to 0x1"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path))
    monkeypatch.delenv("NEXUS_API_URL", raising=False)
    return tmp_path


def test_in_the_local_economy_there_is_play_money(home: Path) -> None:
    (home / "devnet.json").write_text("{}")
    assert advice(POOR) == "send 0.05 USDC to 0x1; play money: nexus wallet top-up 5"


@pytest.mark.parametrize(
    "error", [{**POOR, "code": "conflict"}, {**POOR, "next_step": "send ETH to 0x1"}, {"code": "insufficient_funds"}]
)
def test_it_helps_against_want_of_usdc_alone(home: Path, error: dict[str, object]) -> None:
    (home / "devnet.json").write_text("{}")
    assert advice(error) == error.get("next_step", "")


def test_elsewhere_there_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert advice(POOR) == POOR["next_step"]
    (home / "devnet.json").write_text("{}")
    monkeypatch.setenv("NEXUS_API_URL", "https://node.example")
    assert advice(POOR) == POOR["next_step"]
