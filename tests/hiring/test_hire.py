"""Hiring end to end over a real ledger: paid once, refunded when it fails, the next seller when there is one."""

from __future__ import annotations

import asyncio
import math

import pytest

from agentnexus.core.errors import (
    AgentRefused,
    AgentTimeout,
    BadResult,
    BudgetExceeded,
    Conflict,
    InsufficientFunds,
    InvalidInput,
    NoOffer,
    PaidUndelivered,
    PaymentFailed,
    PaymentUnknown,
    SellerFailed,
)
from agentnexus.core.events import Event, EventName
from agentnexus.core.money import Money
from agentnexus.core.offers import Constraints, Need, Strategy
from agentnexus.core.payments import Limits, PaymentState, PayMode, ReceiptStatus
from agentnexus.core.updates import Held, Log, Progress, Update
from agentnexus.hiring.receipts import verify_receipt
from agentnexus.hiring.testing import Script
from agentnexus.platform.database import Database
from agentnexus.platform.outbox import OutboxReader
from tests.hiring.support import EURC, NEED, USDC, Economy, known, make_offer, seller_key, usd


def failing(given: object) -> object:
    raise SellerFailed("out of paper", next_step="choose another seller")


def refusing(given: object) -> object:
    raise AgentRefused("the file is encrypted", next_step="remove the password")


async def test_a_hire_pays_the_seller_once_and_gives_a_receipt_that_a_stranger_can_check(economy: Economy) -> None:
    hired = await economy.hire()

    assert hired.output == {"echo": {"text": "hello"}}
    assert hired.receipt.status is ReceiptStatus.SETTLED
    report = verify_receipt(hired.receipt.model_dump_json(), need=NEED, output=hired.output)
    assert report.valid, report.failures
    assert await economy.paid() == "0.02"
    await economy.assert_sound()


async def test_the_receipt_names_the_transaction_network_asset_and_both_parties(economy: Economy) -> None:
    hired = await economy.hire()
    (payment,) = hired.receipt.payments
    assert (payment.state, payment.amount, payment.asset) == (PaymentState.CONFIRMED, "20000", USDC.caip19)
    assert payment.network == "eip155:31337"
    assert payment.payee == seller_key(1)
    assert payment.transaction.startswith("tx:")


async def test_the_same_key_gives_the_stored_answer_without_asking_the_seller_again(economy: Economy) -> None:
    first = await economy.hire()
    again = await economy.hire()
    assert (again.output, again.receipt, again.resumed) == (first.output, first.receipt, True)
    assert economy.market.asked == [seller_key(1)]
    assert await economy.paid() == "0.02"


async def test_two_calls_with_one_key_at_the_same_time_are_one_hire(economy: Economy) -> None:
    answers = await asyncio.gather(*(economy.hire() for _ in range(8)))
    assert len({answer.receipt.id for answer in answers}) == 1
    assert economy.market.asked == [seller_key(1)]
    await economy.assert_sound()


async def test_many_hires_at_once_each_pay_once(economy: Economy) -> None:
    await asyncio.gather(*(economy.hire(key=f"many-{number}") for number in range(30)))
    assert await economy.paid() == "0.6"
    await economy.assert_sound()


async def test_a_key_used_for_another_need_is_a_conflict(economy: Economy) -> None:
    await economy.hire()
    with pytest.raises(Conflict, match="another hire"):
        await economy.hire(Need(capability="text.echo", input={"text": "something else"}))


@pytest.mark.parametrize("key", ["", "a\nb", "x" * 201])
async def test_a_key_that_cannot_be_kept_is_refused(economy: Economy, key: str) -> None:
    with pytest.raises(InvalidInput, match="key"):
        await economy.hire(key=key)


