"""Wallets of a node as its roles open them: with contracts, without them, without the chain, and their settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentnexus.bootstrap.gas import follow_contracts, load_contracts, open_indexer
from agentnexus.bootstrap.ground import Chain, Ground, open_chain
from agentnexus.bootstrap.wallets import open_wallets
from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.ledger.books import Books
from agentnexus.platform.process import free_port, wait_until_ready
from agentnexus.wallets.model import OperationState, Transfer, WalletKind
from tests.bootstrap.support import contract_facts, with_settings
from tests.chain_fixtures import ContractsChain

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def facts(contracts_chain: ContractsChain, database_url: str, tmp_path: Path) -> dict[str, str]:
    return contract_facts(contracts_chain, database_url, tmp_path)


@pytest.fixture
async def books(ground: Ground) -> AsyncIterator[Books]:
    async with Books(ground.database) as books:
        yield books


async def test_the_api_begins_what_the_worker_of_the_same_node_keeps(
    ground: Ground, connected: Chain, books: Books, contracts_chain: ContractsChain
) -> None:
    manifest = load_contracts(ground)
    assert manifest is not None
    priced = with_settings(ground, coin_usd="2500")
    indexer = open_indexer(ground, connected, manifest)
    worker = asyncio.create_task(follow_contracts(ground, connected, books, manifest, indexer))
    async with (
        open_wallets(priced, connected, books) as in_api,
        open_wallets(ground, connected, books) as in_worker,
    ):
        assert in_api is not None
        assert in_worker is not None
        assert in_api.paymaster is not None
        accounts = in_api.paymaster.accounts

        async def funded() -> bool:
            return (await books.balance(accounts.deposit, accounts.coin)).posted.atomic > 0

        await wait_until_ready(funded, what="the paymaster's deposit in the books", timeout_seconds=60)
        wallet = await in_api.create("ann", WalletKind.SERVER)
        await contracts_chain.chain.mint(wallet.address, 2_000_000)
        seller = contracts_chain.chain.accounts["seller-1"].address
        begun = await in_api.send("ann", [Transfer(seller, "1")], key="k")
        keeping = asyncio.create_task(in_worker.keep())

        async def closed() -> bool:
            return (await in_worker.settle(begun.id)).state is OperationState.SUCCEEDED

        await wait_until_ready(closed, what="the operation", timeout_seconds=60)
        held = await in_api.balances("ann")
        assert (held.usdc.atomic, held.coin_usd) == (1_000_000, 0)
        # One key file seals for both, so the worker could sign as well.
        assert await in_worker.export("ann") == await in_api.export("ann")
        for task in (keeping, worker):
            task.cancel()
        await asyncio.gather(keeping, worker, return_exceptions=True)


async def test_without_contracts_or_a_relayer_there_are_no_wallets(
    ground: Ground, connected: Chain, books: Books
) -> None:
    for elsewhere in (
        with_settings(ground, home=ground.settings.home / "elsewhere"),
        with_settings(ground, relayer_key=None),
    ):
        async with open_wallets(elsewhere, connected, books) as wallets:
            assert wallets is None


async def test_a_node_starts_while_its_chain_is_away_and_says_so_when_asked(ground: Ground, books: Books) -> None:
    away = with_settings(ground, evm_rpc_url=f"http://127.0.0.1:{free_port()}")
    async with open_chain(away, required=False) as chain, open_wallets(away, chain, books) as wallets:
        assert wallets is not None
        with pytest.raises(Unavailable):
            await wallets.create("ann", WalletKind.SERVER)


@pytest.mark.parametrize("price", ["0", "-1", "much", "NaN", ""])
async def test_a_coins_price_that_is_none_is_refused_at_the_start(
    ground: Ground, connected: Chain, books: Books, price: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        async with open_wallets(with_settings(ground, coin_usd=price), connected, books):
            pass
    assert "NEXUS_COIN_USD" in refused.value.next_step
