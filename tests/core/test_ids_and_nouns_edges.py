"""Ids by RFC 9562, clocks, and the nouns at their limits: what fits, what is refused, and what survives a journey."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from agentnexus.core.clock import ManualClock, SeededEntropy, SystemEntropy, TimeOrderedIds
from agentnexus.core.events import Event, EventName
from agentnexus.core.money import Asset, Money
from agentnexus.core.offers import Capability, Constraints, Job, JobState, Meter, Need, Offer, Party, Price, Reputation
from agentnexus.core.payments import Hold, Limits, Payment, PaymentRequest, PaymentState, PayMode

USDC = Asset("USDC", 6, "eip155:31337/erc20:0x5fbdb2315678afecb367f032d93f642f64180aa3")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SELLER = Party(ids={"evm": "0xAB"})


class FixedEntropy:
    """Gives the bytes it was made with."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def random_bytes(self, count: int) -> bytes:
        assert count == len(self._data)
        return self._data

    def uniform(self) -> float:
        return 0.5


def test_the_example_of_rfc_9562_comes_out() -> None:
    # Appendix A.6: 2022-02-22 14:22:22.00 in UTC-5, random parts 0xCC3 and 0x18C4DC0C0C07398F.
    at = datetime(2022, 2, 22, 14, 22, 22, tzinfo=timezone(timedelta(hours=-5)))
    entropy = FixedEntropy(bytes.fromhex("0cc318c4dc0c0c07398f"))
    assert TimeOrderedIds(ManualClock(at), entropy).new() == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 1, 1)), st.binary(min_size=10, max_size=10))
def test_every_id_is_of_version_7_and_holds_its_time(moment: datetime, random: bytes) -> None:
    at = moment.replace(tzinfo=UTC)
    identifier = uuid.UUID(TimeOrderedIds(ManualClock(at), FixedEntropy(random)).new())
    assert (identifier.version, identifier.variant) == (7, uuid.RFC_4122)
    assert abs((identifier.int >> 80) - at.timestamp() * 1000) <= 1


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=10), st.integers())
def test_ids_of_later_milliseconds_sort_later(steps: list[int], seed: int) -> None:
    clock = ManualClock(NOW)
    ids = TimeOrderedIds(clock, SeededEntropy(seed))
    made = []
    for step in steps:
        clock.advance(step)
        made.append(ids.new("x"))
    assert made == sorted(made)
    assert all(each.startswith("x_") and len(each) == 34 for each in made)


def test_ids_of_one_millisecond_are_all_different() -> None:
    ids = TimeOrderedIds(ManualClock(NOW), SystemEntropy())
    assert len({ids.new() for _ in range(500)}) == 500


@given(st.integers(), st.integers(0, 64))
def test_a_seed_is_a_stream(seed: int, count: int) -> None:
    one, other = SeededEntropy(seed), SeededEntropy(seed)
    assert [one.random_bytes(count), one.uniform()] == [other.random_bytes(count), other.uniform()]
    assert one.random_bytes(16) != one.random_bytes(16)


def test_a_clock_that_is_moved_moves_both_hands() -> None:
    clock = ManualClock(NOW)
    clock.advance(90)
    clock.advance(0)
    assert (clock.now(), clock.monotonic()) == (NOW + timedelta(seconds=90), 90)


@pytest.mark.parametrize(
    ("ids", "key"),
    [
        ({"evm": "0xABC"}, "evm:0xabc"),
        ({"url": "https://A.example", "evm": "0xABC"}, "evm:0xabc"),
        ({"solana": "AbC", "nostr": "x"}, "solana:AbC"),
        ({"nostr": "NPub", "libp2p": "Qm"}, "nostr:NPub"),
        ({"libp2p": "Qm", "url": "u"}, "libp2p:Qm"),
        ({"url": "https://A.example/X"}, "url:https://A.example/X"),
        ({"zzz": "1", "dns": "A.example"}, "dns:A.example"),
    ],
)
def test_a_party_is_known_by_its_best_id(ids: dict[str, str], key: str) -> None:
    assert Party(ids=ids, name="any").key == key


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a", True), ("pdf.extract", True), ("a-b_c.d", True), ("1.2", True), ("a" * 100, True), ("a" * 101, False),
        ("", False), ("A", False), ("a..b", False), (".a", False), ("a.", False), ("a b", False), ("a\n", False),
        ("\u00e4", False), ("a/b", False), ("a:b", False),
    ],
)  # fmt: skip
def test_capability_names_are_plain(name: str, fits: bool) -> None:
    if fits:
        assert Need(capability=name).capability == Capability(name=name).name == name
        return
    for make in (lambda: Need(capability=name), lambda: Capability(name=name)):
        with pytest.raises(ValidationError):
            make()


