"""The committed contracts: all there, deployable, no larger than chains take, and documented."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agentnexus.rails.evm.contracts.artifacts import load_artifact

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ("Account", "AccountFactory", "Entitlements", "Escrow", "Paymaster")
CREATION_MAX_BYTES = 49_152  # EIP-3860
# Whole transactions of an ordinary key with balances that are not zero.
GAS_MAX = {
    "deposit": 70_000,
    "release by orchestrator": 55_000,
    "release by buyer": 55_000,
    "refund by orchestrator": 48_000,
    "refund by seller": 48_000,
    "expire": 48_000,
    "first mint": 58_000,
}


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_contract_is_committed_and_small_enough(name: str) -> None:
    artifact = load_artifact(name)
    assert 0 < len(artifact.bytecode) <= CREATION_MAX_BYTES
    assert any(entry["type"] == "event" for entry in artifact.abi)
    assert any(entry["type"] == "error" for entry in artifact.abi)


def test_the_recorded_gas_is_within_the_limits() -> None:
    recorded = json.loads((ROOT / "contracts/snapshots/Gas.json").read_text())
    assert {name: int(recorded[name]) for name in GAS_MAX if int(recorded[name]) > GAS_MAX[name]} == {}


@pytest.mark.parametrize("source", sorted((ROOT / "contracts/src").rglob("*.sol")), ids=lambda path: path.stem)
def test_every_public_function_says_what_it_does(source: Path) -> None:
    if source.stem in {"TestUSDC", "IReceiveWithAuthorization", "IPermit2"}:
        return
    lines = source.read_text().splitlines()
    for at, line in enumerate(lines):
        declared = re.match(r"    function (\w+)", line)
        head = "\n".join(lines[at : at + 9]).split("{")[0]
        if declared and re.search(r"\b(external|public)\b", head):
            assert "///" in lines[at - 1], f"{source.name}: {declared[1]} has no NatSpec"


def test_no_contract_that_holds_money_can_be_replaced() -> None:
    for name in ("Escrow", "Entitlements", "Paymaster"):
        names = {str(entry.get("name", "")).lower() for entry in load_artifact(name).abi}
        assert not any("upgrade" in each or "implementation" in each for each in names)
