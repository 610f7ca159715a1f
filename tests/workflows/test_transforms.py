"""Reshaping and conditions, as plain functions: every operation, every wrong shape, hostile texts, and the checks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from agentnexus.core.errors import InvalidPlan
from agentnexus.core.offers import Capability
from agentnexus.workflows import transforming
from agentnexus.workflows.model import LOCAL, Plan, PlanStep
from agentnexus.workflows.plan import check_plan, faults, with_dependencies
from agentnexus.workflows.planning import offered_from
from agentnexus.workflows.references import SKIPPED
from agentnexus.workflows.transforming import holds, holes, output_type, transformed, value_of
from agentnexus.workflows.transforms import Condition, Transform

from .catalogue import offer_of

TRANSFORM: TypeAdapter[Transform] = TypeAdapter(Transform)
CONDITION: TypeAdapter[Condition] = TypeAdapter(Condition)
OUTPUTS = {"a": {"text": "hello", "rows": [{"n": 1, "tag": "x"}, {"n": 2}], "n": 3, "none": None}, "gone": SKIPPED}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def made(**transform: object) -> object:
    return transformed(TRANSFORM.validate_python(transform), OUTPUTS)


def a(path: str = "", **more: object) -> dict[str, object]:
    return {"$step": "a", "path": path, **more}


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ({"op": "pick", "source": a(), "path": "text"}, "hello"),
        ({"op": "pick", "source": a("rows"), "path": "1.n"}, 2),
        ({"op": "pick", "source": a(), "path": "none"}, None),
        ({"op": "pick", "source": a(), "paths": {"t": "text", "first": "rows.0.n"}}, {"t": "hello", "first": 1}),
        ({"op": "join", "parts": [a("text"), "and", a("n")], "separator": " "}, "hello and 3"),
        ({"op": "join", "parts": ["x", a("none"), {"k": [True, None]}], "separator": "|"}, 'x|{"k":[true,null]}'),
        ({"op": "join", "into": "list", "parts": [a("rows"), [7], a("none")]}, [{"n": 1, "tag": "x"}, {"n": 2}, 7]),
        ({"op": "join", "into": "object", "parts": [{"k": 1, "m": 2}, {"k": 3}]}, {"k": 3, "m": 2}),
        ({"op": "template", "text": "{who}: {{{n}}}", "values": {"who": "Ann", "n": a("n")}}, "Ann: {3}"),
        ({"op": "template", "text": "no holes {}", "values": {"unused": 1}}, "no holes {}"),
        ({"op": "filter", "items": a("rows"), "where": {"value": {"$item": "n"}, "test": "at_least", "other": 2}},
         [{"n": 2}]),
        ({"op": "filter", "items": a("rows"), "where": {"value": {"$item": "tag"}, "test": "empty"}}, [{"n": 2}]),
        ({"op": "filter", "items": [1, 5, 3], "where": {"value": {"$item": ""}, "test": "less", "other": a("n")}}, [1]),
        ({"op": "map", "items": a("rows"), "each": {"$item": "n"}}, [1, 2]),
        ({"op": "map", "items": a("rows"), "each": {"tag": {"$item": "tag", "default": "-"}, "of": a("text")}},
         [{"tag": "x", "of": "hello"}, {"tag": "-", "of": "hello"}]),
        ({"op": "map", "items": [], "each": {"$item": "missing"}}, []),
        ({"op": "choose", "when": {"value": a("n"), "test": "more", "other": 2}, "then": a("text"), "otherwise": 0},
         "hello"),
        ({"op": "choose", "when": {"value": a("n"), "test": "more", "other": 9}, "then": a("text")}, None),
        ({"op": "join", "parts": [{"$step": "gone", "default": "none"}]}, "none"),
        ({"op": "join", "parts": [a("nowhere", default="none")]}, "none"),
    ],
)  # fmt: skip
def test_each_operation_makes_this(transform: dict[str, object], expected: object) -> None:
    assert made(**transform) == expected


@pytest.mark.parametrize(
    ("transform", "why"),
    [
        ({"op": "pick", "source": a(), "path": "nothing"}, "no 'nothing' to pick"),
        ({"op": "pick", "source": a("rows"), "path": "2.n"}, "to pick"),
        ({"op": "pick", "source": a("nothing"), "path": "x"}, "has no 'nothing'"),
        ({"op": "join", "into": "list", "parts": [a("text")]}, "only a list"),
        ({"op": "join", "into": "object", "parts": [a("rows")]}, "only objects"),
        ({"op": "filter", "items": a("text"), "where": {"value": 1, "test": "true"}}, "only a list"),
        ({"op": "map", "items": a("n"), "each": 1}, "only a list"),
        ({"op": "map", "items": a("rows"), "each": {"$item": "tag"}}, "an item of the list has no 'tag'"),
        ({"op": "join", "parts": [{"$file": 0}]}, "only outputs of steps"),
        ({"op": "join", "parts": [{"$item": "x"}]}, "only outputs of steps"),
        ({"op": "join", "parts": [{"$step": "unknown"}]}, "has no output"),
    ],
)
def test_what_does_not_have_the_needed_shape_is_said(transform: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidPlan, match=why):
        made(**transform)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"value": a("n"), "test": "equals", "other": 3.0}, True),
        ({"value": True, "test": "equals", "other": 1}, False),
        ({"value": a("n"), "test": "not_equals", "other": 4}, True),
        ({"value": "b", "test": "more", "other": "a"}, True),
        ({"value": "b", "test": "more", "other": 1}, False),
        ({"value": True, "test": "more", "other": 0}, False),
        ({"value": None, "test": "at_least", "other": None}, False),
        ({"value": 2, "test": "at_most", "other": 2}, True),
        ({"value": 2, "test": "less", "other": 2}, False),
        ({"value": a("text"), "test": "contains", "other": "HELL"}, True),
        ({"value": [1, 2], "test": "contains", "other": 2}, True),
        ({"value": [True], "test": "contains", "other": 1}, False),
        ({"value": a(), "test": "contains", "other": "rows"}, True),
        ({"value": 12, "test": "contains", "other": 1}, False),
        ({"value": a("none"), "test": "empty"}, True),
        ({"value": 0, "test": "empty"}, False),
        ({"value": a("nothing.at.all"), "test": "empty"}, True),
        ({"value": {"$step": "gone"}, "test": "empty"}, True),
        ({"value": a("rows"), "test": "not_empty"}, True),
        ({"value": "true", "test": "true"}, False),
        ({"value": False, "test": "false"}, True),
        ({"value": None, "test": "false"}, False),
        ({"all": [{"value": 1, "test": "equals", "other": 1}, {"value": True, "test": "true"}]}, True),
        ({"any": [{"value": 1, "test": "equals", "other": 2}, {"none": [{"value": True, "test": "true"}]}]}, False),
        ({"none": [{"value": 1, "test": "equals", "other": 2}]}, True),
    ],
)
def test_each_condition_holds_or_not(condition: dict[str, object], expected: bool) -> None:
    assert holds(CONDITION.validate_python(condition), OUTPUTS) is expected


TESTS = st.sampled_from(["equals", "not_equals", "more", "at_least", "less", "at_most", "contains"])


@given(JSON, TESTS, JSON)
def test_no_condition_ever_fails_and_order_is_consistent(value: object, test: str, other: object) -> None:
    def is_so(name: str, left: object = value, right: object = other) -> bool:
        return holds(CONDITION.validate_python({"value": [left], "test": name, "other": [right]}), {})

    outputs = {"v": {"x": value}, "o": {"x": other}}
    condition = {"value": {"$step": "v", "path": "x"}, "test": test, "other": {"$step": "o", "path": "x"}}
    holds(CONDITION.validate_python(condition), outputs)
    assert is_so("equals") is not is_so("not_equals")
    swapped = {**condition, "value": condition["other"], "other": condition["value"], "test": "less"}
    more = holds(CONDITION.validate_python({**condition, "test": "more"}), outputs)
    assert more == holds(CONDITION.validate_python(swapped), outputs)


@given(JSON)
def test_outputs_are_data_and_come_through_unchanged(value: object) -> None:
    outputs = {"s": {"x": value}}
    each = TRANSFORM.validate_python({"op": "map", "items": [1], "each": {"$step": "s", "path": "x"}})
    assert transformed(each, outputs) == [value]
    through = TRANSFORM.validate_python({"op": "map", "items": {"$step": "l"}, "each": {"$item": ""}})
    assert transformed(through, {"l": [value, {"$step": "s"}]}) == [value, {"$step": "s"}]


@pytest.mark.parametrize(
    "text", ["{0}", "{a.b}", "{a!r}", "{a[0]}", "{__class__.x}", "{a:>9999999999}", "%s", "${a}", "{ a }"]
)
def test_a_template_is_no_language(text: str) -> None:
    template = TRANSFORM.validate_python({"op": "template", "text": text, "values": {"a": "v", "b": "w"}})
    assert transformed(template, {}) == text.replace("{a}", "v")


def test_a_value_that_looks_like_a_hole_is_not_filled_again() -> None:
    assert made(op="template", text="{x}{y}", values={"x": "{y}", "y": "!"}) == "{y}!"
    assert holes("{a} {{b}} {a}") == ["a", "a"]


def test_a_bomb_of_holes_or_parts_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforming, "TEXT_MAX", 1000)
    monkeypatch.setattr(transforming, "ITEMS_MAX", 10)
    with pytest.raises(InvalidPlan, match="more than"):
        made(op="template", text="{x}" * 200, values={"x": "y" * 10})
    with pytest.raises(InvalidPlan, match="more than"):
        made(op="join", parts=["y" * 600, "y" * 600])
    with pytest.raises(InvalidPlan, match="are the most"):
        made(op="join", into="list", parts=[[1] * 6, [2] * 6])
    with pytest.raises(InvalidPlan, match="are the most"):
        made(op="map", items=list(range(11)), each=1)


def test_a_small_plan_cannot_make_endless_work_or_an_endless_output() -> None:
    big = {"a": {"text": "x" * 1_000_000, "rows": [0] * 100_000}}
    repeated = TRANSFORM.validate_python({"op": "map", "items": a("rows"), "each": [a("text"), {"$item": ""}]})
    with pytest.raises(InvalidPlan, match="too much comes out"):
        transformed(repeated, big)
    condition: dict[str, object] = {"value": {"$item": ""}, "test": "equals", "other": 1}
    long = TRANSFORM.validate_python({"op": "filter", "items": a("rows"), "where": {"any": [condition] * 100}})
    with pytest.raises(InvalidPlan, match="takes too long"):
        transformed(long, big)
    wide = TRANSFORM.validate_python({"op": "join", "into": "object", "parts": [{"k" * 100: a("text")}] * 100})
    assert transformed(wide, big) == {"k" * 100: "x" * 1_000_000}


def test_items_mean_nothing_outside_of_lists() -> None:
    with pytest.raises(InvalidPlan):
        value_of({"$item": ""}, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"op": "eval", "code": "1"},
        {"op": "pick", "source": 1},
        {"op": "pick", "source": 1, "path": "a", "paths": {"b": "c"}},
        {"op": "join", "parts": []},
        {"op": "join", "parts": [1], "into": "file"},
        {"op": "template", "text": "x" * 100_001},
        {"op": "filter", "items": [], "where": {"value": 1, "test": "matches", "other": ".*"}},
        {"op": "filter", "items": [], "where": {"value": 1, "test": "true", "other": 1}},
        {"op": "filter", "items": [], "where": {"all": []}},
        {"op": "map", "items": [], "each": 1, "extra": 1},
    ],
)
def test_what_is_no_transform_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TRANSFORM.validate_python(wrong)


def test_a_condition_nested_without_end_is_refused() -> None:
    condition: dict[str, object] = {"value": 1, "test": "true"}
    for _ in range(100):
        condition = {"all": [condition]}
    step = PlanStep.model_validate({"id": "s", "title": "", "capability": "a.b", "when": condition})
    with pytest.raises(InvalidPlan, match="nested too deeply"):
        check_plan(Plan(planner="t", steps=(step,)), (), OFFERED)


# --- in plans ---------------------------------------------------------------------------------------------------------

GIVES = {"type": "object", "properties": {"text": {"type": "string"}}, "additionalProperties": False}
TAKES = {"type": "object", "properties": {"text": {"type": "string"}, "n": {"type": "integer"}}}
OFFERED = offered_from([offer_of(Capability(name="a.b", input_schema=TAKES, output_schema=GIVES), "0.01")])
READ = PlanStep(id="read", title="", capability="a.b")


def local(transform: dict[str, object], *waits: str, **more: object) -> PlanStep:
    return PlanStep.model_validate({"id": "t", "title": "", "transform": transform, "depends_on": waits, **more})


def wrong(*steps: PlanStep, output: object = None) -> list[str]:
    return list(faults(Plan(planner="t", steps=steps, output=output), (), OFFERED))


def test_a_transform_is_a_step_without_seller_and_survives_being_written_down() -> None:
    step = local({"op": "join", "parts": ["x"]})
    assert (step.capability, step.local, step.kind) == (LOCAL, True, "data_transform")
    assert PlanStep.model_validate_json(step.model_dump_json()) == step
    assert PlanStep.model_validate(json.loads(step.model_dump_json())) == step
    conditional = READ.model_copy(update={"when": CONDITION.validate_python({"value": 1, "test": "true"})})
    assert (READ.kind, conditional.kind) == ("service_call", "conditional")
    assert wrong(step) == []


@pytest.mark.parametrize(
    "more",
    [{"capability": "a.b"}, {"input": {"x": 1}}, {"undo": {"capability": "a.b"}}],
)
def test_a_transform_has_nothing_that_only_a_hire_has(more: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        local({"op": "join", "parts": ["x"]}, **more)
    with pytest.raises(ValidationError):
        PlanStep(id="s", title="", capability=LOCAL)


def test_references_of_transforms_and_conditions_are_dependencies() -> None:
    step = local({"op": "join", "parts": [{"$step": "read"}]}, when={"value": {"$step": "other"}, "test": "empty"})
    assert set(with_dependencies(step).depends_on) == {"read", "other"}


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (local({"op": "join", "parts": [{"$step": "read"}]}), "without depending on it"),
        (local({"op": "join", "parts": [{"$step": "ghost"}]}, "ghost"), "does not exist"),
        (local({"op": "join", "parts": [{"$file": 0}]}), "only agents read files"),
        (local({"op": "join", "parts": [{"$item": "x"}]}), "outside of filter or map"),
        (local({"op": "map", "items": {"$item": ""}, "each": 1}), "outside of a list"),
        (local({"op": "template", "text": "{a}{b}", "values": {"a": 1}}), "asks for {b}"),
        (local({"op": "join", "parts": ["x"]}, when={"value": {"$item": ""}, "test": "true"}), "condition uses .item"),
        (PlanStep(id="x", title="", capability="a.b", input={"text": {"$item": "y"}}), "outside of a list"),
    ],
)
def test_what_is_wrong_with_a_local_step_is_said_before_anything_runs(step: PlanStep, why: str) -> None:
    found = wrong(READ, step)
    assert any(why.replace(".item", "$item") in reason for reason in found), found


def test_types_go_through_transforms() -> None:
    listed = local({"op": "filter", "items": [1], "where": {"value": {"$item": ""}, "test": "true"}})
    user = PlanStep(id="u", title="", capability="a.b", input={"text": {"$step": "t"}}, depends_on=("t",))
    assert any("is array, string is asked" in reason for reason in wrong(listed, user))
    assert wrong(local({"op": "template", "text": "x"}), user) == []
    picked = local({"op": "pick", "source": {"$step": "read"}, "path": "text"}, "read")
    number = user.model_copy(update={"input": {"n": {"$step": "t"}}})
    assert any("is string, integer is asked" in reason for reason in wrong(READ, picked, number))
    assert wrong(READ, picked, user) == []


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ({"op": "join", "parts": ["x"], "into": "object"}, {"type": "object"}),
        ({"op": "join", "parts": [[1]], "into": "list"}, {"type": "array"}),
        ({"op": "pick", "source": 1, "paths": {"a": "b"}}, {"type": "object", "properties": {"a": {}}}),
        ({"op": "pick", "source": 1, "path": "b"}, {}),
        ({"op": "choose", "when": {"value": 1, "test": "true"}, "then": 1}, {}),
    ],
)
def test_what_is_known_of_an_output_before_it_is_made(transform: dict[str, object], expected: object) -> None:
    assert output_type(TRANSFORM.validate_python(transform), {}) == expected