@pytest.mark.parametrize("value", ["\ud800", 2**60, math.inf, object()])
async def test_an_input_that_json_cannot_carry_is_refused_before_anybody_is_asked(
    economy: Economy, value: object
) -> None:
    with pytest.raises(InvalidInput):
        await economy.hire(Need(capability="text.echo", input={"text": value}))
    assert economy.market.asked == []


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ('{"error": {"code": "agent_refused", "message": "a scan", "next_step": "use OCR"}}', AgentRefused, "a scan"),
        ('{"error": {"code": "invalid_input", "message": "no file", "next_step": "add it"}}', InvalidInput, "no file"),
        ('{"detail": "some other dialect"}', AgentRefused, "answered 422"),
        ("<html>", AgentRefused, "answered 422"),
        ('{"error": {"code": "payment_failed", "message": "x"}}', SellerFailed, "answered 422"),
        ('{"error": {"code": ["list"], "message": "x"}}', AgentRefused, "answered 422"),
    ],
)
async def test_a_sellers_own_words_about_the_input_reach_the_buyer(
    database: Database, answer: str, error: type[Exception], words: str
) -> None:
    def answered(given: object) -> object:
        raise SellerFailed("seller answered 422", status=422, answer=answer)

    economy = await Economy.build(database, scripts={seller_key(1): Script(output=answered)})
    with pytest.raises(error, match=words):
        await economy.hire()
    await economy.assert_sound()
    await economy.close()


async def test_progress_and_logs_reach_the_caller_as_they_come(economy: Economy) -> None:
    seen: list[Update] = []
    await economy.hire(on_update=seen.append)
    said, held = [update for update in seen if not isinstance(update, Held)], seen[1]
    assert said == [Progress(0.0, "asked"), Log("answered")]
    assert isinstance(held, Held)


async def test_money_that_is_set_aside_is_told_by_the_name_that_the_receipt_has(economy: Economy) -> None:
    seen: list[Update] = []
    hired = await economy.hire(on_update=seen.append)
    (held,) = [update.payment for update in seen if isinstance(update, Held)]
    (payment,) = hired.receipt.payments  # type: ignore[attr-defined]  # a Hired
    assert held.authorization == payment.authorization != ""
    assert (held.state, held.amount, held.payee) == (PaymentState.HELD, payment.amount, payment.payee)


async def test_an_async_listener_is_awaited(economy: Economy) -> None:
    seen: list[Update] = []

    async def listen(update: Update) -> None:
        await asyncio.sleep(0)
        seen.append(update)

    await economy.hire(on_update=listen)
    assert len(seen) == 3


async def test_a_listener_that_breaks_is_the_callers_error_and_the_hire_can_go_on(economy: Economy) -> None:
    def broken(update: Update) -> None:
        if isinstance(update, Log):
            raise ZeroDivisionError("the page is gone")

    with pytest.raises(ZeroDivisionError):
        await economy.hire(on_update=broken)
    hired = await economy.hire()
    assert hired.resumed
    assert await economy.paid() == "0.02"
    await economy.assert_sound()


async def test_a_seller_that_asks_for_patience_is_left_alone_and_not_blamed(database: Database) -> None:
    def busy(_given: object) -> dict[str, object]:
        raise SellerFailed("too many jobs", retry_after_seconds=30.0)

    cheap, dear = make_offer(1, price="0.01"), make_offer(2, price="0.03")
    economy = await Economy.build(database, offers=[cheap, dear], scripts={seller_key(1): Script(output=busy)})
    await economy.hire(Need(capability="text.echo", input={"text": "x"}, strategy=Strategy.PRICE))

    load = economy.hiring.chooser.loads.of(seller_key(1), "text.echo")
    assert load.errors_in_a_row == 0
    assert not load.available(load.busy_until - 0.001)
    assert load.available(load.busy_until)
    assert load.in_flight == 0
    await economy.close()


async def test_a_failing_seller_is_refunded_before_the_next_one_is_paid(database: Database) -> None:
    cheap, dear = make_offer(1, price="0.01"), make_offer(2, price="0.03")
    economy = await Economy.build(database, offers=[cheap, dear], scripts={seller_key(1): Script(output=failing)})
    hired = await economy.hire(Need(capability="text.echo", input={"text": "x"}, strategy=Strategy.PRICE))

    assert economy.market.asked == [seller_key(1), seller_key(2)]
    failed, settled = hired.receipts
    assert (failed.status, settled.status) == (ReceiptStatus.REFUNDED, ReceiptStatus.SETTLED)
    assert failed.payments[0].refund_transaction.startswith("cancel:")
    assert all(verify_receipt(receipt.model_dump_json()).valid for receipt in hired.receipts)
    assert (await economy.paid(1), await economy.paid(2)) == ("0", "0.03")
    await economy.assert_sound()
    await economy.close()


