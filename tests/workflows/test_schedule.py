"""The order of steps: whatever finishes when, nothing starts too soon, too late or twice; what bounds the time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.workflows.model import Plan, PlanStep
from agentnexus.workflows.plan import is_sound, layers
from agentnexus.workflows.schedule import critical_path, cut_off, ready, urgency


def step(step_id: str, *waits: str, **more: object) -> PlanStep:
    return PlanStep.model_validate({"id": step_id, "title": "", "capability": "a.b", "depends_on": waits, **more})


def plan_of(*steps: PlanStep) -> Plan:
    return Plan(planner="t", steps=steps)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """DAGs of up to 14 steps, listed in any order."""
    size = draw(st.integers(1, 14))
    steps = []
    for number in range(size):
        before = st.lists(st.integers(0, number - 1), max_size=3, unique=True) if number else st.just([])
        steps.append(step(f"s{number}", *(f"s{earlier}" for earlier in draw(before))))
    return plan_of(*draw(st.permutations(steps)))


TIMES = st.dictionaries(st.sampled_from([f"s{n}" for n in range(14)]), st.integers(0, 100).map(float) | st.none())


@given(plans(), st.integers(1, 5), st.data())
def test_whatever_ends_first_every_step_runs_once_after_all_it_waits_for(
    plan: Plan, slots: int, data: st.DataObject
) -> None:
    urgent = urgency(plan, data.draw(TIMES))
    ended: list[str] = []
    running: list[str] = []
    while len(ended) < len(plan.steps):
        started = [each.id for each in ready(plan, ended, running, slots, urgent)]
        for step_id in started:
            assert set(plan.step(step_id).depends_on) <= set(ended)
            assert step_id not in ended
            assert step_id not in running
        running += started
        assert 0 < len(running) <= slots
        free = [s for s in plan.steps if s.id not in {*ended, *running} and set(s.depends_on) <= set(ended)]
        assert len(running) == slots or not free  # no slot stays empty while a step could run
        gone = data.draw(st.sampled_from(running))
        running.remove(gone)
        ended.append(gone)
    assert sorted(ended) == sorted(each.id for each in plan.steps)
    assert ready(plan, ended, [], slots, urgent) == []


@given(plans(), TIMES)
def test_the_critical_path_is_a_chain_that_bounds_every_other(plan: Plan, seconds: dict[str, float | None]) -> None:
    path = critical_path(plan, seconds)
    assert not plan.step(path[0]).depends_on
    for earlier, later in pairwise(path):
        assert earlier in plan.step(later).depends_on
    assert not [each for each in plan.steps if path[-1] in each.depends_on]
    longest = sum(_time(seconds, step_id) for step_id in path)
    assert longest == pytest.approx(max(urgency(plan, seconds).values()))


def _time(seconds: dict[str, float | None], step_id: str) -> float:
    known = seconds.get(step_id)
    return 1.0 if known is None else known


@given(plans())
def test_groups_hold_every_step_once_and_none_beside_what_it_waits_for(plan: Plan) -> None:
    groups = layers(plan)
    at = {step_id: number for number, group in enumerate(groups) for step_id in group}
    assert len(at) == sum(map(len, groups)) == len(plan.steps)
    for each in plan.steps:
        assert at[each.id] == 1 + max((at[d] for d in each.depends_on), default=-1)


def test_with_one_slot_the_longest_way_goes_first() -> None:
    plan = plan_of(step("short"), step("long"), step("after", "long"))
    urgent = urgency(plan, {"short": 1.0, "long": 1.0, "after": 5.0})
    assert urgent == {"short": 1.0, "long": 6.0, "after": 5.0}
    assert [each.id for each in ready(plan, (), (), 1, urgent)] == ["long"]
    assert [each.id for each in ready(plan, (), ("long",), 1, urgent)] == []
    assert [each.id for each in ready(plan, ("long",), (), 9, urgent)] == ["after", "short"]


def test_among_unknown_times_the_chain_of_most_steps_counts() -> None:
    plan = plan_of(step("a"), step("b"), step("c", "b"), step("d", "c", "a"))
    assert critical_path(plan, {}) == ["b", "c", "d"]
    assert critical_path(plan, {"a": 10.0, "b": 1.0, "c": None}) == ["a", "d"]


def test_a_plan_that_waits_for_nobody_or_for_itself_is_not_sound() -> None:
    assert is_sound(plan_of(step("a"), step("b", "a")))
    assert not is_sound(plan_of(step("a", "ghost")))
    assert not is_sound(plan_of(step("a", "b"), step("b", "a")))


@pytest.mark.parametrize(
    ("given_input", "cut"),
    [
        ({"x": {"$step": "s", "path": "y"}}, "s"),
        ({"x": {"$step": "s", "path": "y", "default": None}}, None),
        ({"x": [{"$step": "s", "default": 1}, {"$step": "s"}]}, "s"),
        ({}, "s"),
        ({"x": {"$step": "other"}}, "s"),
    ],
)
def test_a_step_is_cut_off_by_a_skipped_one_unless_it_says_what_to_take_instead(
    given_input: dict[str, object], cut: str | None
) -> None:
    waiting = step("w", "s", "other", input=given_input)
    assert cut_off(waiting, {"s"}) == cut
    assert cut_off(waiting, set()) is None
    assert cut_off(step("w", "other"), {"s"}) is None


def test_a_condition_on_a_skipped_step_cuts_off_too_unless_it_has_a_default() -> None:
    test = {"value": {"$step": "s"}, "test": "empty"}
    assert cut_off(step("w", "s", when=test), {"s"}) == "s"
    assert cut_off(step("w", "s", when={**test, "value": {"$step": "s", "default": None}}), {"s"}) is None
