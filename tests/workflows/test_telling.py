"""What is told of a step: every phase, every payment, what was kept and what came back; progress not too often."""

from __future__ import annotations

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import SellerFailed
from agentnexus.core.events import EventName
from agentnexus.core.payments import PaymentState, Receipt, ReceiptStatus
from agentnexus.core.updates import Log, Partial, Progress
from agentnexus.workflows.engine.port import Draft, Phase, Transition
from agentnexus.workflows.model import PlanStep, StepOffer, StepStatus
from agentnexus.workflows.telling import PROGRESS_SECONDS, Reporter, Teller, money_of, payment_drafts, step_attribute

from .catalogue import USDC, agent_offers
from .scripted import receipt_of

OFFER = agent_offers()[0]
STEP = PlanStep(id="s1", title="Read", capability=OFFER.capability.name, offer=StepOffer.of(OFFER))
ZERO = USDC.zero()
RESERVED, SETTLED, REFUNDED = EventName.PAYMENT_RESERVED, EventName.PAYMENT_SETTLED, EventName.PAYMENT_REFUNDED


def receipt(state: PaymentState, key: str = "k") -> Receipt:
    status = ReceiptStatus.SETTLED if state is PaymentState.CONFIRMED else ReceiptStatus.FAILED
    return receipt_of(OFFER, key, status, state)


@pytest.mark.parametrize("state", PaymentState)
def test_every_payment_is_told_as_reserved_and_then_as_it_ended(state: PaymentState) -> None:
    found = money_of([receipt(state)], ZERO)
    told = [draft.name for draft in payment_drafts(STEP, found)]
    paid = state in (PaymentState.CONFIRMED, PaymentState.RELEASED)
    returned = state in (PaymentState.REFUNDED, PaymentState.FAILED)
    assert told == [RESERVED, *([SETTLED] if paid else []), *([REFUNDED] if returned else [])]
    assert found["paid"] == (str(OFFER.price.maximum.atomic) if paid else "0")


def test_a_reservation_does_not_tell_how_it_will_end() -> None:
    reserved, settled = payment_drafts(STEP, money_of([receipt(PaymentState.CONFIRMED)], ZERO))
    assert "state" not in reserved.data
    assert settled.data["state"] == "confirmed"
    assert {reserved.data["step"], settled.data["step"]} == {"s1"}


@pytest.mark.parametrize("found", [None, 5, "x", [], {}, {"receipts": None}, {"receipts": []}])
def test_without_receipts_there_is_nothing_to_tell(found: object) -> None:
    assert payment_drafts(STEP, found) == []


def test_several_attempts_add_up() -> None:
    found = money_of([receipt(PaymentState.CONFIRMED, "a"), receipt(PaymentState.CONFIRMED, "b")], ZERO)
    assert found["paid"] == str(2 * OFFER.price.maximum.atomic)
    assert money_of([], ZERO) == {"receipts": [], "paid": "0"}


def test_what_is_not_known_of_a_step_is_left_out() -> None:
    assert step_attribute(StepStatus.RUNNING, attempts=1, error=None, progress=0.0) == {
        "status": "running", "attempts": 1, "progress": 0.0,
    }  # fmt: skip


class Ears:
    """A step context that only listens."""

    run_id, key, attempt, idempotency_key = "wf_1", "s1", 2, "k"

    def __init__(self) -> None:
        self.heard: list[Draft] = []

    def emit(self, draft: Draft) -> None:
        self.heard.append(draft)


@pytest.fixture
def ears() -> Ears:
    return Ears()


class Marks:
    """A run of which only marks are kept."""

    def __init__(self) -> None:
        self.made: dict[str, Draft] = {}

    async def mark(self, key: str, *drafts: Draft) -> None:
        (self.made[key],) = drafts

    def recorded(self, key: str) -> object:
        return self.made.get(key)


@pytest.fixture
def marks() -> Marks:
    return Marks()


@pytest.fixture
def reporter(ears: Ears, clock: ManualClock, marks: Marks) -> Reporter:
    return Reporter(STEP, ears, clock, ZERO, marks)  # type: ignore[arg-type]  # no more of a run is used


