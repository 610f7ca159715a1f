"""Settling authorisations: refused for every reason there is, and collected exactly once."""

from __future__ import annotations

import asyncio

from tests.evm.conftest import Desk


async def test_a_good_authorisation_is_settled_and_the_seller_has_the_money(desk: Desk) -> None:
    signed = await desk.signed()
    await desk.settler.verify(signed, desk.requirement())
    settlement = await desk.settler.settle(signed, desk.requirement())
    assert settlement.value == 10_000
    assert not settlement.repeated
    assert await desk.seller_earned() == 10_000


async def test_asking_again_answers_with_the_same_transaction(desk: Desk) -> None:
    signed = await desk.signed()
    first = await desk.settler.settle(signed, desk.requirement())
    second = await desk.settler.settle(signed, desk.requirement())
    assert second.transaction == first.transaction
    assert second.repeated
    assert await desk.seller_earned() == 10_000


async def test_many_copies_at_once_settle_once(desk: Desk) -> None:
    signed = await desk.signed()
    all_of_them = await asyncio.gather(*(desk.settler.settle(signed, desk.requirement()) for _ in range(8)))
    assert len({each.transaction for each in all_of_them}) == 1
    assert await desk.seller_earned() == 10_000
