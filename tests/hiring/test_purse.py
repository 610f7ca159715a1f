"""The purse: money leaves only by the written-down way, once, and every path ends in paid or refunded."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import (
    BudgetExceeded,
    Conflict,
    InsufficientFunds,
    NexusError,
    NotAllowed,
    NotFound,
    PaymentFailed,
    PaymentUnknown,
)
from agentnexus.core.money import Money
from agentnexus.core.offers import Job, Quote, RefundRule
from agentnexus.core.payments import Limits, Payment, PaymentRequest, PaymentState, PayMode
from agentnexus.hiring.cashier import Cashier, Wallet
from agentnexus.hiring.holds import HoldRow, HoldStore
from agentnexus.hiring.purse import JobPurse, Terms
from agentnexus.hiring.testing import MemoryNetwork, ScriptedRail
from agentnexus.ledger.books import Books
from agentnexus.platform.database import Database
from tests.hiring.support import EURC, NEED, USDC, WALLET, make_offer, seller_key, usd

_numbers = itertools.count(1)
SELLER = f"seller:{seller_key(1)}"


class Counter:
    """A purse's surroundings: real ledger and rows, a scripted network."""

    def __init__(self, database: Database, books: Books) -> None:
        self.database = database
        self.books = books
        self.network = MemoryNetwork()
        self.rail = ScriptedRail(self.network, SystemClock())
        self.cashier = Cashier(books, HoldStore(database), {"scripted": Wallet(self.rail, WALLET)}, SystemClock())

    @classmethod
    async def open(cls, database: Database, limits: Limits | None = None) -> Counter:
        books = Books(database)
        await books.deposit("top-up", f"wallet:{USDC.network}:{WALLET}", usd("1000"))
        await books.budgets.create("b", owner="u", asset=USDC, limits=limits or Limits())
        return cls(database, books)

    def purse(self, *, hire: str = "", maximum: Money | None = None, number: int = 0, budget: str = "b") -> JobPurse:
        number = number or next(_numbers)
        offer = make_offer(1)
        job = Job(id=f"job_{number}", key=f"job-key-{number}", need=NEED, offer_id=offer.id)
        quote = Quote(
            offer_id=offer.id,
            job_id=job.id,
            maximum=maximum or usd("0.02"),
            valid_until=SystemClock().now() + timedelta(minutes=5),
            refund_rule=RefundRule.HELD_UNTIL_CHECKED,
        )
        return JobPurse(Terms(hire or f"hire-{number}", budget, job, offer, quote), self.cashier)

    async def spent(self) -> str:
        return f"{(await self.books.balance(SELLER, USDC)).posted.decimal.normalize():f}"

    async def pending(self) -> int:
        async with self.database.connection() as connection:
            return int(await connection.fetchval("select count(*) from ledger.reservation where state = 'pending'"))


def request(
    amount: str = "0.02", *, mode: PayMode = PayMode.AUTHORIZE, binding: str = "b1", rail: str = "scripted"
) -> PaymentRequest:
    return PaymentRequest(
        rail=rail, amount=usd(amount), payee=seller_key(1), mode=mode, reference={"a": 1}, binding=binding
    )


@pytest.fixture
async def counter(database: Database) -> Counter:
    return await Counter.open(database)


async def test_a_hold_is_written_with_its_evidence_before_it_is_handed_out(counter: Counter) -> None:
    hold = await counter.purse().hold(request())
    row = await counter.cashier.holds.by_payment(hold.id)
    assert row is not None
    assert (row.state, row.payment) == (PaymentState.HELD, hold.payment)
    assert hold.payment.evidence["payload"]


async def test_the_same_hold_again_is_the_first_one(counter: Counter) -> None:
    purse = counter.purse()
    first, again = await purse.hold(request()), await purse.hold(request())
    assert first == again
    assert await counter.pending() == 1