@pytest.mark.parametrize(
    "fields",
    [
        {"deadline_seconds": 0},
        {"deadline_seconds": -1},
        {"min_reputation": -0.1},
        {"min_reputation": 5.1},
        {"max_price": "5"},
        {"max_price": 5},
        {"markets": "x402"},
        {"unknown": 1},
    ],
)
def test_constraints_out_of_range_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Constraints.model_validate(fields)


@given(st.integers(0, 10**9), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 1000)), max_size=5))
def test_the_most_a_price_can_cost_is_never_less_than_the_job(per_job: int, meters: list[tuple[int, int]]) -> None:
    price = Price(
        per_job=Money(USDC, per_job),
        meters=tuple(Meter(event="e", unit_price=Money(USDC, unit), maximum_count=count) for unit, count in meters),
    )
    assert price.maximum.atomic == per_job + sum(unit * count for unit, count in meters)
    assert price.maximum >= price.per_job


def offer(**changes: object) -> Offer:
    given = {
        "id": "o",
        "market": "x402",
        "seller": SELLER,
        "capability": Capability(name="pdf.extract"),
        "title": "t",
        "price": Price(per_job=Money(USDC, 5)),
        "observed_at": NOW,
    }
    return Offer.model_validate({**given, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"id": "x" * 301},
        {"latency_ms": -1},
        {"uptime": 1.01},
        {"uptime": -0.01},
        {"success_rate": 2},
        {"reputation": {"score": 5.01}},
        {"reputation": {"count": -1}},
        {"price": None},
        {"surprise": 1},
    ],
)
def test_offers_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        offer(**changes)


def request(**changes: object) -> PaymentRequest:
    given = {
        "rail": "evm", "amount": Money(USDC, 5), "payee": "p", "mode": PayMode.HOLD, "reference": {"a": [1]},
        "binding": "b",
    }  # fmt: skip
    return PaymentRequest.model_validate({**given, **changes})


@pytest.mark.parametrize(
    "noun",
    [
        SELLER,
        Need(capability="pdf.extract", text="\u20ac", input={"a": [1, None, {"b": "c"}]}),
        Constraints(max_price=Money(USDC, 7), networks=("eip155:1",)),
        Reputation(score=5, count=3, source="us"),
        offer(expires_at=NOW, stake=Money(USDC, 9), rails=({"scheme": "exact"},)),
        Job(id="j", key="k", need=Need(), offer_id="o"),
        request(),
        Payment(id="p", request=request(), state=PaymentState.UNKNOWN, evidence={"transaction": "0x"}),
        Hold(payment=Payment(id="p", request=request(), state=PaymentState.HELD), deadline=NOW),
        Limits(total=Money(USDC, 5), keep_back=Money(USDC, 1)),
        Event(name=EventName.STEP_FAILED, subject="s", sequence=1, at=NOW, data={"why": "x"}),
    ],
    ids=lambda noun: type(noun).__name__,
)
def test_every_noun_survives_json_and_cannot_be_changed(noun: BaseModel) -> None:
    again = type(noun).model_validate_json(noun.model_dump_json())
    assert again == noun
    field = next(iter(type(noun).model_fields))
    with pytest.raises(ValidationError):
        setattr(noun, field, getattr(noun, field))


@pytest.mark.parametrize("state", list(JobState))
def test_a_job_ends_in_exactly_four_ways(state: JobState) -> None:
    assert state.final is (state.value in {"settled", "refunded", "failed", "cancelled"})


@pytest.mark.parametrize("state", list(PaymentState))
def test_an_unknown_or_running_payment_is_never_final(state: PaymentState) -> None:
    assert state.final is (state.value in {"confirmed", "released", "refunded", "failed"})


@pytest.mark.parametrize("name", list(EventName))
def test_events_are_named_by_subject_and_deed(name: EventName) -> None:
    subject, _, deed = name.value.partition(".")
    assert subject.isalpha()
    assert deed.replace("_", "").isalpha()
    assert EventName(name.value) is name
