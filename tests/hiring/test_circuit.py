"""When a market is left alone, for how long, and who may try it again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.hiring.circuit import COOL_MAX_SECONDS, COOL_SECONDS, FAILURES_MAX, Circuit, CircuitState

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def test_a_new_circuit_is_closed_and_has_nothing_to_try() -> None:
    circuit = Circuit()
    assert circuit.state(0) is CLOSED
    assert not circuit.take_probe(0)
    assert circuit.seconds_left(0) == 0


def test_a_few_failures_in_a_row_open_it_and_a_success_between_does_not_count() -> None:
    circuit = Circuit()
    for _ in range(FAILURES_MAX - 1):
        circuit.failed(0)
    assert circuit.state(0) is CLOSED
    circuit.succeeded()
    for _ in range(FAILURES_MAX - 1):
        circuit.failed(0)
    assert circuit.state(0) is CLOSED
    circuit.failed(0)
    assert circuit.state(0) is OPEN


def test_one_that_kept_somebody_waiting_opens_at_once() -> None:
    circuit = Circuit()
    circuit.failed(10, slow=True)
    assert circuit.state(10) is OPEN
    assert circuit.seconds_left(12) == COOL_SECONDS - 2
    assert circuit.state(10 + COOL_SECONDS) is HALF_OPEN


def test_only_one_may_try_until_it_is_known_how_that_went() -> None:
    circuit = Circuit()
    circuit.failed(0, slow=True)
    assert not circuit.take_probe(1)
    assert [circuit.take_probe(COOL_SECONDS) for _ in range(3)] == [True, False, False]
    circuit.let_go()
    assert circuit.take_probe(COOL_SECONDS)


def test_a_failed_try_opens_it_for_twice_as_long_and_a_good_one_forgets_all() -> None:
    circuit = Circuit()
    circuit.failed(0, slow=True)
    assert circuit.take_probe(COOL_SECONDS)
    circuit.failed(COOL_SECONDS)
    assert circuit.seconds_left(COOL_SECONDS) == 2 * COOL_SECONDS
    assert circuit.take_probe(3 * COOL_SECONDS)
    circuit.succeeded()
    assert circuit == Circuit()


@pytest.mark.parametrize("times", [5, 50, 2_000])
def test_however_often_it_failed_it_is_tried_again_within_a_minute(times: int) -> None:
    circuit = Circuit()
    for _ in range(times):
        circuit.failed(0, slow=True)
    assert circuit.seconds_left(0) == COOL_MAX_SECONDS


@given(st.lists(st.sampled_from(["failed", "slow", "succeeded", "probe", "wait"]), max_size=60))
def test_whatever_happens_it_is_never_given_up_for_good(told: list[str]) -> None:
    circuit, now = Circuit(), 0.0
    for what in told:
        match what:
            case "wait":
                now += COOL_SECONDS
            case "probe":
                circuit.take_probe(now)
            case "succeeded":
                circuit.succeeded()
            case _:
                circuit.failed(now, slow=what == "slow")
    now += COOL_MAX_SECONDS
    circuit.let_go()
    assert circuit.state(now) is CLOSED or circuit.take_probe(now)
