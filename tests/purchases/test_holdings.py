"""Whoever passes tokens on, runs, and whatever blocks are dropped: every token is somebody's, and no run is free.

The tables and their SQL are the real ones; the chain is a list of what its events would say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentnexus.core.money import Asset, Money
from agentnexus.marketplace.entitlements.choosing import next_lot
from agentnexus.marketplace.entitlements.holdings import Passed, held_in, held_of, pass_on, take_back
from agentnexus.marketplace.entitlements.model import Use, UseState
from agentnexus.marketplace.entitlements.stock import Lot, Stock
from agentnexus.marketplace.entitlements.store import EntitlementStore
from agentnexus.marketplace.purchases.kinds import Kind, Period
from agentnexus.marketplace.purchases.model import Purchase, PurchaseState, Step
from agentnexus.marketplace.purchases.store import PurchaseStore
from agentnexus.platform.database import Connection, Database
from agentnexus.rails.evm.contracts import DealStatus

NOW: Final = datetime(2026, 11, 21, 12, tzinfo=UTC)
USDC: Final = Asset("USDC", 6, "eip155:31337/erc20:0x5fbdb2315678afecb367f032d93f642f64180aa3")
WALLETS: Final = tuple(f"0x{name * 40}" for name in "abc")
AGENT: Final = "org.agentnexus.trial"
BOUGHT: Final = (1, 2)  # runs of the first wallet's two purchases: few, so that they are soon used up


def purchase(number: int, quantity: int, **facts: object) -> Purchase:
    plain = Purchase(
        id=f"pur_{number}", user_id="ann", key=f"k{number}", agent_id=AGENT, agent_name="Trial", capability="a.b",
        seller="0x" + "e" * 40, quantity=quantity, price=Money(USDC, 20_000), fee_bps=250, wallet_id="wal_1",
        wallet=WALLETS[0], deal_id=f"0x{number:064x}", lifetime_seconds=86_400, valid_until=NOW,
        created_at=NOW + timedelta(seconds=number), updated_at=NOW, transferable=True,
    )  # fmt: skip
    return replace(plain, **facts)  # type: ignore[arg-type]  # fields by name


async def keep(database: Database, connection: Connection, made: Purchase) -> Purchase:
    """In the tables, paid and there."""
    store = PurchaseStore(database)
    opened = await store.open(connection, made)
    assert opened is not None
    there = replace(
        opened, state=PurchaseState.COMPLETED, step=Step.ENTITLED, deal=DealStatus.OPEN,
        remaining=opened.amount.atomic, expires_at=NOW + timedelta(days=30),
    )  # fmt: skip
    moved = await store.move_in(connection, opened, there)
    assert moved is not None
    return moved


class Undone(Exception):
    """Leaves nothing of an example behind."""


@dataclass
class Ledger:
    """Who has what, by the tables and by what the chain said. `blocks`: events that can be dropped, newest last."""

    rights: EntitlementStore
    connection: Connection
    bought: dict[str, Purchase]
    token_id: int
    balances: list[dict[str, int]] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)
    uses: int = 0
    events: int = 0

    @property
    def balance(self) -> dict[str, int]:
        return self.balances[-1]

    async def stock(self, wallet: str) -> Stock:
        held = await held_of(self.connection, [wallet], AGENT)
        lots = [Lot(self.bought[each.purchase_id], each) for each in sorted(held, key=lambda each: each.purchase_id)]
        return Stock(lots, {self.token_id: self.balance[wallet]}, NOW)

    async def pass_on(self, giver: str, receiver: str, count: int) -> None:
        if giver == receiver or not 0 < count <= self.balance[giver]:
            return
        self.events += 1
        after = dict(self.balance)
        after[giver] -= count
        after[receiver] += count
        self.balances.append(after)
        self.blocks.append(f"block:{self.events}")
        await pass_on(self.connection, self.blocks[-1], Passed(giver, receiver, self.token_id, count))

    async def drop(self) -> None:
        if self.blocks:
            self.balances.pop()
            await take_back(self.connection, self.blocks.pop())

    async def run(self, wallet: str, *, ends: UseState) -> None:
        stock = await self.stock(wallet)
        if not stock.usable:
            return
        lot = next_lot(stock, AGENT)
        self.uses += 1
        use = Use(
            f"use_{self.uses}", "ann", f"r{self.uses}", AGENT, lot.purchase.id, wallet, f"exe_{self.uses}", "sha256:1",
            UseState.RUNNING, NOW,
        )  # fmt: skip
        await self.rights.open_use(self.connection, use, b"null")
        if ends is not UseState.RUNNING:
            await self.end(use.id, ends)

    async def end(self, use_id: str, ends: UseState) -> None:
        await self.connection.execute(
            "update marketplace.use set state = $2, settled_at = $3 where id = $1 and state = 'running'",
            use_id, str(ends), NOW,
        )  # fmt: skip

    async def check(self) -> None:
        held = await held_in(self.connection, list(self.bought))
        for each in self.bought.values():
            of_it = [one for one in held if one.purchase_id == each.id]
            assert sum(one.count for one in of_it) == each.quantity
            assert all(one.count >= 0 for one in of_it)
            assert sum(one.completed + one.running for one in of_it) == of_it[0].spent <= each.quantity


@asynccontextmanager
async def ledger(database: Database, quantities: Sequence[int]) -> AsyncIterator[Ledger]:
    """Nothing of it stays."""
    try:
        async with database.transaction() as connection:
            bought = [await keep(database, connection, purchase(n, count)) for n, count in enumerate(quantities)]
            found = {each.id: each for each in bought}
            tokens = dict.fromkeys(WALLETS, 0) | {WALLETS[0]: sum(quantities)}
            yield Ledger(EntitlementStore(database), connection, found, bought[0].token_id, [tokens])
            raise Undone
    except Undone:
        pass


WHO = st.sampled_from(WALLETS)
EVENT = st.one_of(
    st.tuples(st.just("pass"), WHO, WHO, st.integers(1, 4)),
    st.tuples(st.just("pass"), st.just(WALLETS[0]), WHO, st.just(1)),
    st.tuples(st.just("run"), WHO, st.sampled_from(UseState)),
    st.tuples(st.just("run"), WHO, st.just(UseState.COMPLETED)),
    st.tuples(st.just("end"), st.integers(1, 6), st.sampled_from([UseState.COMPLETED, UseState.FAILED])),
    st.tuples(st.just("drop")),
)


@pytest.mark.timeout(180)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EVENT, min_size=8, max_size=40))
async def test_tokens_are_never_more_nor_fewer_and_no_run_is_made_twice(
    database: Database, events: list[tuple[object, ...]]
) -> None:
    async with ledger(database, BOUGHT) as found:
        for event in events:
            match event:
                case ("pass", str() as giver, str() as receiver, int() as count):
                    await found.pass_on(giver, receiver, count)
                case ("run", str() as wallet, UseState() as ends):
                    await found.run(wallet, ends=ends)
                case ("end", int() as number, UseState() as ends):
                    await found.end(f"use_{number}", ends)
                case _:
                    await found.drop()
            await found.check()


async def test_all_dropped_is_as_it_was(database: Database) -> None:
    ann, bob, carol = WALLETS
    async with ledger(database, (3, 2)) as found:
        for giver, receiver, count in ((ann, bob, 4), (bob, carol, 3), (carol, ann, 2), (ann, bob, 3)):
            await found.pass_on(giver, receiver, count)
            await found.check()
        for _ in range(4):
            await found.drop()
            await found.check()
        held = {
            (each.purchase_id, each.wallet): each.count for each in await held_in(found.connection, ["pur_0", "pur_1"])
        }
        assert {key: count for key, count in held.items() if count} == {("pur_0", ann): 3, ("pur_1", ann): 2}


async def test_what_is_being_given_back_is_passed_on_last(database: Database) -> None:
    """Its tokens may be taken already: those that went are another purchase's then."""
    ann, bob, _ = WALLETS
    async with ledger(database, (2, 2)) as found:
        await found.connection.execute("update marketplace.purchase set step = 'refunding' where id = 'pur_0'")
        await found.pass_on(ann, bob, 2)
        held = {each.purchase_id: each.count for each in await held_of(found.connection, [bob], AGENT)}
        assert held == {"pur_1": 2}
        await found.pass_on(ann, bob, 2)
        assert sum(each.count for each in await held_of(found.connection, [bob], AGENT)) == 4


