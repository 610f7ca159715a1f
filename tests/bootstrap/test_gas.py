"""A node whose chain has our contracts: the worker follows them, the API pays for gas; without them it says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agentnexus.bootstrap.gas import (
    INDEXER,
    LATE_SECONDS,
    contracts_checks,
    follow_contracts,
    load_contracts,
    market_policies,
    open_indexer,
    open_paymaster,
)
from agentnexus.bootstrap.ground import Chain, Ground, open_chain, open_ground
from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import Conflict, InvalidInput, Unavailable
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.ledger.books import Books
from agentnexus.platform.database import Connection
from agentnexus.platform.process import wait_until_ready
from agentnexus.platform.settings import Settings
from agentnexus.rails.evm.contracts import AccountPlan, Call, Owner
from agentnexus.rails.evm.deployment import Manifest
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, selector, word
from agentnexus.rails.evm.indexer.history import find_events
from agentnexus.rails.evm.indexer.model import Change
from agentnexus.rails.evm.paymaster.service import UserSponsor
from agentnexus.rails.evm.sending import send_directly
from agentnexus.rails.evm.userops import OwnerSigner, SelfBundler, Sender, UserOperation, build
from agentnexus.wallets.model import Wallet, WalletKind
from agentnexus.wallets.store import WalletStore
from tests.bootstrap.support import contract_facts, with_settings
from tests.chain_fixtures import ContractsChain


@pytest.fixture
def facts(contracts_chain: ContractsChain, database_url: str, tmp_path: Path) -> dict[str, str]:
    return contract_facts(contracts_chain, database_url, tmp_path)


@pytest.fixture
async def books(ground: Ground) -> AsyncIterator[Books]:
    async with Books(ground.database) as books:
        yield books


async def test_a_node_pays_for_a_purchase_and_its_worker_charges_what_it_cost(
    ground: Ground, connected: Chain, books: Books, contracts_chain: ContractsChain
) -> None:
    chain, manifest = contracts_chain.chain, load_contracts(ground)
    assert manifest is not None
    service = open_paymaster(ground, connected, books)
    assert service is not None
    worker = asyncio.create_task(
        follow_contracts(ground, connected, books, manifest, open_indexer(ground, connected, manifest))
    )
    accounts = service.accounts

    async def posted() -> int:
        return (await books.balance(accounts.deposit, accounts.coin)).posted.atomic

    async def funded() -> bool:
        return await posted() > 0

    await wait_until_ready(funded, what="the deposit in the books", timeout_seconds=60)
    before = await posted()
    operation = await _purchase(chain, manifest, ground, UserSponsor(service, "alice"))

    async def charged() -> bool:
        balance = await books.balance(accounts.deposit, accounts.coin)
        return balance.posted.atomic < before and not balance.reserved

    await wait_until_ready(charged, what="the gas in the books", timeout_seconds=60)
    assert await posted() == await manifest.entry_point(chain.rpc).deposit_of(accounts.paymaster)
    found = await find_events(ground.database, INDEXER, chain.network.caip2, event="UserOperationEvent")
    assert [event.arguments["sender"] for event in found] == [operation.sender]
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def _purchase(chain: DevelopmentChain, manifest: Manifest, ground: Ground, sponsor: UserSponsor) -> UserOperation:
    """An account without coin is made, and sends USDC."""
    key, relayer = chain.accounts["alice"], chain.accounts["relayer"].signer
    factory = manifest.factory(chain.rpc)
    sender = Sender.planned(AccountPlan(Owner(key.address)), factory.address, await factory.implementation())
    await chain.mint(sender.address, 10)
    data = selector("transfer(address,uint256)") + word(chain.accounts["bob"].address) + word(3)
    async with await SelfBundler.open(ground.database, chain.rpc, chain.chain_id, relayer) as bundler:
        operation = await build(
            chain.rpc,
            bundler,
            sender,
            [Call(chain.usdc.reference, data)],
            signer=OwnerSigner(key.signer),
            sponsor=sponsor,
        )
        assert (await bundler.receipt(await bundler.send(operation))).succeeded
    return operation


async def test_the_events_of_all_our_contracts_are_followed(
    ground: Ground, connected: Chain, contracts_chain: ContractsChain
) -> None:
    chain, manifest = contracts_chain.chain, contracts_chain.manifest
    indexer = open_indexer(ground, connected, manifest)
    create = manifest.entitlements(chain.rpc).call("createClass", 7, 100, 0, True, "")
    await send_directly(chain.rpc, chain.network, chain.accounts["relayer"].signer, create)
    assert (await indexer.poll()).is_at_head
    found = await find_events(
        ground.database, INDEXER, chain.network.caip2, contract=manifest.address("Entitlements"), event="ClassCreated"
    )
    assert len(found) == 1
    roles = await find_events(ground.database, INDEXER, chain.network.caip2, contract=manifest.address("Escrow"))
    assert roles, "what happened before the indexer is read from the chain's beginning"


async def test_a_node_says_when_nobody_follows_its_contracts(
    ground: Ground, connected: Chain, contracts_chain: ContractsChain
) -> None:
    clock = ManualClock(ground.clock.now())
    (check,) = contracts_checks(replace(ground, clock=clock), contracts_chain.manifest).values()
    await check()
    clock.advance(LATE_SECONDS + 1)
    with pytest.raises(Unavailable, match="have not been read") as error:
        await check()
    assert "worker" in error.value.next_step
    indexer = open_indexer(replace(ground, clock=clock), connected, contracts_chain.manifest)

    async def refuse(_connection: Connection, _change: Change) -> None:
        raise Conflict("the books are closed")

    indexer.subscribe("refuses", refuse)
    await indexer.poll()
    await check()
    await indexer.deliver()
    with pytest.raises(Unavailable, match="books are closed"):
        await check()
    assert contracts_checks(ground, None) == {}


async def test_a_node_without_contracts_pays_for_nobody(ground: Ground, connected: Chain, books: Books) -> None:
    elsewhere = with_settings(ground, home=ground.settings.home / "elsewhere")
    assert load_contracts(elsewhere) is None
    assert open_paymaster(elsewhere, connected, books) is None


async def test_a_production_node_pays_only_by_policies_that_its_operator_wrote(
    ground: Ground, connected: Chain, books: Books, contracts_chain: ContractsChain
) -> None:
    production = with_settings(ground, environment="production")
    assert open_paymaster(production, connected, books) is None
    policy, _ = market_policies(contracts_chain.manifest, connected.usdc.reference)
    path = ground.settings.home / "policies.json"
    path.write_text(json.dumps([{**policy.model_dump(mode="json"), "id": "ours"}]))
    service = open_paymaster(with_settings(production, paymaster_policies=path), connected, books)
    assert service is not None
    assert [each.id for each in service.policies] == ["ours"]


async def test_a_node_without_a_key_pays_for_nobody(ground: Ground, connected: Chain, books: Books) -> None:
    assert open_paymaster(with_settings(ground, relayer_key=None), connected, books) is None


async def test_a_key_that_the_paymaster_does_not_obey_is_refused(
    facts: dict[str, str], contracts_chain: ContractsChain
) -> None:
    wrong = {**facts, "paymaster_key": contracts_chain.chain.accounts["bob"].private_key}
    async with (
        open_ground(Settings.model_validate(wrong)) as ground,
        open_chain(ground) as connected,
        Books(ground.database) as books,
    ):
        with pytest.raises(InvalidInput, match="obeys") as error:
            open_paymaster(ground, connected, books)
    assert "NEXUS_PAYMASTER_KEY" in error.value.next_step


async def test_the_local_policy_knows_the_code_of_our_accounts(contracts_chain: ContractsChain) -> None:
    chain, manifest = contracts_chain.chain, contracts_chain.manifest
    policy, _ = market_policies(manifest, chain.usdc.reference)
    assert policy.delegates == (await manifest.factory(chain.rpc).implementation(),)
    assert ZERO_ADDRESS not in {rule.contract for rule in policy.rules}


async def test_who_bought_something_with_their_wallet_is_no_newcomer_to_those_who_pay_gas(
    ground: Ground, connected: Chain, books: Books
) -> None:
    async def shares_with_newcomers(user_id: str) -> bool:
        service = open_paymaster(ground, connected, books)  # as after a restart
        assert service is not None
        policies = (await service.describe(user_id))["policies"]
        assert isinstance(policies, list)
        return "newcomers" in policies[0]["left"]

    network = connected.sender.network.caip2
    owner = Owner("0x" + "ab" * 20)
    account = Wallet("wal_1", "ann", network, "0x" + "cd" * 20, WalletKind.KEY, owner, ground.clock.now())
    assert await shares_with_newcomers("ann")
    await WalletStore(ground.database, network).add(account, None, -1)
    assert await shares_with_newcomers("ann")
    own, price = f"external:wallet:{network}:{account.address}", connected.usdc.parse("0.02")
    await books.transfer("bought", own, "seller:somebody", price)
    assert not await shares_with_newcomers("ann")
    assert await shares_with_newcomers("ben")
    await books.transfer("refunded", "seller:somebody", own, price)
    assert await shares_with_newcomers("ann")
