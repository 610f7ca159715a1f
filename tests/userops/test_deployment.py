"""Deploying: the published EntryPoint, a cut-off run that goes on, the manifest, and checks of what is on the chain."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agentnexus.core.errors import InvalidInput, NotFound, Unavailable
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.devnet.contracts import development_design
from agentnexus.rails.evm import deployment
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.contracts.refusals import ContractRefused
from agentnexus.rails.evm.deployment import CodeState, Deployed, Manifest, deploy, expected_address, verify_code
from agentnexus.rails.evm.errors import WrongNetwork
from agentnexus.rails.evm.networks import NETWORKS
from agentnexus.rails.evm.sending import send_directly
from tests.chain_fixtures import ContractsChain

NAMES = {"EntryPoint", "AccountFactory", "Escrow", "Entitlements", "Paymaster"}


async def states(chain: DevelopmentChain, manifest: Manifest) -> dict[str, CodeState]:
    return {check.name: check.state for check in await verify_code(chain.rpc, manifest)}


async def test_everything_is_what_the_artifacts_make(contracts_chain: ContractsChain) -> None:
    found = await states(contracts_chain.chain, contracts_chain.manifest)
    assert found == dict.fromkeys(NAMES, CodeState.AS_BUILT)


async def test_a_deployment_that_was_cut_off_goes_on(chain: DevelopmentChain, monkeypatch: pytest.MonkeyPatch) -> None:
    signer, design = chain.accounts["deployer"].signer, development_design(chain)
    sent = 0

    async def cut_off(*arguments: object) -> object:
        nonlocal sent
        sent += 1
        if sent > 4:
            raise Unavailable("a power cut")
        return await send_directly(*arguments)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(deployment, "send_directly", cut_off)
    with pytest.raises(Unavailable, match="power cut"):
        await deploy(chain.rpc, chain.network, signer, design)
    monkeypatch.undo()
    told: list[str] = []
    manifest = await deploy(chain.rpc, chain.network, signer, design, paymaster_deposit_wei=5, tell=told.append)
    assert not any(line.startswith(("EntryPoint", "AccountFactory: dep", "Escrow: dep")) for line in told)
    assert await states(chain, manifest) == dict.fromkeys(NAMES, CodeState.AS_BUILT)
    assert await manifest.entry_point(chain.rpc).deposit_of(manifest.address("Paymaster")) == 5


async def test_roles_that_another_admin_has_to_grant_are_told(contracts_chain: ContractsChain) -> None:
    chain = contracts_chain.chain
    admin = chain.accounts["outsider"].address
    design = replace(development_design(chain), admin=admin, admin_delay_seconds=3600)
    told: list[str] = []
    manifest = await deploy(chain.rpc, chain.network, chain.accounts["deployer"].signer, design, tell=told.append)
    assert manifest.address("Escrow") != contracts_chain.manifest.address("Escrow")
    assert manifest.address("AccountFactory") == contracts_chain.manifest.address("AccountFactory")
    assert sum("has yet to grant" in line for line in told) == 5
    assert not await manifest.escrow(chain.rpc).has_role("ORCHESTRATOR_ROLE", design.operator)


async def test_code_that_is_missing_or_another_is_seen(contracts_chain: ContractsChain) -> None:
    chain, manifest = contracts_chain.chain, contracts_chain.manifest
    nowhere = Deployed("0x" + "12" * 20)
    other = Deployed(chain.usdc.reference)
    wrong_arguments = replace(manifest.contracts["Escrow"], arguments=b"\x01" * 32)
    damaged = Manifest(chain.chain_id, {"EntryPoint": other, "AccountFactory": nowhere, "Escrow": wrong_arguments})
    assert await states(chain, damaged) == {
        "EntryPoint": CodeState.OTHER,
        "AccountFactory": CodeState.MISSING,
        "Escrow": CodeState.OTHER,
    }
    expected = {each.name: each.expected for each in await verify_code(chain.rpc, damaged)}
    assert expected["AccountFactory"] == manifest.address("AccountFactory")


async def test_the_chain_must_be_the_one_that_was_named(contracts_chain: ContractsChain) -> None:
    chain = contracts_chain.chain
    with pytest.raises(WrongNetwork):
        await deploy(chain.rpc, NETWORKS[84532], chain.accounts["deployer"].signer, development_design(chain))


async def test_without_its_package_entry_point_cannot_be_made(
    chain: DevelopmentChain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deployment, "_ENTRY_POINT_PACKAGE", "not/here.json")
    with pytest.raises(Unavailable) as caught:
        await deploy(chain.rpc, chain.network, chain.accounts["deployer"].signer, development_design(chain))
    assert "npm ci" in caught.value.next_step


def test_addresses_do_not_depend_on_who_deploys_but_on_what() -> None:
    assert expected_address("Escrow", b"\x01") != expected_address("Escrow", b"\x02")
    assert expected_address("Escrow", b"\x01") == expected_address("Escrow", b"\x01")
    assert expected_address("EntryPoint") == "0x4337084d9e255ff0702461cf8895ce9e3b5ff108"


def test_the_manifest_is_kept_and_read_again(tmp_path: Path, contracts_chain: ContractsChain) -> None:
    manifest = contracts_chain.manifest
    path = manifest.save(tmp_path)
    assert Manifest.load(tmp_path, manifest.chain_id) == manifest
    assert json.loads(path.read_text())["contracts"]["Escrow"]["address"] == manifest.address("Escrow")
    manifest.save(tmp_path)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_manifest_that_is_not_there_or_damaged_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        Manifest.load(tmp_path, 8453)
    assert "nexus contracts deploy" in caught.value.next_step
    damaged = ("", "[]", "{}", '{"chain_id": 1, "contracts": {"Escrow": {}}}', '{"chain_id": 1, "contracts": []}')
    for text in damaged:
        with pytest.raises(InvalidInput, match="manifest"):
            Manifest.from_json(text)
    with pytest.raises(InvalidInput):
        Manifest.from_json('{"chain_id": 1, "contracts": {"Escrow": {"address": "0x12"}}}')
    with pytest.raises(NotFound, match="not deployed"):
        Manifest(1, {}).address("Escrow")


async def test_a_transaction_that_would_fail_is_not_sent(contracts_chain: ContractsChain) -> None:
    chain, manifest = contracts_chain.chain, contracts_chain.manifest
    call = manifest.escrow(chain.rpc).pause_deposits()
    with pytest.raises(ContractRefused) as caught:
        await send_directly(chain.rpc, chain.network, chain.accounts["outsider"].signer, call)
    assert caught.value.error == "AccessControlUnauthorizedAccount"
    assert "role" in caught.value.next_step
    everything = Call(chain.accounts["bob"].address, b"", 10**30)
    with pytest.raises(Exception, match=r"(?i)insufficient|balance|funds"):
        await send_directly(chain.rpc, chain.network, chain.accounts["outsider"].signer, everything)