async def test_when_everybody_fails_the_last_error_comes_with_every_attempt_and_nothing_is_paid(
    database: Database,
) -> None:
    offers = [make_offer(number) for number in (1, 2, 3)]
    scripts = {seller_key(number): Script(output=failing) for number in (1, 2, 3)}
    economy = await Economy.build(database, offers=offers, scripts=scripts)
    with pytest.raises(SellerFailed, match="out of paper") as caught:
        await economy.hire()
    attempts = caught.value.details["attempts"]
    assert isinstance(attempts, list)
    assert [attempt["state"] for attempt in attempts] == ["refunded"] * 3
    assert len(await economy.hiring.receipts("k1")) == 3
    await economy.assert_sound()
    await economy.close()


async def test_a_failed_hire_gives_the_same_error_again_without_asking_anybody(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(output=failing)})
    with pytest.raises(SellerFailed):
        await economy.hire()
    asked = list(economy.market.asked)
    with pytest.raises(SellerFailed, match="out of paper") as caught:
        await economy.hire()
    assert caught.value.next_step == "choose another seller"
    assert economy.market.asked == asked
    await economy.close()


async def test_fallback_zero_tries_one_seller_only(database: Database) -> None:
    offers = [make_offer(1), make_offer(2)]
    scripts = {seller_key(number): Script(output=failing) for number in (1, 2)}
    economy = await Economy.build(database, offers=offers, scripts=scripts)
    with pytest.raises(SellerFailed):
        await economy.hire(fallback=0)
    assert len(economy.market.asked) == 1
    await economy.close()


async def test_the_same_seller_is_never_asked_twice_in_a_row_even_with_two_offers(database: Database) -> None:
    offers = [make_offer(1), make_offer(1, id="scripted:1:second", endpoint="https://seller1.example/other")]
    economy = await Economy.build(database, offers=offers, scripts={seller_key(1): Script(output=failing)})
    with pytest.raises(SellerFailed):
        await economy.hire()
    assert economy.market.asked == [seller_key(1)]
    await economy.close()


async def test_a_hire_of_one_offer_takes_no_better_one_and_no_other_of_its_seller(database: Database) -> None:
    wanted = make_offer(1, id="scripted:1:second", endpoint="https://seller1.example/other", price="0.05")
    economy = await Economy.build(database, offers=[make_offer(2, price="0.01"), make_offer(1, price="0.01"), wanted])
    hired = await economy.hire(only=wanted.endpoint)
    assert (hired.receipt.offer.id, hired.receipt.offer.seller.key) == (wanted.id, seller_key(1))
    assert economy.market.asked == [seller_key(1)]
    with pytest.raises(NoOffer) as nobody:
        await economy.hire(key="gone", only="https://seller1.example/gone")
    assert "not at https://seller1.example/gone" in str(nobody.value.to_json())
    assert economy.market.asked == [seller_key(1)]
    await economy.close()


async def test_the_one_offer_that_failed_is_not_replaced_by_another(database: Database) -> None:
    scripts = {seller_key(1): Script(output=failing)}
    economy = await Economy.build(database, offers=[make_offer(1), make_offer(2)], scripts=scripts)
    with pytest.raises(SellerFailed):
        await economy.hire(only=make_offer(1).endpoint)
    assert economy.market.asked == [seller_key(1)]
    await economy.close()


async def test_a_refused_input_names_what_to_do_and_does_not_count_against_the_seller(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(output=refusing)})
    with pytest.raises(AgentRefused, match="encrypted") as caught:
        await economy.hire()
    assert caught.value.next_step == "remove the password"
    assert (await economy.hiring.records.record(seller_key(1))).jobs == 0
    await economy.assert_sound()
    await economy.close()


async def test_a_market_that_breaks_in_its_own_code_costs_nothing(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(crashes=True)})
    with pytest.raises(SellerFailed, match="KeyError"):
        await economy.hire()
    await economy.assert_sound()
    await economy.close()