def test_progress_is_told_at_most_so_often_and_the_first_at_once(
    reporter: Reporter, ears: Ears, clock: ManualClock
) -> None:
    reporter.tell(Progress(0.1, "one"))
    reporter.tell(Progress(0.2, "two"))
    clock.advance(PROGRESS_SECONDS - 0.001)
    reporter.tell(Progress(0.3, "three"))
    clock.advance(0.001)
    reporter.tell(Progress(0.4, "four"))
    assert [draft.data["message"] for draft in ears.heard] == ["one", "four"]


def test_words_are_always_told_and_parts_of_answers_never(reporter: Reporter, ears: Ears) -> None:
    for number in range(3):
        reporter.tell(Log(f"line {number}"))
    reporter.tell(Partial({"token": "x"}))
    assert [draft.data["message"] for draft in ears.heard] == ["line 0", "line 1", "line 2"]
    assert all(draft.attributes == {} for draft in ears.heard)


def test_long_words_of_sellers_are_cut_and_progress_is_kept_short(reporter: Reporter, ears: Ears) -> None:
    reporter.tell(Progress(1 / 3, "x" * 5000))
    (draft,) = ears.heard
    assert (len(str(draft.data["message"])), draft.data["progress"]) == (500, 0.333)
    assert draft.attributes["step:s1"] == step_attribute(
        StepStatus.RUNNING, attempts=2, progress=0.333, message="x" * 500
    )


@pytest.mark.parametrize(("state", "kept"), [(PaymentState.CONFIRMED, True), (PaymentState.REFUNDED, False)])
def test_of_a_failed_attempt_what_stayed_with_the_seller_counts(
    reporter: Reporter, ears: Ears, state: PaymentState, kept: bool
) -> None:
    reporter.money([receipt(state)])
    spent = [draft.attributes for draft in ears.heard if draft.attributes]
    assert spent == ([{"paid:s1:2": str(OFFER.price.maximum.atomic)}] if kept else [])


def transition(phase: Phase, **more: object) -> Transition:
    return Transition(key="s1", phase=phase, attempt=2, **more)  # type: ignore[arg-type]


def test_each_phase_is_told_in_its_own_event() -> None:
    teller, error = Teller(STEP), SellerFailed("it broke", next_step="wait")
    (started,) = teller.narrate(transition(Phase.STARTED))
    (retrying,) = teller.narrate(transition(Phase.RETRYING, error=error, retry_in_seconds=1.23456))
    (failed,) = teller.narrate(transition(Phase.FAILED, error=error, duration_ms=7))
    assert (started.name, retrying.name, failed.name) == (
        EventName.STEP_STARTED, EventName.STEP_RETRYING, EventName.STEP_FAILED,
    )  # fmt: skip
    assert started.data == {
        "step": "s1", "attempt": 2, "title": "Read", "capability": OFFER.capability.name, "seller": OFFER.seller.name,
    }  # fmt: skip
    assert retrying.data["retry_in_seconds"] == 1.235
    assert failed.data["error"] == error.to_json()
    assert failed.attributes == {
        "step:s1": step_attribute(StepStatus.FAILED, attempts=2, error=error.to_json(), duration_ms=7)
    }


def test_a_completed_step_names_its_receipt_seller_and_price() -> None:
    found = {**money_of([receipt(PaymentState.CONFIRMED)], ZERO), "blob": "sha256:" + "0" * 64}
    *payments, done = Teller(STEP).narrate(transition(Phase.COMPLETED, output=found, duration_ms=9))
    assert [draft.name for draft in payments] == [RESERVED, SETTLED]
    assert done.data["seller"] == OFFER.seller.key
    assert done.data["paid"] == done.attributes["paid:s1:2"] == str(OFFER.price.maximum.atomic)
    shown = done.attributes["step:s1"]
    assert isinstance(shown, dict)
    assert (shown["status"], shown["progress"], shown["output"]) == ("completed", 1.0, found["blob"])


