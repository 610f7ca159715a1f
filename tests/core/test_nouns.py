"""The nouns assert what they promise; canonical forms and ids are stable."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentnexus.core import errors
from agentnexus.core.canonical import bytes_hash, canonical_json, content_hash, idempotency_key
from agentnexus.core.clock import ManualClock, SeededEntropy, SystemClock, SystemEntropy, TimeOrderedIds
from agentnexus.core.events import Event, EventName
from agentnexus.core.money import Money
from agentnexus.core.offers import Job, JobState, Meter, Need, Party, Price
from agentnexus.core.payments import PaymentState
from tests.core.test_money import USDC


@given(st.dictionaries(st.text(), st.one_of(st.integers(-(2**53) + 1, 2**53 - 1), st.text(), st.booleans(), st.none())))
def test_the_order_of_keys_does_not_change_a_hash(value: dict[str, int | str | bool | None]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(backwards)
    assert content_hash(value) == content_hash(backwards)


def test_canonical_json_is_rfc_8785() -> None:
    assert canonical_json({"b": 1e21, "a": "\u20ac$", "\u00f6": [True, None]}) == (
        '{"a":"\u20ac$","b":1e+21,"\u00f6":[true,null]}'.encode()
    )
    assert bytes_hash(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    with pytest.raises(errors.InvalidInput):
        canonical_json({"n": float("nan")})
    with pytest.raises(errors.InvalidInput):
        canonical_json({"n": 2**60})


def test_idempotency_keys_do_not_collide_at_the_joints() -> None:
    assert idempotency_key("ab", "c") != idempotency_key("a", "bc")
    assert idempotency_key("a", "b") == idempotency_key("a", "b")


def test_ids_sort_by_time_and_are_version_7() -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    ids = TimeOrderedIds(clock, SystemEntropy())
    first = ids.new("wf")
    clock.advance(0.002)
    second = ids.new("wf")
    assert first < second
    assert uuid.UUID(ids.new()).version == 7
    replayed = [TimeOrderedIds(clock, SeededEntropy(4)).new() for _ in range(2)]
    assert replayed[0] == replayed[1]


def test_clocks_and_entropy_keep_their_promises() -> None:
    assert SystemClock().now().tzinfo is UTC
    assert SystemClock().monotonic() <= SystemClock().monotonic()
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    clock.advance(1.5)
    assert clock.monotonic() == 1.5
    assert all(0 <= source.uniform() < 1 for source in (SystemEntropy(), SeededEntropy(1)) for _ in range(50))
    assert SeededEntropy(1).random_bytes(4) == SeededEntropy(1).random_bytes(4)


def test_parties_are_compared_by_key_not_by_name() -> None:
    one = Party(ids={"evm": "0xABC", "url": "https://a"}, name="Ann")
    other = Party(ids={"evm": "0xabc"}, name="Bob")
    assert one.key == other.key == "evm:0xabc"
    assert Party(ids={"dns": "a.example"}).key == "dns:a.example"
    with pytest.raises(ValidationError):
        Party(ids={})


def test_a_metered_price_always_has_a_maximum() -> None:
    meter = Meter(event="page", unit_price=Money(USDC, 10), maximum_count=7)
    assert Price(per_job=Money(USDC, 5), meters=(meter, meter)).maximum == Money(USDC, 145)


def test_a_need_is_hashed_by_content() -> None:
    assert Need(capability="pdf.extract").hash() == Need(capability="pdf.extract").hash()
    assert Need(capability="pdf.extract").hash() != Need(capability="pdf.extract", text="x").hash()


@pytest.mark.parametrize("name", ["", "Pdf.Extract", "pdf..extract", "pdf extract", "-pdf", "a" * 101])
def test_odd_capability_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Need(capability=name)


def test_a_job_needs_a_key_and_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError):
        Job(id="j", key="", need=Need(), offer_id="o")
    with pytest.raises(ValidationError):
        Need.model_validate({"surprise": 1})


def test_only_ended_states_are_final() -> None:
    assert {state for state in JobState if state.final} == {
        JobState.SETTLED,
        JobState.REFUNDED,
        JobState.FAILED,
        JobState.CANCELLED,
    }
    assert not PaymentState.UNKNOWN.final
    assert PaymentState.CONFIRMED.final


def test_events_count_from_one() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(ValidationError):
        Event(name=EventName.STEP_STARTED, subject="s", sequence=0, at=now)


def test_every_error_has_its_own_code_and_says_what_to_do() -> None:
    def family(kind: type[errors.NexusError]) -> list[type[errors.NexusError]]:
        return [kind, *(child for sub in kind.__subclasses__() for child in family(sub))]

    kinds = [kind for kind in family(errors.NexusError) if kind.__module__ == errors.__name__]
    codes = [kind.code for kind in kinds]
    assert sorted(codes) == sorted(errors.ErrorCode)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)
    error = errors.BudgetExceeded("over", next_step="wait", limit="total", frees_at=None)
    assert error.to_json() == {
        "code": "budget_exceeded",
        "message": "over",
        "next_step": "wait",
        "details": {"limit": "total"},
    }
