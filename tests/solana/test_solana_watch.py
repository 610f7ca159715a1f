"""Watching deposits: all of them, once, through restarts, races and refusing books."""

from __future__ import annotations

import asyncio

import pytest
from tests.solana.conftest import SOL, Desk, open_desk

from agentnexus.core.money import Asset, Money
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.devnet.solana.faults import Fault
from agentnexus.platform.database import Connection, Database
from agentnexus.rails.solana.deposits import Deposit
from agentnexus.rails.solana.errors import NodeError
from agentnexus.rails.solana.watch import DepositWatcher


def watcher(desk: Desk, asset: Asset | None = None, name: str = "test", **options: int) -> DepositWatcher:
    return DepositWatcher(
        desk.sender.database,
        desk.chain.rpc,
        desk.chain.network,
        asset or desk.chain.usdc,
        desk.payee.address,
        name=name,
        start_slot=0,
        **options,
    )


async def pay(desk: Desk, *amounts: int) -> None:
    for number, amount in enumerate(amounts):
        await desk.rail.send(desk.request(amount), f"{number}:{amount}")
    await desk.chain.advance(40)


def atomic(deposits: list[Deposit]) -> list[int]:
    return [each.amount.atomic for each in deposits]


async def test_deposits_come_in_their_order_and_once(desk: Desk) -> None:
    follower = watcher(desk)
    assert await follower.poll() == []
    await pay(desk, 10, 20, 30)
    found = await follower.poll()
    assert atomic(found) == [10, 20, 30]
    assert {each.sender for each in found} == {desk.payer.address}
    assert await follower.poll() == []
    await pay(desk, 40)
    assert atomic(await follower.poll()) == [40]


async def test_what_is_not_final_is_not_reported_yet(desk: Desk) -> None:
    follower = watcher(desk)
    await desk.rail.send(desk.request(10), "k1")
    assert await follower.poll() == []
    await desk.chain.advance(40)
    assert atomic(await follower.poll()) == [10]


async def test_a_new_watcher_starts_now_and_an_old_one_where_it_was(desk: Desk) -> None:
    await pay(desk, 10)
    late = DepositWatcher(
        desk.sender.database, desk.chain.rpc, desk.chain.network, desk.chain.usdc, desk.payee.address, name="late"
    )
    assert await late.poll() == []
    await pay(desk, 20)
    again = watcher(desk, name="late")  # another process, with another idea of the start
    assert atomic(await again.poll()) == [20]
    assert atomic(await watcher(desk, name="other").poll()) == [10, 20]


async def test_many_pages_are_walked_to_the_place(desk: Desk) -> None:
    follower = watcher(desk, page=3)
    await pay(desk, *range(1, 9))
    assert atomic(await follower.poll()) == list(range(1, 9))
    await pay(desk, *range(11, 15))
    assert atomic(await follower.poll()) == list(range(11, 15))


async def test_sol_deposits_are_watched_as_well(desk: Desk) -> None:
    sol = desk.chain.network.native
    follower = watcher(desk, sol)
    await desk.rail.send(desk.request(SOL // 10, sol), "k1")
    await pay(desk, 10)  # names the wallet as well, and brings no SOL
    assert [each.amount for each in await follower.poll()] == [Money(sol, SOL // 10)]


async def test_token_2022_deposits_are_watched_as_well(desk: Desk) -> None:
    fee_token = desk.chain.fee_token
    await desk.chain.mint(desk.payer.key, 1_000_000, fee_token)
    follower = watcher(desk, fee_token)
    await desk.rail.send(desk.request(500, fee_token), "k1")
    await desk.chain.advance(40)
    assert atomic(await follower.poll()) == [500]


async def test_failed_and_outgoing_transactions_are_no_deposits(desk: Desk) -> None:
    await pay(desk, 10)
    await desk.chain.fault(Fault.FAIL_ON_CHAIN)
    with pytest.raises(Exception, match="failed on the chain"):
        await desk.rail.send(desk.request(20), "fails")
    await pay(desk, 30)
    assert atomic(await watcher(desk).poll()) == [10, 30]


async def test_a_book_that_refuses_is_asked_again(desk: Desk) -> None:
    follower, booked = watcher(desk), list[int]()
    await pay(desk, 10, 20, 30)

    async def refusing(connection: Connection, deposit: Deposit) -> None:
        if deposit.amount.atomic == 20:
            raise RuntimeError("the ledger is away")
        booked.append(deposit.amount.atomic)

    with pytest.raises(RuntimeError):
        await follower.poll(refusing)
    assert booked == [10]

    async def taking(connection: Connection, deposit: Deposit) -> None:
        booked.append(deposit.amount.atomic)

    assert atomic(await follower.poll(taking)) == [20, 30]
    assert booked == [10, 20, 30]


async def test_many_watchers_of_one_name_book_each_deposit_once(desk: Desk) -> None:
    booked: list[int] = []

    async def book(connection: Connection, deposit: Deposit) -> None:
        booked.append(deposit.amount.atomic)

    await pay(desk, *range(1, 8))
    await asyncio.gather(*(watcher(desk).poll(book) for _ in range(6)))
    assert sorted(booked) == list(range(1, 8))


async def test_several_deposits_in_one_slot_are_all_found(desk: Desk) -> None:
    follower = watcher(desk)
    await desk.rail.send(desk.request(1), "first")
    await desk.chain.rpc.call("devnet_setPace", {"instant": False})
    try:
        await asyncio.gather(*(desk.rail.send(desk.request(10 + number), f"k{number}") for number in range(6)))
    finally:
        await desk.chain.rpc.call("devnet_setPace", {"instant": True})
    await desk.chain.advance(40)
    assert sorted(atomic(await follower.poll())) == [1, *range(10, 16)]
    assert await follower.poll() == []


async def test_a_node_that_is_behind_our_place_is_an_error_and_not_an_empty_answer(
    desk: Desk, database: Database
) -> None:
    follower = watcher(desk)
    await pay(desk, 10)
    await follower.poll()
    async with database.connection() as connection:
        await connection.execute("update solana.cursor set slot = slot + 1000000")
    with pytest.raises(NodeError, match="Minimum context slot"):
        await follower.poll()


async def test_a_watcher_goes_on_after_the_chain_was_killed(
    own_solana: SolanaDevelopmentChain, database: Database
) -> None:
    desk = await open_desk(own_solana, database)
    follower = watcher(desk)
    await pay(desk, 10)
    assert atomic(await follower.poll()) == [10]
    await pay(desk, 20)
    await own_solana.kill()
    await own_solana.start()
    await pay(desk, 30)
    assert atomic(await watcher(desk).poll()) == [20, 30]


async def test_what_was_reported_is_summed_and_listed_per_watcher_and_asset(desk: Desk) -> None:
    follower, sol = watcher(desk), watcher(desk, desk.chain.network.native)
    assert (await follower.total(), await follower.newest(5)) == (Money(desk.chain.usdc, 0), [])
    await pay(desk, 10, 20, 30)
    await desk.rail.send(desk.request(1_000_000, desk.chain.network.native), "sol")
    await desk.chain.advance(40)
    found = await follower.poll()
    await sol.poll()
    assert await follower.total() == Money(desk.chain.usdc, 60)
    assert await watcher(desk, name="another").total() == Money(desk.chain.usdc, 0)
    newest = await follower.newest(5)
    assert sorted(atomic(newest)) == [10, 20, 30]
    assert newest[0].slot == max(each.slot for each in found)
    assert set(newest) == set(found)  # as they were reported
    assert len(await follower.newest(2)) == 2
    assert 1_000_000 in atomic(await sol.newest(5))