@pytest.mark.parametrize(
    ("state", "ended", "how", "status"),
    [
        (PaymentState.REFUNDED, StepStatus.REFUNDED, "refunded", "refunded"),
        (PaymentState.CONFIRMED, StepStatus.REFUNDED, "kept", "failed"),
    ],
)
def test_giving_back_says_whether_the_money_came_back_or_was_kept_for_nothing(
    state: PaymentState, ended: StepStatus, how: str, status: str
) -> None:
    found = money_of([receipt(state)], ZERO)
    *_, last = Teller(STEP, ended, attempts=2).give_back(transition(Phase.COMPLETED, output=found))
    assert (last.name, last.data["how"]) == (EventName.STEP_COMPENSATED, how)
    shown = last.attributes["step:s1"]
    assert isinstance(shown, dict)
    assert shown["status"] == status
    assert last.attributes["paid:s1:1"] == "0", "the sum of all attempts stands at the last one"
    assert last.attributes["paid:s1:2"] == found["paid"]


def test_a_step_that_was_done_when_it_was_stopped_is_told_as_completed() -> None:
    found = {**money_of([receipt(PaymentState.CONFIRMED)], ZERO), "at": "2026-11-20T12:00:00+00:00", "blob": "sha256:1"}
    *_, last = Teller(STEP, StepStatus.REFUNDED, attempts=2).give_back(transition(Phase.COMPLETED, output=found))
    assert last.name is EventName.STEP_COMPLETED
    shown = last.attributes["step:s1"]
    assert isinstance(shown, dict)
    assert (shown["status"], shown["attempts"], shown["output"]) == ("completed", 2, "sha256:1")
    assert (last.attributes["paid:s1:1"], last.attributes["paid:s1:2"]) == ("0", found["paid"])


@pytest.mark.parametrize("done", [True, False])
def test_an_undo_that_failed_is_told_as_undone_only_when_it_was_done_all_the_same(done: bool) -> None:
    found = {**money_of([receipt(PaymentState.CONFIRMED)], ZERO), **({"at": "2026-11-20T12:00:00"} if done else {})}
    *_, last = Teller(STEP, attempts=2).undone_late(transition(Phase.COMPLETED, output=found))
    assert last.name is (EventName.STEP_COMPENSATED if done else EventName.STEP_PROGRESS)
    assert last.attributes["fate:s1"] == {"undo_attempts": 2, **({"status": "compensated"} if done else {})}
    assert last.attributes["paid:undo-s1:2"] == found["paid"]


def test_a_failed_step_that_kept_nothing_has_nothing_more_to_tell() -> None:
    nothing = money_of([receipt(PaymentState.REFUNDED)], ZERO)
    kept = money_of([receipt(PaymentState.CONFIRMED)], ZERO)
    teller = Teller(STEP, StepStatus.FAILED, attempts=1)
    assert teller.give_back(transition(Phase.COMPLETED, output=nothing)) == []
    (told,) = teller.give_back(transition(Phase.COMPLETED, output=kept))
    assert told.name is EventName.STEP_PROGRESS
    assert told.attributes == {"paid:s1:1": kept["paid"]}


@pytest.mark.parametrize("phase", [Phase.STARTED, Phase.RETRYING, Phase.FAILED])
def test_giving_back_and_undoing_are_told_only_when_done(phase: Phase) -> None:
    teller = Teller(STEP, StepStatus.REFUNDED, attempts=1)
    assert teller.give_back(transition(phase)) == []
    assert teller.undone(transition(phase)) == []
    assert teller.undone_late(transition(phase)) == []


def test_an_undone_step_is_told_after_what_its_undoing_cost() -> None:
    found = money_of([receipt(PaymentState.CONFIRMED)], ZERO)
    told = Teller(STEP).undone(transition(Phase.COMPLETED, output=found))
    assert [draft.name for draft in told] == [RESERVED, SETTLED, EventName.STEP_COMPENSATED]
    assert told[-1].data == {"step": "s1", "how": "undone", "paid": "20000"}
