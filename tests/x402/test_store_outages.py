"""The seller's store fails at every step of a sale: the work is done once, and nobody is told to pay again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from tests.x402.support import ScriptedFacilitator, Work, open_shop, outcome
from tests.x402.test_sell import payment

from agentnexus.core.errors import Unavailable
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.reservations import Claim, MemoryReservations, Reservation, SaleState, StoredResponse
from agentnexus.markets.x402.turn import CheckoutLimits

QUICK = CheckoutLimits(lease=0.3, wait=10.0)


class FailingReservations(MemoryReservations):
    """As if the database went away at chosen calls: `fails` has how often, by ``find``, ``renew`` or a state."""

    def __init__(self, **fails: int) -> None:
        super().__init__()
        self.fails = fails
        self.renewed = 0
        self.kept_alive = asyncio.Event()

    def _may_fail(self, call: str) -> None:
        if self.fails.get(call, 0) > 0:
            self.fails[call] -= 1
            raise Unavailable("the database does not answer", next_step="check the database")

    async def find(self, claim: Claim) -> Reservation | None:
        self._may_fail("find")
        return await super().find(claim)

    async def reserve(self, claim: Claim, owner: str, lease_seconds: float) -> Reservation:
        self._may_fail("reserve")
        return await super().reserve(claim, owner, lease_seconds)

    async def renew(self, payment_id: str, owner: str, lease_seconds: float) -> bool:
        self._may_fail("renew")
        self.renewed += 1
        if self.renewed >= 3:
            self.kept_alive.set()
        return await super().renew(payment_id, owner, lease_seconds)

    async def advance(
        self,
        payment_id: str,
        owner: str,
        state: SaleState,
        *,
        response: StoredResponse | None = None,
        settlement: Mapping[str, object] | None = None,
        lease_seconds: float = 0.0,
    ) -> None:
        self._may_fail(str(state))
        await super().advance(
            payment_id, owner, state, response=response, settlement=settlement, lease_seconds=lease_seconds
        )


@pytest.mark.parametrize("call", ["find", "reserve"])
async def test_without_the_store_nothing_is_done_and_nothing_is_taken(call: str) -> None:
    facilitator = ScriptedFacilitator()
    async with open_shop(facilitator, reservations=FailingReservations(**{call: 1})) as shop:
        headers = await payment()
        refused = await shop.http.get("/report", headers=headers)
        assert refused.status_code == 503
        assert refused.json()["error"]["next_step"]
        assert (shop.work.runs, facilitator.settled) == (0, 0)
        assert (await shop.http.get("/report", headers=headers)).status_code == 200
        assert (shop.work.runs, facilitator.settled) == (1, 1)


async def test_an_answer_that_cannot_be_kept_is_not_paid_for() -> None:
    facilitator = ScriptedFacilitator()
    async with open_shop(facilitator, reservations=FailingReservations(delivered=1), limits=QUICK) as shop:
        headers = await payment()
        assert (await shop.http.get("/report", headers=headers)).status_code == 503
        assert facilitator.settled == 0
        assert (await shop.http.get("/report", headers=headers)).status_code == 200
        assert facilitator.settled == 1


@pytest.mark.parametrize(("path", "state"), [("/report", "settled"), ("/stream", "paid"), ("/stream", "settled")])
async def test_who_has_paid_gets_the_answer_even_when_the_payment_cannot_be_noted(path: str, state: str) -> None:
    facilitator = ScriptedFacilitator()
    async with open_shop(facilitator, reservations=FailingReservations(**{state: 1}), limits=QUICK) as shop:
        headers = await payment()
        first = await shop.http.get(path, headers=headers)
        assert first.status_code == 200
        assert "payment-response" in first.headers
        again = await shop.http.get(path, headers=headers)
        assert again.status_code == 200
        if path == "/report":
            assert (again.content, shop.work.runs) == (first.content, 1)


@pytest.mark.parametrize(("reason", "status"), [(Reason.SETTLEMENT_PENDING, 202), (Reason.INSUFFICIENT_BALANCE, 402)])
async def test_what_the_facilitator_said_reaches_the_client_even_when_it_cannot_be_noted(
    reason: Reason, status: int
) -> None:
    facilitator = ScriptedFacilitator()
    facilitator.settle_script = [outcome(str(reason))]
    async with open_shop(facilitator, reservations=FailingReservations(delivered=0, refused=1), limits=QUICK) as shop:
        store = shop.reservations
        assert isinstance(store, FailingReservations)
        headers = await payment()
        first = await shop.http.get("/report", headers=headers)
        assert first.status_code == status
        again = await shop.http.get("/report", headers=headers)
        assert (again.status_code, shop.work.runs) == (200, 1)


async def test_a_lease_outlives_a_short_outage_of_its_store() -> None:
    facilitator = ScriptedFacilitator()
    store = FailingReservations(renew=1)
    work = Work(gate=store.kept_alive)
    async with open_shop(facilitator, reservations=store, work=work, limits=QUICK) as shop, asyncio.timeout(20):
        headers = await payment()
        answers = await asyncio.gather(*(shop.http.get("/report", headers=headers) for _ in range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert (work.runs, facilitator.settled) == (1, 1)