async def test_a_result_that_breaks_the_sellers_own_schema_is_not_accepted(database: Database) -> None:
    economy = await Economy.build(
        database, scripts={seller_key(1): Script(output=lambda given: {"other": 1}, collects=False)}
    )
    with pytest.raises(BadResult, match="own schema"):
        await economy.hire()
    (receipt,) = await economy.hiring.receipts("k1")
    assert receipt.status is ReceiptStatus.REFUNDED
    assert (await economy.hiring.records.record(seller_key(1))).schema_invalid == 1
    await economy.assert_sound()
    await economy.close()


async def test_a_bad_result_that_was_already_paid_for_is_shown_as_failed_and_paid(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(output=lambda given: {"other": 1})})
    with pytest.raises(BadResult):
        await economy.hire()
    (receipt,) = await economy.hiring.receipts("k1")
    assert (receipt.status, receipt.payments[0].state) == (ReceiptStatus.FAILED, PaymentState.CONFIRMED)
    assert verify_receipt(receipt.model_dump_json()).valid
    await economy.assert_sound()
    await economy.close()


@pytest.mark.parametrize(
    "output",
    [
        {"echo": {"n": math.nan}},
        {"echo": {"n": 2**60}},
        {"echo": {"s": "\ud800"}},
        {"echo": {"o": object()}},
        {1: "not a text key"},
    ],
    ids=["nan", "huge integer", "lone surrogate", "object", "number as key"],
)
async def test_a_result_that_json_cannot_carry_is_a_bad_result(database: Database, output: object) -> None:
    economy = await Economy.build(
        database, scripts={seller_key(1): Script(output=lambda given: output, collects=False)}
    )
    with pytest.raises(BadResult):
        await economy.hire()
    await economy.assert_sound()
    await economy.close()


async def test_a_result_with_nul_characters_is_kept_and_given_back_unchanged(database: Database) -> None:
    economy = await Economy.build(
        database, scripts={seller_key(1): Script(output=lambda given: {"echo": {"text": "a\x00b"}})}
    )
    first = await economy.hire()
    again = await economy.hire()
    assert first.output == again.output == {"echo": {"text": "a\x00b"}}
    await economy.close()


async def test_an_error_text_with_nul_characters_is_kept(database: Database) -> None:
    def nasty(given: object) -> object:
        raise SellerFailed("bad\x00\n\x1b[31m seller")

    economy = await Economy.build(database, scripts={seller_key(1): Script(output=nasty)})
    for _ in range(2):
        with pytest.raises(SellerFailed, match="bad"):
            await economy.hire()
    await economy.assert_sound()
    await economy.close()


async def test_a_lost_answer_is_asked_for_again_with_the_same_payment(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(loses_answers=2)})
    hired = await economy.hire()
    assert hired.output == {"echo": {"text": "hello"}}
    assert len(economy.market.asked) == 3
    assert await economy.paid() == "0.02"
    await economy.assert_sound()
    await economy.close()


async def test_a_seller_that_took_the_money_and_never_answers_is_shown_as_paid_and_failed(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(loses_answers=99)})
    with pytest.raises(SellerFailed, match="no answer"):
        await economy.hire()
    (receipt,) = await economy.hiring.receipts("k1")
    assert (receipt.status, receipt.payments[0].state) == (ReceiptStatus.FAILED, PaymentState.CONFIRMED)
    assert await economy.paid() == "0.02"
    await economy.assert_sound()
    await economy.close()


async def test_a_seller_killed_after_it_took_the_money_is_asked_again_with_the_same_payment(database: Database) -> None:
    """Its failure looks like any other; that the money is gone shows only when it is taken back."""
    offers = [make_offer(1, price="0.01"), make_offer(2, price="0.03")]
    economy = await Economy.build(database, offers=offers, scripts={seller_key(1): Script(breaks_off=2)})
    hired = await economy.hire(NEED.model_copy(update={"strategy": Strategy.PRICE}))
    assert hired.output == {"echo": {"text": "hello"}}
    assert economy.market.asked == [seller_key(1)] * 3
    assert (await economy.paid(1), await economy.paid(2)) == ("0.01", "0")
    await economy.assert_sound()
    await economy.close()


