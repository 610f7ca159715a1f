"""The pure rules at their edges: the clock's corners, the labels that counters go by, what is stored of limits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.book import Book
from agentnexus.ledger.limits import (
    Counter,
    Rejection,
    Scope,
    counted_in,
    day_label,
    decide,
    first_minute_counted,
    minute_label,
)
from agentnexus.ledger.model import (
    BudgetState,
    Ceilings,
    Reserve,
    Terms,
    TransferKind,
    ceilings,
    check_text,
    may_overdraw,
    to_utc,
)
from agentnexus.ledger.rows import CHANGED_AT, limits_json, limits_of
from tests.ledger.conftest import SELLER, USDC, WALLET, usdc

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
TERMS = Terms("b", WALLET, SELLER, usdc("1"), seller="s", capability="c", task="t", tick="7")


def node(**limits: str) -> BudgetState:
    amounts = {name: usdc(amount) for name, amount in limits.items()}
    return BudgetState("b", ("b",), "owner", USDC, ceilings(Limits(**amounts), USDC, None, None), NOON)


def test_labels_are_utc_and_sort_like_their_times() -> None:
    tokyo = datetime(2026, 11, 21, 8, 59, 59, 999999, tzinfo=timezone(timedelta(hours=9)))
    assert (minute_label(to_utc(tokyo)), day_label(to_utc(tokyo))) == ("2026-11-20T23:59", "2026-11-20")
    moments = [NOON + timedelta(minutes=17 * step) for step in range(200)]
    assert [minute_label(m) for m in moments] == sorted(minute_label(m) for m in moments)


def test_only_limited_counters_move() -> None:
    assert list(counted_in(Ceilings(total=5, per_payment=1, keep_back=1), TERMS, NOON)) == []
    everything = Ceilings(per_task=1, per_tick=1, per_seller=1, per_capability=1, per_hour=1, per_day=1)
    assert dict(counted_in(everything, TERMS, NOON)) == {
        Scope.TASK: "t",
        Scope.TICK: "7",
        Scope.SELLER: "s",
        Scope.CAPABILITY: "c",
        Scope.MINUTE: "2026-11-20T12:00",
        Scope.DAY: "2026-11-20",
    }


@pytest.mark.parametrize(
    ("spent_at", "now", "counts"),
    [
        (NOON, NOON, True),
        (NOON, NOON + timedelta(minutes=60, seconds=59), True),
        (NOON, NOON + timedelta(minutes=61), False),
        (NOON + timedelta(seconds=59), NOON + timedelta(minutes=60, seconds=59), True),
        (NOON + timedelta(minutes=2), NOON, True),  # this process's clock lags
    ],
)
def test_a_minute_counts_until_all_of_it_is_an_hour_old(spent_at: datetime, now: datetime, counts: bool) -> None:
    usage = {("b", Scope.MINUTE): {minute_label(spent_at): Counter(spent=usdc("1").atomic)}}
    assert (decide([node(per_hour="1")], usage, TERMS, 0, now) is not None) is counts
    assert (minute_label(spent_at) >= first_minute_counted(now)) is counts


def test_a_limit_of_zero_lets_nothing_through() -> None:
    for name in Limits.model_fields:
        if name != "keep_back":
            rejection = decide([node(**{name: "0"})], {}, TERMS, 10**9, NOON)
            assert rejection is not None
            assert (rejection.limit, rejection.left, rejection.frees_at) == (name, usdc("0"), None)


def test_the_last_day_of_a_year_frees_in_the_next() -> None:
    eve = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    usage = {("b", Scope.DAY): {"2026-12-31": Counter(reserved=usdc("1").atomic)}}
    rejection = decide([node(per_day="1")], usage, TERMS, 0, eve)
    assert rejection is not None
    assert rejection.frees_at == datetime(2027, 1, 1, tzinfo=UTC)


def test_what_is_left_is_never_shown_below_zero() -> None:
    over = node(total="1")
    over.spent = usdc("5").atomic
    rejection = decide([over], {}, TERMS, 0, NOON)
    assert rejection is not None
    assert rejection.left == usdc("0")


@pytest.mark.parametrize(
    ("limit", "frees_at", "advice"),
    [
        ("per_day", NOON, "try again at 2026-11-20T12:00:00Z"),
        ("total", None, "choose something cheaper or have the budget's owner raise it"),
        ("revoked", None, "ask the budget's owner for a new approval"),
        ("sellers", None, "choose one that the approval names"),
    ],
)
def test_every_refusal_says_what_to_do(limit: str, frees_at: datetime | None, advice: str) -> None:
    error = Rejection("b", limit, usdc("0.5"), usdc("1"), frees_at).to_error()
    assert error.next_step == advice
    assert error.details["left"] == "0.500000"
    assert error.message == f"1.00 USDC would pass the {limit} limit of budget b: 0.50 USDC left"


def test_limits_survive_being_stored() -> None:
    full = Ceilings(*range(1, 10), sellers=frozenset({"x", "y"}), capabilities=frozenset())
    stored = limits_json(full)
    assert stored["sellers"] == ["x", "y"]
    assert limits_of(stored) == full  # type: ignore[arg-type]  # as the database gives it back
    assert limits_of({**stored, CHANGED_AT: NOON.isoformat()}) == full  # type: ignore[dict-item]  # likewise
    assert limits_of({}) == Ceilings()


def test_a_part_of_a_ledger_opens_no_accounts() -> None:
    part = Book(whole=False)
    with pytest.raises(LookupError, match="locked"):
        part.apply(Reserve("k", Terms(None, WALLET, SELLER, usdc("1"))), NOON, lambda: "id")


def test_only_the_outside_world_may_owe() -> None:
    assert may_overdraw("external:eip155:1")
    assert not any(may_overdraw(name) for name in (WALLET, SELLER, "xexternal:", "fees:external:", ""))


def test_times_and_texts_are_checked() -> None:
    with pytest.raises(InvalidInput, match="zone"):
        to_utc(datetime(2026, 1, 1))
    assert check_text("", "memo") == ""
    assert check_text("x" * 300, "memo") == "x" * 300
    for bad in ("x" * 301, "\x00", "a\u2028b", "\ud800"):
        with pytest.raises(InvalidInput) as caught:
            check_text(bad, "memo")
        assert caught.value.details["field"] == "memo"


def test_terms_compare_by_everything_that_they_say() -> None:
    again = Terms("b", WALLET, SELLER, Money(USDC, 1_000_000), seller="s", capability="c", task="t", tick="7")
    assert again == TERMS
    assert {kind.value for kind in TransferKind} >= {"capture", "deposit", "withdrawal", "fee", "refund", "correction"}
