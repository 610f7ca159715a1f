"""Our contracts on the development chain."""

from __future__ import annotations

from agentnexus.devnet.contracts import PAYMASTER_DEPOSIT_WEI, deploy_contracts, describe_contracts
from tests.chain_fixtures import ContractsChain


async def test_a_second_deployment_finds_the_first_and_sends_nothing(contracts_chain: ContractsChain) -> None:
    chain, told = contracts_chain.chain, []
    before = await chain.rpc.read_int("eth_blockNumber")
    assert await deploy_contracts(chain, told.append) == contracts_chain.manifest
    assert told == []
    assert await chain.rpc.read_int("eth_blockNumber") == before


async def test_the_relayer_may_do_what_services_do(contracts_chain: ContractsChain) -> None:
    chain, manifest = contracts_chain.chain, contracts_chain.manifest
    relayer = chain.accounts["relayer"].address
    assert await manifest.escrow(chain.rpc).has_role("ORCHESTRATOR_ROLE", relayer)
    assert not await manifest.escrow(chain.rpc).has_role("ARBITER_ROLE", relayer)
    assert not await manifest.escrow(chain.rpc).has_role("DEFAULT_ADMIN_ROLE", relayer)
    for role in ("REGISTRAR_ROLE", "MINTER_ROLE", "REVOKER_ROLE"):
        assert await manifest.entitlements(chain.rpc).has_role(role, relayer)
    assert await manifest.paymaster(chain.rpc).signer() == relayer
    deposit = await manifest.entry_point(chain.rpc).deposit_of(manifest.address("Paymaster"))
    assert deposit == PAYMASTER_DEPOSIT_WEI


def test_programs_read_the_addresses_by_plain_names(contracts_chain: ContractsChain) -> None:
    named = describe_contracts(contracts_chain.manifest)
    assert set(named) == {"entry_point", "account_factory", "escrow", "entitlements", "paymaster"}
    assert named["account_factory"] == contracts_chain.manifest.address("AccountFactory")
    assert describe_contracts(None) == {}
