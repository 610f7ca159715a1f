"""Watching deposits: once each, only when confirmed, and taken back when the chain takes them back."""

from __future__ import annotations

import asyncio

import pytest

from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Connection, Database
from agentnexus.rails.evm.watch import TransferChange, TransferWatcher, WatchedTransfer


def watcher(
    chain: DevelopmentChain, database: Database, *, confirmations: int = 1, name: str = "deposits"
) -> TransferWatcher:
    seller = chain.accounts["seller-1"].address
    return TransferWatcher(
        database, chain.rpc, chain.network, chain.usdc, [seller], name=name, confirmations=confirmations
    )


def facts(changes: list[WatchedTransfer]) -> list[tuple[TransferChange, int]]:
    return [(change.change, change.amount.atomic) for change in changes]


DEPOSITED, REMOVED = TransferChange.DEPOSITED, TransferChange.REMOVED


async def test_a_transfer_to_us_is_reported_once(chain: DevelopmentChain, database: Database) -> None:
    watch = watcher(chain, database)
    assert await watch.poll() == []
    await chain.mint(chain.accounts["seller-1"].address, 42)
    await chain.mint(chain.accounts["seller-2"].address, 43)
    (deposit,) = await watch.poll()
    assert deposit.change is DEPOSITED
    assert deposit.amount.atomic == 42
    assert deposit.payee == chain.accounts["seller-1"].address
    assert await watch.poll() == []


async def test_what_came_before_a_new_watcher_is_left_alone_unless_asked_for(
    chain: DevelopmentChain, database: Database
) -> None:
    await chain.mint(chain.accounts["seller-1"].address, 42)
    assert await watcher(chain, database).poll() == []
    seller = chain.accounts["seller-1"].address
    all_of_it = TransferWatcher(database, chain.rpc, chain.network, chain.usdc, [seller], name="history", start_block=0)
    assert facts(await all_of_it.poll()) == [(DEPOSITED, 10_000_000_000), (DEPOSITED, 42)]


async def test_a_transfer_waits_for_its_confirmations(chain: DevelopmentChain, database: Database) -> None:
    watch = watcher(chain, database, confirmations=3)
    await watch.poll()
    await chain.mint(chain.accounts["seller-1"].address, 42)
    assert await watch.poll() == []
    await chain.mine()
    assert await watch.poll() == []
    await chain.mine()
    assert facts(await watch.poll()) == [(DEPOSITED, 42)]


async def test_a_watcher_goes_on_where_another_process_stopped(chain: DevelopmentChain, database: Database) -> None:
    await watcher(chain, database).poll()
    await chain.mint(chain.accounts["seller-1"].address, 42)
    assert facts(await watcher(chain, database).poll()) == [(DEPOSITED, 42)]
    assert await watcher(chain, database).poll() == []


async def test_a_deposit_that_a_reorganisation_drops_is_taken_back(chain: DevelopmentChain, database: Database) -> None:
    watch = watcher(chain, database)
    await watch.poll()
    before = await chain.snapshot()
    await chain.mint(chain.accounts["seller-1"].address, 42)
    assert facts(await watch.poll()) == [(DEPOSITED, 42)]
    await chain.revert(before)
    await chain.mint(chain.accounts["seller-1"].address, 7)
    assert facts(await watch.poll()) == [(REMOVED, 42), (DEPOSITED, 7)]
    assert await watch.poll() == []


async def test_a_deposit_moved_to_another_block_is_taken_back_and_booked_again(
    chain: DevelopmentChain, database: Database
) -> None:
    watch = watcher(chain, database)
    await watch.poll()
    await chain.mint(chain.accounts["seller-1"].address, 42)
    await watch.poll()
    await chain.rpc.call("anvil_reorg", 1, [])
    await chain.mint(chain.accounts["seller-1"].address, 42)
    assert facts(await watch.poll()) == [(REMOVED, 42), (DEPOSITED, 42)]


async def test_a_reorganisation_to_a_shorter_chain_is_noticed(chain: DevelopmentChain, database: Database) -> None:
    watch = watcher(chain, database)
    await watch.poll()
    before = await chain.snapshot()
    await chain.mint(chain.accounts["seller-1"].address, 42)
    await watch.poll()
    await chain.revert(before)
    assert facts(await watch.poll()) == [(REMOVED, 42)]


async def test_an_unconfirmed_transfer_that_vanishes_was_never_reported(
    chain: DevelopmentChain, database: Database
) -> None:
    watch = watcher(chain, database, confirmations=2)
    await watch.poll()
    before = await chain.snapshot()
    await chain.mint(chain.accounts["seller-1"].address, 42)
    assert await watch.poll() == []
    await chain.revert(before)
    await chain.mine(3)
    assert await watch.poll() == []


async def test_a_deposit_below_the_fork_is_not_reported_again(chain: DevelopmentChain, database: Database) -> None:
    """The watcher looked only after both blocks, so it must reread the deposit's block to learn that it stands."""
    watch = watcher(chain, database)
    await watch.poll()
    await chain.mint(chain.accounts["seller-1"].address, 42)
    before = await chain.snapshot()
    await chain.mine()
    assert facts(await watch.poll()) == [(DEPOSITED, 42)]
    await chain.revert(before)
    await chain.mint(chain.accounts["seller-1"].address, 7)
    assert facts(await watch.poll()) == [(DEPOSITED, 7)]


async def test_a_change_whose_booking_fails_is_reported_again(chain: DevelopmentChain, database: Database) -> None:
    watch = watcher(chain, database)
    await watch.poll()
    await chain.mint(chain.accounts["seller-1"].address, 42)

    async def refuse(_connection: Connection, _change: WatchedTransfer) -> None:
        raise RuntimeError("the ledger is closed")

    with pytest.raises(RuntimeError, match="closed"):
        await watch.poll(refuse)
    booked: list[WatchedTransfer] = []

    async def book(_connection: Connection, change: WatchedTransfer) -> None:
        booked.append(change)

    await watch.poll(book)
    await watch.poll(book)
    assert facts(booked) == [(DEPOSITED, 42)]


async def test_two_watchers_of_one_name_report_each_deposit_once(chain: DevelopmentChain, database: Database) -> None:
    one, two = watcher(chain, database), watcher(chain, database)
    await one.poll()
    for amount in (1, 2, 3):
        await chain.mint(chain.accounts["seller-1"].address, amount)
    reports = await asyncio.gather(one.poll(), two.poll(), one.poll(), two.poll())
    assert sorted(change.amount.atomic for report in reports for change in report) == [1, 2, 3]


async def test_watching_nobody_reports_nothing(chain: DevelopmentChain, database: Database) -> None:
    nobody = TransferWatcher(database, chain.rpc, chain.network, chain.usdc, [], name="nobody", start_block=0)
    assert await nobody.poll() == []