async def test_a_seller_that_has_the_money_is_asked_for_longer_than_one_that_has_not(database: Database) -> None:
    scripts = {seller_key(1): Script(breaks_off=4)}
    economy = await Economy.build(database, scripts=scripts, paid_patience_seconds=60)
    hired = await economy.hire()
    assert len(economy.market.asked) == 5
    assert len(hired.receipts) == 1
    assert await economy.paid() == "0.02"
    await economy.assert_sound()
    await economy.close()


async def test_money_paid_in_vain_makes_the_failure_final(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(breaks_off=99)})
    with pytest.raises(PaidUndelivered, match="does not answer") as caught:
        await economy.hire()
    assert not caught.value.retryable
    assert "new key" in caught.value.next_step
    with pytest.raises(PaidUndelivered):
        await economy.hire()  # and stays so
    assert await economy.paid() == "0.02"
    await economy.assert_sound()
    await economy.close()


async def test_a_seller_that_never_took_the_money_and_never_answers_can_not_take_it_later(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(loses_answers=99, collects=False)})
    with pytest.raises(SellerFailed):
        await economy.hire()
    (receipt,) = await economy.hiring.receipts("k1")
    assert receipt.status is ReceiptStatus.REFUNDED
    key = receipt.payments[0].refund_transaction.removeprefix("cancel:")
    assert not await economy.rail.network.move(key, None, "collected")
    await economy.assert_sound()
    await economy.close()


async def test_while_a_payments_end_is_unknown_nobody_else_is_paid(database: Database) -> None:
    offers = [make_offer(1, price="0.01"), make_offer(2, price="0.03")]
    economy = await Economy.build(database, offers=offers, scripts={seller_key(1): Script(loses_answers=99)})

    def go_down(update: Update) -> None:
        economy.rail.down = True

    need = Need(capability="text.echo", input={"text": "x"}, strategy=Strategy.PRICE)
    with pytest.raises(PaymentUnknown) as caught:
        await economy.hire(need, on_update=go_down)
    assert "wait" in caught.value.next_step
    with pytest.raises(PaymentUnknown):
        await economy.hire(need)
    assert set(economy.market.asked) == {seller_key(1)}

    economy.rail.down = False
    hired = await economy.hire(need)
    assert hired.receipt.offer.seller.key == seller_key(2)
    assert (await economy.paid(1), await economy.paid(2)) == ("0.01", "0.03")
    await economy.assert_sound()
    await economy.close()


async def test_a_result_is_kept_while_the_network_is_down_and_given_when_its_payment_is_known(
    database: Database,
) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(mode=PayMode.HOLD)})

    def go_down(update: Update) -> None:
        economy.rail.down = isinstance(update, Log)

    with pytest.raises(PaymentUnknown):
        await economy.hire(on_update=go_down)
    economy.rail.down = False
    hired = await economy.hire()
    assert (hired.output, hired.resumed) == ({"echo": {"text": "hello"}}, True)
    assert economy.market.asked == [seller_key(1)]
    assert await economy.paid() == "0.02"
    await economy.assert_sound()
    await economy.close()


async def test_every_end_of_a_payment_is_an_event(database: Database) -> None:
    economy = await Economy.build(
        database,
        offers=[make_offer(1, price="0.01"), make_offer(2, price="0.03")],
        scripts={seller_key(1): Script(output=failing)},
    )
    await economy.hire(Need(capability="text.echo", input={"text": "x"}, strategy=Strategy.PRICE))
    events: list[Event] = []

    async def keep(event: Event) -> None:
        events.append(event)

    await OutboxReader(database, "test").drain(keep)
    assert [event.name for event in events] == [EventName.PAYMENT_REFUNDED, EventName.PAYMENT_SETTLED]
    assert [event.data["payee"] for event in events] == [seller_key(1), seller_key(2)]
    await economy.close()


async def test_an_escrow_is_released_after_the_check_and_not_before(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(mode=PayMode.HOLD)})
    hired = await economy.hire()
    assert hired.receipt.payments[0].state is PaymentState.CONFIRMED
    assert economy.checkpoints.index("delivered") < economy.checkpoints.index("settled-on-rail")
    await economy.assert_sound()
    await economy.close()


