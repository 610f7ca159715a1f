"""Copies of a payment whose check comes back late: what the first copy spent is no reason to ask the buyer again."""

from __future__ import annotations

import asyncio

import pytest
from tests.x402.support import ScriptedFacilitator, Work, late_copy, open_shop, outcome, requirement, sign, v2_payment
from x402.schemas import VerifyResponse

from agentnexus.core.errors import Unavailable
from agentnexus.devnet.accounts import development_accounts
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.reservations import Claim, Reservation, Reservations
from agentnexus.markets.x402.turn import CheckoutLimits

BUYER = development_accounts()["buyer"].signer
LATE: list[VerifyResponse | Exception] = [
    VerifyResponse(is_valid=False, invalid_reason=str(Reason.DUPLICATE_SETTLEMENT)),
    VerifyResponse(is_valid=False, invalid_reason=str(Reason.NONCE_USED)),
    VerifyResponse(is_valid=False, invalid_reason=str(Reason.INSUFFICIENT_BALANCE)),
    Unavailable("the node is away"),
]


class LateForTheFirst(ScriptedFacilitator):
    """Checks the first payment it is asked about only when told, and says `late` of it then."""

    def __init__(self, late: VerifyResponse | Exception) -> None:
        super().__init__()
        self.late = late
        self.gate = asyncio.Event()

    async def verify(self, payload: object, requirements: object) -> VerifyResponse:
        first = self.verified == 0
        good = await super().verify(payload, requirements)
        if not first:
            return good
        await self.gate.wait()
        if isinstance(self.late, Exception):
            raise self.late
        return self.late


async def payment() -> dict[str, str]:
    return v2_payment(requirement(), await sign(BUYER, requirement(), "k1"))


@pytest.mark.parametrize("late", LATE, ids=["duplicate", "nonce-used", "no-funds-left", "unreachable"])
async def test_a_copy_that_was_checked_after_the_first_was_paid_gets_the_same_answer(
    reservations: Reservations, monkeypatch: pytest.MonkeyPatch, late: VerifyResponse | Exception
) -> None:
    facilitator = LateForTheFirst(late)
    async with open_shop(facilitator, reservations=reservations) as shop:
        headers = await payment()
        copy = await late_copy(shop, headers, monkeypatch)
        first = await shop.http.get("/report", headers=headers)
        facilitator.gate.set()
        answer = await copy
    assert (first.status_code, answer.status_code) == (200, 200)
    assert answer.content == first.content
    assert (shop.work.runs, facilitator.settled) == (1, 1)


async def test_a_copy_that_was_checked_while_the_first_is_being_settled_waits_for_its_answer(
    reservations: Reservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    facilitator = LateForTheFirst(LATE[0])
    async with open_shop(facilitator, reservations=reservations, work=Work(gate=asyncio.Event())) as shop:
        headers = await payment()
        copy = await late_copy(shop, headers, monkeypatch)
        first = asyncio.create_task(shop.http.get("/report", headers=headers))
        await shop.work.started.wait()
        waiting = asyncio.Event()
        changed = reservations.changed

        async def noticed(payment_id: str, timeout_seconds: float) -> None:
            waiting.set()
            await changed(payment_id, timeout_seconds)

        monkeypatch.setattr(reservations, "changed", noticed)
        facilitator.gate.set()
        async with asyncio.timeout(20):
            await asyncio.wait({copy, asyncio.create_task(waiting.wait())}, return_when=asyncio.FIRST_COMPLETED)
        assert not copy.done()
        assert shop.work.gate is not None
        shop.work.gate.set()
        answers = await asyncio.gather(first, copy)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert (shop.work.runs, facilitator.settled) == (1, 1)


async def test_a_copy_that_was_checked_after_the_first_failed_shares_the_failure(
    reservations: Reservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    facilitator = LateForTheFirst(LATE[0])
    async with open_shop(facilitator, reservations=reservations, work=Work(status=422)) as shop:
        headers = await payment()
        copy = await late_copy(shop, headers, monkeypatch)
        first = await shop.http.get("/report", headers=headers)
        facilitator.gate.set()
        answer = await copy
    assert (first.status_code, answer.status_code) == (422, 422)
    assert (shop.work.runs, facilitator.settled) == (1, 0)


async def test_a_copy_of_a_settlement_that_is_not_known_is_not_told_to_pay_either(
    reservations: Reservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    facilitator = LateForTheFirst(LATE[1])
    facilitator.settle_script = [outcome(str(Reason.SETTLEMENT_PENDING))]
    async with open_shop(facilitator, reservations=reservations) as shop:
        headers = await payment()
        copy = await late_copy(shop, headers, monkeypatch)
        first = await shop.http.get("/report", headers=headers)
        facilitator.gate.set()
        answer = await copy
    assert (first.status_code, answer.status_code) == (202, 200)
    assert (shop.work.runs, facilitator.settled) == (1, 2)


async def test_a_payment_that_nobody_took_up_is_refused_once_its_check_is_back(
    reservations: Reservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    facilitator = LateForTheFirst(LATE[0])
    async with open_shop(facilitator, reservations=reservations) as shop:
        copy = await late_copy(shop, await payment(), monkeypatch)
        facilitator.gate.set()
        answer = await copy
    assert answer.status_code == 402
    assert (shop.work.runs, facilitator.verified) == (0, 1)


async def test_a_dead_sellers_claim_does_not_keep_a_bad_payment_going(
    reservations: Reservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first copy died at its work; what was good then is refused now, and that is the end of it."""
    facilitator = LateForTheFirst(LATE[0])
    limits = CheckoutLimits(lease=0.0)
    async with open_shop(facilitator, reservations=reservations, limits=limits) as shop:
        headers = await payment()
        copy = await late_copy(shop, headers, monkeypatch)
        claims: list[Claim] = []
        find = reservations.find

        async def seen(claim: Claim) -> Reservation | None:
            if not claims:
                claims.append(claim)
                await reservations.reserve(claim, "sale_dead", 0.0)
            return await find(claim)

        monkeypatch.setattr(reservations, "find", seen)
        facilitator.verify_reason = str(Reason.INSUFFICIENT_BALANCE)
        facilitator.gate.set()
        answer = await copy
    assert answer.status_code == 402
    assert (shop.work.runs, facilitator.verified) == (0, 2)
