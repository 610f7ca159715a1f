"""`nexus contracts`: deploy, show and verify on a real chain, and every way of asking wrongly."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from agentnexus.cli.app import nexus
from agentnexus.cli.contracts import Coin
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.signer import LocalSigner
from tests.chain_fixtures import ContractsChain

ADDRESS = "0x" + "ab" * 20
NAMES = {"EntryPoint", "AccountFactory", "Escrow", "Entitlements", "Paymaster"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("NEXUS_EVM_RPC_URL", "NEXUS_USDC_ADDRESS", "NEXUS_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path))
    return tmp_path


@dataclass(frozen=True)
class Done:
    code: int
    stdout: str
    output: str


async def run(*arguments: str) -> Done:
    """In a thread: the command has a loop of its own."""
    result = await asyncio.to_thread(CliRunner().invoke, nexus, ("contracts", *arguments), standalone_mode=False)
    assert result.exception is None, result.output
    return Done(result.return_value, result.stdout, result.output)


async def test_they_are_deployed_found_and_verified(chain: DevelopmentChain, home: Path) -> None:
    deployed = await run("deploy", "--rpc", chain.rpc_url, "--paymaster-deposit", "0.5")
    assert deployed.code == 0, deployed.output
    assert "Escrow: deploying" in deployed.output
    again = await run("deploy", "--rpc", chain.rpc_url, "--json")
    assert set(json.loads(again.stdout)["contracts"]) == NAMES
    shown = await run("show")
    assert all(name in shown.output for name in NAMES)
    verified = await run("verify", "--rpc", chain.rpc_url)
    assert verified.code == 0
    assert verified.output.count("as built") == len(NAMES)
    as_json = await run("show", "--json")
    assert json.loads(as_json.stdout) == json.loads(again.stdout)


async def test_what_is_not_as_built_fails_the_check(contracts_chain: ContractsChain, home: Path) -> None:
    chain, manifest = contracts_chain.chain, contracts_chain.manifest
    path = manifest.save(home)
    path.write_text(path.read_text().replace(manifest.address("Paymaster"), chain.usdc.reference))
    checked = await run("verify", "--rpc", chain.rpc_url, "--json")
    assert checked.code == 1
    states = {name: row["state"] for name, row in json.loads(checked.stdout).items()}
    assert states.pop("Paymaster") == "other"
    assert set(states.values()) == {"as built"}


async def test_a_real_network_needs_a_key_roles_and_a_node(home: Path) -> None:
    without_key = await run("deploy", "--network", "base-sepolia")
    assert without_key.code == 2
    assert "--key" in without_key.output
    key = home / "key.json"
    await asyncio.to_thread(LocalSigner(b"\x07" * 32, NetworkKind.TESTNET).write_keystore, key, "secret")
    given = ("deploy", "--network", "base-sepolia", "--key", str(key), "--password", "secret")
    without_roles = await run(*given)
    assert without_roles.code == 2
    for name in ("--token", "--admin", "--operator", "--policy-signer", "--fee-recipient"):
        assert name in without_roles.output
    roles = ("--token", ADDRESS, "--admin", ADDRESS, "--operator", ADDRESS, "--policy-signer", ADDRESS)
    without_node = await run(*given, *roles)
    assert without_node.code == 2
    assert "--rpc" in without_node.output


async def test_real_money_is_asked_about(home: Path) -> None:
    key = home / "key.json"
    await asyncio.to_thread(LocalSigner(b"\x07" * 32, NetworkKind.MAINNET).write_keystore, key, "secret")
    roles = ("--token", ADDRESS, "--admin", ADDRESS, "--operator", ADDRESS, "--policy-signer", ADDRESS)
    given = ("deploy", "--network", "base", "--key", str(key), "--password", "secret", *roles)
    as_json = await run(*given, "--json")
    assert as_json.code == 2
    assert "--yes" in as_json.output
    asked = await run(*given)
    assert asked.code == 1
    assert "Deploy on base" in asked.output


async def test_what_was_never_deployed_is_not_found(home: Path) -> None:
    for command in ("show", "verify"):
        missing = await run(command, "--network", "base")
        assert missing.code == 1
        assert "nexus contracts deploy" in missing.output


@pytest.mark.parametrize(("text", "wei"), [("0", 0), ("1", 10**18), ("0.000000000000000001", 1), ("2.5", 25 * 10**17)])
def test_amounts_of_coin_are_exact(text: str, wei: int) -> None:
    assert Coin().convert(text, None, None) == wei
    assert Coin().convert(wei, None, None) == wei


@pytest.mark.parametrize("text", ["", "x", "-1", "NaN", "Infinity", "0.0000000000000000001"])
async def test_what_is_no_amount_is_refused(text: str, home: Path) -> None:
    refused = await run("deploy", "--paymaster-deposit", text)
    assert refused.code == 2
    assert "no amount" in refused.output