async def test_an_escrow_for_a_bad_result_goes_back_to_the_buyer(database: Database) -> None:
    script = Script(mode=PayMode.HOLD, output=lambda given: "not what was promised")
    economy = await Economy.build(database, scripts={seller_key(1): script})
    with pytest.raises(BadResult):
        await economy.hire()
    assert await economy.paid() == "0"
    await economy.assert_sound()
    await economy.close()


async def test_a_direct_payment_is_sent_once(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(mode=PayMode.PAY)})
    hired = await economy.hire()
    assert hired.receipt.payments[0].state is PaymentState.CONFIRMED
    await economy.assert_sound()
    await economy.close()


async def test_a_direct_payment_whose_answer_was_lost_is_looked_up_and_not_sent_again(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(mode=PayMode.PAY)})
    economy.rail.lose_answers = True
    hired = await economy.hire()
    assert hired.output == {"echo": {"text": "hello"}}
    assert await economy.paid() == "0.02"
    await economy.assert_sound()
    await economy.close()


async def test_a_free_job_moves_no_money(database: Database) -> None:
    economy = await Economy.build(database, offers=[make_offer(1, price="0")])
    hired = await economy.hire()
    assert (hired.receipt.status, hired.receipt.payments) == (ReceiptStatus.SETTLED, ())
    assert verify_receipt(hired.receipt.model_dump_json()).valid
    await economy.assert_sound()
    await economy.close()


@pytest.mark.parametrize("asks", [usd("0.03"), Money(USDC, -5), Money(USDC, 0), EURC.parse("0.01")])
async def test_a_seller_that_asks_for_something_else_than_its_quote_gets_nothing(
    database: Database, asks: Money
) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(asks=asks)})
    with pytest.raises(PaymentFailed):
        await economy.hire()
    assert await economy.collected() == 0
    await economy.assert_sound()
    await economy.close()


async def test_a_seller_that_asks_for_less_than_its_quote_gets_less(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(asks=usd("0.015"))})
    await economy.hire()
    assert await economy.paid() == "0.015"
    await economy.assert_sound()
    await economy.close()


async def test_a_budget_that_is_too_small_says_so_before_any_seller_is_asked(database: Database) -> None:
    economy = await Economy.build(database, limits=Limits(per_payment=usd("0.01")))
    with pytest.raises(BudgetExceeded) as caught:
        await economy.hire()
    assert caught.value.details["limit"] == "per_payment"
    assert economy.market.asked == []
    await economy.assert_sound()
    await economy.close()


async def test_a_hire_that_the_budget_refused_is_not_remembered_as_failed(database: Database) -> None:
    economy = await Economy.build(database, limits=Limits(total=usd("0.01")))
    with pytest.raises(BudgetExceeded):
        await economy.hire()
    await economy.books.budgets.create("larger", owner="u1", asset=USDC, limits=Limits(total=usd("1")))
    with pytest.raises(BudgetExceeded):
        await economy.hire()
    hired = await economy.hire(key="k2", budget_id="larger")
    assert hired.receipt.status is ReceiptStatus.SETTLED
    await economy.close()


async def test_a_cheaper_offer_is_taken_when_the_budget_has_too_little_for_the_better_one(database: Database) -> None:
    offers = [make_offer(1, price="0.30", reputation=known(5)), make_offer(2, price="0.05", reputation=known(1))]
    economy = await Economy.build(database, offers=offers, limits=Limits(per_payment=usd("0.1")))
    hired = await economy.hire(Need(capability="text.echo", input={"a": "b"}, strategy=Strategy.REPUTATION))
    assert hired.receipt.offer.seller.key == seller_key(2)
    await economy.assert_sound()
    await economy.close()


async def test_an_empty_wallet_says_so_before_any_seller_is_asked(database: Database) -> None:
    economy = await Economy.build(database, offers=[make_offer(1, price="200")], limits=Limits())
    with pytest.raises(InsufficientFunds):
        await economy.hire()
    assert economy.market.asked == []
    await economy.close()


async def test_a_budget_is_never_passed_by_many_hires_at_once(database: Database) -> None:
    economy = await Economy.build(database, limits=Limits(total=usd("0.1")))
    results = await asyncio.gather(*(economy.hire(key=f"h{number}") for number in range(20)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BudgetExceeded)]
    assert len(refused) == 15
    assert await economy.paid() == "0.1"
    await economy.assert_sound()
    await economy.close()


