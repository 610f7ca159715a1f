"""`nexus doctor` names every part that is missing, and says how to get it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentnexus.devnet import doctor
from agentnexus.devnet.doctor import Finding, examine
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain


async def found() -> dict[str, Finding]:
    return {finding.name: finding for finding in await examine()}


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "NEXUS_DATABASE_URL", "NEXUS_AGENTS_DIR", "NEXUS_ANVIL"):
        monkeypatch.delenv(name, raising=False)


async def test_what_this_project_needs_to_test_itself_is_here() -> None:
    findings = await found()
    missing = [finding for finding in findings.values() if not finding.good and not finding.optional]
    assert not missing
    assert {"Python", "database", "development chain", "agents", "sandbox: namespaces"} <= set(findings)
    assert "pdf-extractor" in findings["agents"].found
    assert json.loads(json.dumps(findings["Python"].to_json()))["good"] is True


async def test_a_database_of_ones_own_is_reported_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:secret@db/x")
    finding = (await found())["database"]
    assert finding.good
    assert "secret" not in finding.found


async def test_a_folder_without_agents_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEXUS_AGENTS_DIR", str(tmp_path))
    finding = (await found())["agents"]
    assert not finding.good and not finding.optional
    assert str(tmp_path) in finding.found
    assert finding.next_step


async def test_a_missing_chain_and_database_say_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("agentnexus.devnet.chain.Path.is_file", lambda _path: False)
    monkeypatch.setattr("agentnexus.platform.embedded.importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("agentnexus.platform.embedded.Path.glob", lambda _path, _pattern: iter(()))
    findings = await found()
    assert not findings["development chain"].good
    assert "npm ci" in findings["development chain"].next_step
    assert not findings["database"].good
    assert "agentnexus[embedded]" in findings["database"].next_step
    assert not findings["agents"].good
    assert "agentnexus[agents]" in findings["agents"].next_step
    for name in ("chromium", "redis-server", "extra redis"):
        assert not findings[name].good
        assert findings[name].optional
        assert "install" in findings[name].next_step


def test_an_old_python_is_not_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 4))
    finding = doctor._python()
    assert not finding.good
    assert finding.found == "3.10.4"
    assert "3.11" in finding.next_step


def test_an_extra_whose_parent_is_missing_is_missing() -> None:
    assert not doctor._extra("no_such_parent.child", "x", "nothing").good


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[SolanaDevelopmentChain]:
    async with SolanaDevelopmentChain(log=tmp_path / "solana.log") as chain:
        yield chain


async def test_solana_that_is_not_configured_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEXUS_SOLANA_RPC_URL", raising=False)
    findings = await found()
    assert findings["extra solana"].good
    assert findings["Solana"].good
    assert "not configured" in findings["Solana"].found
    assert "treasury key" not in findings


async def test_a_cluster_that_answers_and_a_private_key_are_well(
    cluster: SolanaDevelopmentChain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = tmp_path / "treasury.json"
    monkeypatch.setenv("NEXUS_SOLANA_RPC_URL", cluster.rpc_url)
    assert (await found())["treasury key"].optional
    monkeypatch.setenv("NEXUS_TREASURY_KEYPAIR", str(key))
    missing = (await found())["treasury key"]
    assert (missing.good, str(key) in missing.found, "chmod 600" in missing.next_step) == (False, True, True)
    key.write_text("[]")
    key.chmod(0o644)
    assert (await found())["treasury key"].found == "readable by others"
    key.chmod(0o600)
    findings = await found()
    assert findings["treasury key"].good
    assert findings["Solana"].found == "solana-devnet answers"


async def test_a_cluster_that_is_away_or_another_one_is_said(
    cluster: SolanaDevelopmentChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_SOLANA_RPC_URL", cluster.rpc_url)
    monkeypatch.setenv("NEXUS_SOLANA_NETWORK", "solana")
    other = (await found())["Solana"]
    assert not other.good
    assert other.next_step
    monkeypatch.setenv("NEXUS_SOLANA_NETWORK", "solana-nowhere")
    assert "not a Solana network" in (await found())["Solana"].found
    monkeypatch.setenv("NEXUS_SOLANA_NETWORK", "solana-devnet")
    monkeypatch.setenv("NEXUS_SOLANA_RPC_URL", "http://127.0.0.1:9")
    away = (await found())["Solana"]
    assert not away.good
    assert "RPC address" in away.next_step


async def test_missing_solana_parts_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name == "solders" else real(name))
    finding = (await found())["extra solana"]
    assert (finding.good, finding.next_step) == (False, "install agentnexus[solana]")