async def test_runs_of_a_month_count_for_everybody_who_had_it(database: Database) -> None:
    ann, bob, _ = WALLETS
    async with database.connection() as connection:
        made = purchase(0, 1, kind=Kind.PERIOD, period=Period.at(NOW), runs_max=2)
        kept = await keep(database, connection, made)
        found = Ledger(EntitlementStore(database), connection, {kept.id: kept}, kept.token_id, [{ann: 1, bob: 0}])
        await found.run(ann, ends=UseState.COMPLETED)
        await found.run(ann, ends=UseState.FAILED)
        await found.pass_on(ann, bob, 1)
        assert not (await found.stock(ann)).usable
        assert (await found.stock(bob)).access().period_runs_left == 1
        await found.run(bob, ends=UseState.RUNNING)
        assert not (await found.stock(bob)).usable


async def test_the_same_event_is_counted_once_after_it_was_dropped_and_told_again(database: Database) -> None:
    ann, bob, _ = WALLETS
    async with ledger(database, (3,)) as found:
        passed = Passed(ann, bob, found.token_id, 2)
        for _ in range(3):
            await pass_on(found.connection, "block", passed)
            assert [each.count for each in await held_of(found.connection, [bob], AGENT)] == [2]
            await take_back(found.connection, "block")
            await take_back(found.connection, "block")
            assert [each.count for each in await held_of(found.connection, [bob], AGENT)] == [0]
            await found.check()
