"""Upkeep books what arrives at our wallets; `nexus ledger check` finds what does not fit."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from agentnexus.bootstrap.books import check_books, running_settings, statement_of
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.upkeep import account_of, book_deposits, keep_up, own_addresses
from agentnexus.core.errors import NexusError
from agentnexus.devnet.chain import START_BALANCE_USDC, DevelopmentChain
from agentnexus.devnet.economy import SELLERS
from agentnexus.ledger.books import Books
from agentnexus.platform.process import wait_until_ready


@pytest.fixture
def buyer(chain: DevelopmentChain) -> str:
    return chain.accounts["buyer"].address


@pytest.fixture
def account(connected: Chain, buyer: str) -> str:
    return account_of(connected, buyer)


async def posted(books: Books, account: str, chain: Chain) -> int:
    return (await books.balance(account, chain.usdc)).posted.atomic


async def test_what_is_in_our_wallets_is_booked_once(ground: Ground, connected: Chain, account: str) -> None:
    async with Books(ground.database) as books:
        assert await book_deposits(ground, connected, books) == 5  # the buyer's wallet and the four sellers'
        assert await posted(books, account, connected) == START_BALANCE_USDC
        assert await book_deposits(ground, connected, books) == 0
        assert await posted(books, account, connected) == START_BALANCE_USDC


async def test_only_our_own_wallets_are_watched(ground: Ground, connected: Chain, chain: DevelopmentChain) -> None:
    ours = own_addresses(ground, connected)
    assert ours == [chain.accounts[name].address for name in ("buyer", *SELLERS)]
    async with Books(ground.database) as books:
        await book_deposits(ground, connected, books)
        await chain.mint(chain.accounts["outsider"].address, 42)
        assert await book_deposits(ground, connected, books) == 0


async def test_a_deposit_that_a_reorganisation_drops_is_taken_back(
    ground: Ground, connected: Chain, chain: DevelopmentChain, buyer: str, account: str
) -> None:
    async with Books(ground.database) as books:
        await book_deposits(ground, connected, books)
        before = await chain.snapshot()
        await chain.mint(buyer, 42)
        assert await book_deposits(ground, connected, books) == 1
        assert await posted(books, account, connected) == START_BALANCE_USDC + 42
        await chain.revert(before)
        assert await book_deposits(ground, connected, books) == 1
        assert await posted(books, account, connected) == START_BALANCE_USDC
        assert not (await books.check()).findings


async def test_a_deposit_mined_again_at_the_same_height_is_booked_again(
    ground: Ground, connected: Chain, chain: DevelopmentChain, buyer: str, account: str
) -> None:
    """As after a chain that was killed with its last blocks unsaved: the same transaction in another block."""
    async with Books(ground.database) as books:
        await book_deposits(ground, connected, books)
        before = await chain.snapshot()
        await chain.mint(buyer, 42)
        block = await chain.rpc.call("eth_getBlockByNumber", "latest", False)
        assert isinstance(block, dict)
        transactions = block["transactions"]
        assert isinstance(transactions, list)
        raw = await chain.rpc.call("eth_getRawTransactionByHash", transactions[0])
        await book_deposits(ground, connected, books)
        await chain.revert(before)
        await chain.set_next_block_time(int(str(block["timestamp"]), 16) + 7)
        sent = await chain.rpc.call("eth_sendRawTransaction", raw)

        async def mined() -> bool:
            return await chain.rpc.call("eth_getTransactionReceipt", sent) is not None

        await wait_until_ready(mined, what="the deposit", timeout_seconds=30)
        again = await chain.rpc.call("eth_getBlockByNumber", "latest", False)
        assert isinstance(again, dict)
        assert (again["number"], again["transactions"]) == (block["number"], block["transactions"])
        assert again["hash"] != block["hash"]
        assert await book_deposits(ground, connected, books) == 2
        assert await posted(books, account, connected) == START_BALANCE_USDC + 42
        assert await book_deposits(ground, connected, books) == 0
        assert not (await books.check()).findings


async def test_a_deposit_that_is_gone_and_spent_does_not_stop_the_later_ones(
    ground: Ground, connected: Chain, chain: DevelopmentChain, buyer: str, account: str
) -> None:
    async with Books(ground.database) as books:
        await book_deposits(ground, connected, books)
        before = await chain.snapshot()
        await chain.mint(buyer, 42)
        await book_deposits(ground, connected, books)
        everything = (await books.balance(account, connected.usdc)).posted
        await books.transfer("spent", account, "seller:x", everything)
        await chain.revert(before)
        await chain.mint(buyer, 9)
        assert await book_deposits(ground, connected, books) == 2
        assert await posted(books, account, connected) == 9
        assert not (await books.check()).findings


async def test_upkeep_books_deposits_as_they_come_and_survives_a_chain_that_is_away(
    ground: Ground, connected: Chain, chain: DevelopmentChain, buyer: str, account: str
) -> None:
    async with Books(ground.database) as books:

        async def booked(atomic: int) -> None:
            async def there() -> bool:
                return await posted(books, account, connected) == atomic

            await wait_until_ready(there, what="the deposit", timeout_seconds=30)

        task = asyncio.create_task(keep_up(ground, connected, books))
        try:
            await booked(START_BALANCE_USDC)
            await chain.mint(buyer, 1)
            await booked(START_BALANCE_USDC + 1)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


@pytest.mark.usefixtures("variables")
async def test_books_that_agree_with_the_chain_are_good(chain: DevelopmentChain) -> None:
    report = await check_books()
    assert report.good, report.problems
    assert len(report.wallets) == 5
    assert all(line.endswith("agrees") for line in report.wallets)
    assert report.to_json()["counts"] == {"accounts": 6, "transfers": 5, "reservations": 0, "budgets": 0}
    await chain.mint(chain.accounts["buyer"].address, 7)
    assert (await check_books()).good  # what came meanwhile is booked first


@pytest.mark.usefixtures("variables")
async def test_money_in_the_books_that_the_chain_does_not_have_is_a_problem(
    ground: Ground, connected: Chain, account: str
) -> None:
    async with Books(ground.database) as books:
        await books.deposit("invented", account, connected.usdc.parse("5"))
    report = await check_books()
    assert not report.good
    (problem,) = report.problems
    assert account in problem
    assert "10005" in problem and "10000" in problem
    again = await check_books()
    assert again.problems == report.problems  # the same case, not a second one


async def test_without_the_chain_the_books_are_checked_alone_and_that_is_said(
    variables: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_EVM_RPC_URL", "http://127.0.0.1:1")
    report = await check_books()
    assert not report.good
    assert report.counts["accounts"] == 0
    assert report.problems[0].startswith("the wallets are not compared with the chain")


@pytest.mark.usefixtures("variables")
async def test_a_balance_changed_behind_the_books_is_a_problem(ground: Ground, account: str) -> None:
    assert (await check_books()).good
    async with ground.database.connection() as connection:
        await connection.execute("update ledger.account set balance = balance + 1 where name = $1", account)
    report = await check_books()
    assert not report.good
    assert any(account in problem and "expected" in problem for problem in report.problems)


@pytest.mark.usefixtures("variables")
async def test_a_statement_is_csv_or_json_and_unknown_accounts_are_refused(account: str) -> None:
    await check_books()
    header, line = (await statement_of(account, "csv")).strip().splitlines()
    assert header.startswith("at,transfer,kind")
    assert ",deposit," in line and "10000.000000" in line
    (entry,) = json.loads(await statement_of(account, "json"))["lines"]
    assert entry["kind"] == "deposit"
    with pytest.raises(NexusError, match="no account"):
        await statement_of("wallet:nowhere", "csv")


def test_settings_come_from_the_running_economy_unless_the_environment_names_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("NEXUS_") or name == "DATABASE_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path))
    assert running_settings().database_url is None
    key = {"private_key": "0x" + "1" * 64}
    description = {
        "database_url": "postgresql://running",
        "evm": {"rpc_url": "http://node", "chain_id": 31337, "usdc": "0x" + "5" * 40},
        "accounts": {"buyer": key, "relayer": key, "seller-1": key, "seller-2": key},
        "sellers": ["seller-1", "seller-2"],
    }
    (tmp_path / "devnet.json").write_text(json.dumps(description))
    found = running_settings()
    assert found.database_url == "postgresql://running"
    assert found.evm_rpc_url == "http://node"
    assert found.seller_keys is not None
    assert found.seller_keys.get_secret_value() == f"{key['private_key']},{key['private_key']}"
    monkeypatch.setenv("NEXUS_DATABASE_URL", "postgresql://mine")
    assert running_settings().database_url == "postgresql://mine"