async def test_nobody_sells_it_names_what_to_do(economy: Economy) -> None:
    with pytest.raises(NoOffer, match=r"nobody sells moon\.landing") as caught:
        await economy.hire(Need(capability="moon.landing"))
    assert caught.value.next_step
    assert caught.value.details["considered"] == 0


async def test_no_offer_within_the_constraints_lists_near_misses_and_what_to_change(economy: Economy) -> None:
    need = Need(capability="text.echo", input={"a": "b"}, constraints=Constraints(max_price=usd("0.001")))
    with pytest.raises(NoOffer) as caught:
        await economy.hire(need)
    assert "raise the price limit" in caught.value.next_step
    (miss,) = caught.value.details["near_misses"]  # type: ignore[misc]
    assert (miss["rule"], miss["seller"]) == ("price", "seller 1")


async def test_an_unreachable_market_is_named_when_nothing_was_found(economy: Economy) -> None:
    economy.market.broken = SellerFailed("registry down")
    with pytest.raises(NoOffer) as caught:
        await economy.hire()
    assert "scripted" in caught.value.next_step


async def test_a_seller_that_is_too_slow_is_refunded_and_the_hire_ends_in_time(database: Database) -> None:
    economy = await Economy.build(database)
    never = asyncio.Event()

    async def stuck(update: Update) -> None:
        if isinstance(update, Log):
            await never.wait()

    with pytest.raises(AgentTimeout, match="in time"):
        await economy.hire(deadline_seconds=0.3, on_update=stuck)
    await economy.assert_sound()
    await economy.close()


async def test_a_cancelled_task_leaves_a_hire_that_can_be_ended_with_its_money_back(database: Database) -> None:
    economy = await Economy.build(database, scripts={seller_key(1): Script(mode=PayMode.HOLD)})
    reached = asyncio.Event()

    async def stuck(update: Update) -> None:
        if isinstance(update, Log):
            reached.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(economy.hire(on_update=stuck))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (receipt,) = await economy.hiring.cancel("k1")
    assert receipt.status is ReceiptStatus.REFUNDED
    assert await economy.paid() == "0"
    with pytest.raises(SellerFailed, match="cancelled by the buyer"):
        await economy.hire()
    await economy.assert_sound()
    await economy.close()


async def test_cancelling_a_finished_or_unknown_hire_changes_nothing(economy: Economy) -> None:
    assert await economy.hiring.cancel("never seen") == []
    hired = await economy.hire()
    assert await economy.hiring.cancel("k1") == [hired.receipt]
    assert await economy.paid() == "0.02"


async def test_a_preferred_seller_is_taken_when_it_serves(database: Database) -> None:
    offers = [make_offer(1, price="0.01"), make_offer(2, price="0.04")]
    economy = await Economy.build(database, offers=offers)
    hired = await economy.hire(prefer=[seller_key(2)])
    assert hired.receipt.offer.seller.key == seller_key(2)
    await economy.close()


async def test_a_blocked_seller_is_never_taken(database: Database) -> None:
    economy = await Economy.build(database)
    await economy.hiring.records.prefer("u1", seller_key(1), "blocked")
    with pytest.raises(NoOffer):
        await economy.hire()
    await economy.hiring.records.prefer("u1", seller_key(1), None)
    assert (await economy.hire()).receipt.status is ReceiptStatus.SETTLED
    await economy.close()


async def test_a_receipt_is_found_by_its_id_and_listed_for_its_user_only(economy: Economy) -> None:
    hired = await economy.hire()
    assert await economy.hiring.receipt(hired.receipt.id) == hired.receipt
    assert await economy.hiring.receipts_of("u1") == [hired.receipt]
    assert await economy.hiring.receipts_of("u2") == []


async def test_a_free_text_need_finds_its_capability(database: Database) -> None:
    offers = [make_offer(1, capability="text.summarize"), make_offer(2, capability="image.paint")]
    economy = await Economy.build(database, offers=offers)
    hired = await economy.hire(Need(text="summarise this text", input={"text": "x"}))
    assert hired.receipt.offer.capability.name == "text.summarize"
    await economy.close()