async def test_a_purse_of_the_same_job_in_another_process_gives_the_same_hold(counter: Counter) -> None:
    first = await counter.purse(number=900).hold(request())
    assert await counter.purse(number=900).hold(request()) == first


async def test_of_two_runners_of_one_job_the_terms_written_first_are_signed_by_both(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a lost lock: with an expiry of its own each would sign another payload under the same nonce."""
    now = SystemClock().now()
    early, late = (
        request().model_copy(update={"expires_at": now + timedelta(seconds=seconds)}) for seconds in (60, 90)
    )
    first = await counter.purse(number=901).hold(early)
    holds = counter.cashier.holds
    looked = holds.of_hire

    async def too_early(hire_key: str) -> list[HoldRow]:
        monkeypatch.setattr(holds, "of_hire", looked)
        return []

    monkeypatch.setattr(holds, "of_hire", too_early)
    second = await counter.purse(number=901).hold(late)
    assert second == first
    assert await counter.pending() == 1


async def test_many_holds_of_one_binding_at_once_are_one(counter: Counter) -> None:
    purse = counter.purse()
    holds = await asyncio.gather(*(purse.hold(request()) for _ in range(10)))
    assert len({hold.id for hold in holds}) == 1
    assert await counter.pending() == 1


async def test_release_posts_exactly_once_what_the_network_confirms(counter: Counter) -> None:
    purse = counter.purse()
    hold = await purse.hold(request())
    await counter.network.move(hold.id, None, "collected")
    for _ in range(3):
        assert (await purse.release(hold, {})).state is PaymentState.CONFIRMED
    assert (await counter.spent(), await counter.pending()) == ("0.02", 0)


async def test_a_claimed_payment_that_the_network_does_not_show_is_not_posted(counter: Counter) -> None:
    purse = counter.purse()
    hold = await purse.hold(request())
    payment = await purse.release(hold, {"transaction": "0xlie"})
    assert not payment.state.final
    assert await counter.spent() == "0"


async def test_refund_makes_collecting_impossible_and_gives_the_money_back(counter: Counter) -> None:
    purse = counter.purse()
    hold = await purse.hold(request())
    for _ in range(3):
        assert (await purse.refund(hold, "not delivered")).state is PaymentState.REFUNDED
    assert not await counter.network.move(hold.id, None, "collected")
    assert (await counter.spent(), await counter.pending()) == ("0", 0)


async def test_refund_finds_out_when_the_seller_was_faster(counter: Counter) -> None:
    purse = counter.purse()
    hold = await purse.hold(request())
    await counter.network.move(hold.id, None, "collected")
    assert (await purse.refund(hold, "too late")).state is PaymentState.CONFIRMED
    assert await counter.spent() == "0.02"


async def test_a_refunded_hold_cannot_be_had_again(counter: Counter) -> None:
    purse = counter.purse()
    await purse.refund(await purse.hold(request()), "not delivered")
    with pytest.raises(PaymentFailed, match="not delivered"):
        await purse.hold(request())


async def test_after_a_refund_a_late_release_stays_refunded(counter: Counter) -> None:
    purse = counter.purse()
    hold = await purse.hold(request())
    await purse.refund(hold, "no")
    assert (await purse.release(hold, {})).state is PaymentState.REFUNDED


async def test_while_the_network_is_down_a_refund_is_unknown_and_keeps_the_money_reserved(counter: Counter) -> None:
    purse = counter.purse()
    hold = await purse.hold(request())
    counter.rail.down = True
    with pytest.raises(PaymentUnknown):
        await purse.refund(hold, "x")
    assert await counter.pending() == 1
    counter.rail.down = False
    assert (await purse.refund(hold, "x")).state is PaymentState.REFUNDED


async def test_an_unknown_payment_blocks_every_other_of_the_same_hire(counter: Counter) -> None:
    purse = counter.purse(hire="h", maximum=usd("1"))
    hold = await purse.hold(request())
    counter.rail.down = True
    with pytest.raises(PaymentUnknown):
        await purse.refund(hold, "x")
    with pytest.raises(PaymentUnknown):
        await purse.hold(request(binding="b2"))
    with pytest.raises(PaymentUnknown):
        await counter.purse(hire="h").hold(request())
    counter.rail.down = False
    await purse.lookup(hold.payment)
    await purse.refund(hold, "x")
    assert (await purse.hold(request(binding="b2"))).payment.state is PaymentState.HELD


async def test_an_open_hold_of_an_earlier_seller_blocks_the_next_seller(counter: Counter) -> None:
    await counter.purse(hire="h2").hold(request())
    with pytest.raises(PaymentUnknown):
        await counter.purse(hire="h2").hold(request())


async def test_several_payments_of_one_job_stay_within_the_quote(counter: Counter) -> None:
    purse = counter.purse(maximum=usd("0.05"))
    for number in (1, 2):
        hold = await purse.hold(request(binding=f"b{number}"))
        await counter.network.move(hold.id, None, "collected")
        await purse.release(hold, {})
    with pytest.raises(PaymentFailed, match=r"0\.01\d* USDC is left"):
        await purse.hold(request(binding="b3"))
    assert (await counter.spent(), await counter.pending()) == ("0.04", 0)


async def test_money_that_was_refunded_is_there_for_the_next_payment_of_the_job(counter: Counter) -> None:
    purse = counter.purse()
    await purse.refund(await purse.hold(request()), "no")
    assert (await purse.hold(request(binding="b2"))).payment.state is PaymentState.HELD


async def test_other_terms_for_the_same_binding_are_a_conflict(counter: Counter) -> None:
    purse = counter.purse()
    await purse.hold(request("0.01"))
    with pytest.raises(Conflict):
        await purse.hold(request("0.02"))


@pytest.mark.parametrize("asked", [Money(USDC, 0), Money(USDC, -1), usd("0.03"), EURC.parse("0.01")])
async def test_amounts_outside_the_quote_are_never_signed(counter: Counter, asked: Money) -> None:
    wrong = request().model_copy(update={"amount": asked})
    for purse in (counter.purse(), counter.purse()):
        with pytest.raises(PaymentFailed):
            await purse.hold(wrong)
        with pytest.raises(PaymentFailed):
            await purse.pay(wrong.model_copy(update={"mode": PayMode.PAY}))
    assert (counter.network.states, await counter.pending()) == ({}, 0)


async def test_a_rail_without_a_wallet_is_named(counter: Counter) -> None:
    with pytest.raises(PaymentFailed, match="lightning"):
        await counter.purse().hold(request(rail="lightning"))


async def test_pay_and_hold_refuse_each_others_modes(counter: Counter) -> None:
    with pytest.raises(PaymentFailed, match="direct payment"):
        await counter.purse().hold(request(mode=PayMode.PAY))
    with pytest.raises(PaymentFailed, match="mode"):
        await counter.purse().pay(request())


async def test_a_payment_of_another_job_is_not_touched(counter: Counter) -> None:
    hold = await counter.purse().hold(request())
    other = counter.purse()
    for attempt in (other.refund(hold, "x"), other.release(hold, {}), other.lookup(hold.payment)):
        with pytest.raises(NotAllowed):
            await attempt


async def test_a_payment_that_nobody_made_is_not_found(counter: Counter) -> None:
    stranger = Payment(id="nobody", request=request(), state=PaymentState.HELD)
    with pytest.raises(NotFound):
        await counter.purse().lookup(stranger)


async def test_a_rail_that_cannot_hold_says_so_and_nothing_stays_reserved(counter: Counter) -> None:
    class OnlySends:
        name = "scripted"
        send, lookup, fee, balance = counter.rail.send, counter.rail.lookup, counter.rail.fee, counter.rail.balance

    counter.cashier.wallets["scripted"] = Wallet(OnlySends(), WALLET)
    purse = counter.purse()
    with pytest.raises(PaymentFailed, match="cannot set money aside"):
        await purse.hold(request())


async def test_reserve_sets_the_quote_aside_and_close_gives_it_back(counter: Counter) -> None:
    purse = counter.purse()
    await purse.reserve()
    await purse.reserve()
    assert await counter.pending() == 1
    await purse.close()
    await purse.close()
    assert await counter.pending() == 0


async def test_what_was_given_back_is_not_set_aside_again_under_the_same_key(counter: Counter) -> None:
    """Another process may have ended the job: whoever still works at it pays nothing."""
    counter_number = next(_numbers)
    first, second = counter.purse(number=counter_number), counter.purse(number=counter_number)
    await first.reserve()
    await first.close("cancelled")
    with pytest.raises(PaymentFailed, match="was given back") as caught:
        await second.reserve()
    assert "new key" in caught.value.next_step
    assert await counter.pending() == 0
    assert await counter.spent() == "0"


async def test_a_payment_that_came_back_is_not_held_again(counter: Counter) -> None:
    purse = counter.purse()
    hold = await purse.hold(request())
    assert (await purse.refund(hold, "no answer")).state is PaymentState.REFUNDED
    with pytest.raises(PaymentFailed, match="no answer") as caught:
        await purse.hold(request())
    assert caught.value.details["hold"] == hold.id
    assert await counter.pending() == 0


async def test_close_leaves_a_reservation_that_became_a_payment(counter: Counter) -> None:
    purse = counter.purse()
    await purse.reserve()
    await purse.hold(request("0.01"))
    await purse.close()
    assert await counter.pending() == 1


async def test_the_rest_of_a_reservation_goes_back_when_less_was_asked(counter: Counter) -> None:
    purse = counter.purse()
    await purse.reserve()
    hold = await purse.hold(request("0.005"))
    await counter.network.move(hold.id, None, "collected")
    await purse.release(hold, {})
    status = await counter.books.budgets.status("b")
    assert (status.spent, status.reserved) == (usd("0.005"), usd("0"))


async def test_a_budget_that_says_no_stops_everything(database: Database) -> None:
    counter = await Counter.open(database, Limits(per_payment=usd("0.01")))
    for attempt in (counter.purse().reserve(), counter.purse().hold(request())):
        with pytest.raises(BudgetExceeded):
            await attempt
    assert counter.network.states == {}


async def test_a_task_limit_counts_over_the_hires_of_one_task(database: Database) -> None:
    counter = await Counter.open(database, Limits(per_task=usd("0.03")))
    await counter.purse(hire="same-task").reserve()
    with pytest.raises(BudgetExceeded) as caught:
        terms = counter.purse(hire="other")._terms
        await JobPurse(
            Terms(terms.hire_key, "b", terms.job, terms.offer, terms.quote, task=""), counter.cashier
        ).reserve()
    assert caught.value.details["limit"] == "per_task"


async def test_no_wallet_for_the_asset_is_said_before_anything_is_reserved(counter: Counter) -> None:
    counter.cashier.wallets["scripted"] = Wallet(counter.rail, WALLET, frozenset({"eip155:1"}))
    with pytest.raises(InsufficientFunds, match="no wallet"):
        await counter.purse().reserve()


async def test_a_sent_payment_without_an_answer_is_looked_up_not_sent_again(counter: Counter) -> None:
    counter.rail.lose_answers = True
    purse = counter.purse()
    with pytest.raises(PaymentUnknown):
        await purse.pay(request(mode=PayMode.PAY))
    payment = await purse.pay(request(mode=PayMode.PAY))
    assert payment.state is PaymentState.CONFIRMED
    assert await counter.spent() == "0.02"


async def test_less_is_posted_where_the_rail_says_that_less_was_taken(counter: Counter) -> None:
    purse = counter.purse()
    hold = await purse.hold(request())
    row = await counter.cashier.holds.by_payment(hold.id)
    assert row is not None
    taken = hold.payment.model_copy(
        update={"state": PaymentState.CONFIRMED, "evidence": {"transaction": "t", "settled_amount": "7000"}}
    )
    await counter.cashier.conclude(row, taken)
    assert (await counter.spent(), await counter.pending()) == ("0.007", 0)


@pytest.mark.parametrize(
    ("stated", "spent", "state"),
    [
        ("0", "0", PaymentState.REFUNDED),
        ("20000", "0.02", PaymentState.CONFIRMED),
        ("20001", "0.02", PaymentState.CONFIRMED),  # more than was authorised is not believed
        ("-5", "0.02", PaymentState.CONFIRMED),
        ("\u00b2", "0.02", PaymentState.CONFIRMED),
        (7, "0.02", PaymentState.CONFIRMED),
    ],
)
async def test_what_a_rail_says_was_taken_is_posted_when_it_makes_sense(
    counter: Counter, stated: object, spent: str, state: PaymentState
) -> None:
    hold = await counter.purse().hold(request())
    row = await counter.cashier.holds.by_payment(hold.id)
    assert row is not None
    evidence = {"transaction": "t", "settled_amount": stated}
    taken = hold.payment.model_copy(update={"state": PaymentState.CONFIRMED, "evidence": evidence})
    ended = await counter.cashier.conclude(row, taken)
    assert (ended.state, ended.open) == (state, False)
    assert (await counter.spent(), await counter.pending()) == (spent, 0)


steps = st.lists(
    st.sampled_from(["hold", "release", "refund", "lookup", "collect", "down", "up", "restart", "second"]), max_size=14
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mode=st.sampled_from([PayMode.AUTHORIZE, PayMode.HOLD]), path=steps, reserve_first=st.booleans())
async def test_every_path_ends_in_exactly_one_of_paid_and_refunded(
    counter: Counter, mode: PayMode, path: list[str], reserve_first: bool
) -> None:
    number = next(_numbers)
    purse = counter.purse(number=number, maximum=usd("0.04"))
    before = (await counter.books.balance(SELLER, USDC)).posted
    if reserve_first:
        await purse.reserve()
    holds = {}
    for step in path:
        try:
            purse = await take(counter, purse, number, mode, step, holds)
        except NexusError:
            continue  # refused: the end below shows that nothing went wrong by it
    counter.rail.down = False
    for hold in holds.values():
        await purse.refund(hold, "the end")
    for row in await purse.rows():
        assert not (await counter.cashier.cancel(row, "the end")).open
    await purse.close()

    rows = await purse.rows()
    collected = [row for row in rows if counter.network.states.get(row.key) == "collected"]
    assert [row for row in rows if row.paid] == collected
    assert all(row.state is PaymentState.REFUNDED or row.paid or row.payment is None for row in rows)
    assert (await counter.books.balance(SELLER, USDC)).posted - before == usd("0.02") * len(collected)
    assert await counter.pending() == 0


async def take(
    counter: Counter, purse: JobPurse, number: int, mode: PayMode, step: str, holds: dict[str, object]
) -> JobPurse:
    """One step of a random path; the purse to go on with."""
    match step:
        case "hold" | "second":
            binding = "b1" if step == "hold" else "b2"
            hold = await purse.hold(request(mode=mode, binding=binding))
            holds[binding] = hold
        case "release" | "refund" | "lookup":
            for held in list(holds.values()):
                if step == "release":
                    await purse.release(held, {})  # type: ignore[arg-type]
                elif step == "refund":
                    await purse.refund(held, "why not")  # type: ignore[arg-type]
                else:
                    await purse.lookup(held.payment)  # type: ignore[attr-defined]
        case "collect":
            for held in holds.values():
                before = "authorized" if mode is PayMode.HOLD else None
                await counter.network.move(held.id, before, "collected")  # type: ignore[attr-defined]
        case "down" | "up":
            counter.rail.down = step == "down"
        case _:
            return counter.purse(number=number, maximum=usd("0.04"))
    return purse
