"""JSON Schemas read as types: local references, unions, paths into outputs, what may stand where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.offers import Schema
from agentnexus.workflows.schemas import (
    ANYTHING,
    as_schema,
    at_path,
    branches,
    holds_reference,
    mismatch,
    problems,
    types_of,
)

STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer"}
FILE: Schema = {"type": "string", "contentEncoding": "base64"}
REPORT: Schema = {
    "type": "object",
    "properties": {
        "result": {"$ref": "#/$defs/Result"},
        "warnings": {"type": "array", "items": {"type": "string"}},
        "maybe": {"anyOf": [{"$ref": "#/$defs/Page"}, {"type": "null"}]},
        "either": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]},
        "open": {"type": "object"},
        "prices": {"type": "object", "additionalProperties": {"type": "number"}},
        "closed": {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False},
    },
    "$defs": {
        "Result": {"type": "object", "properties": {"pages": {"type": "array", "items": {"$ref": "#/$defs/Page"}}}},
        "Page": {"type": "object", "properties": {"text": {"type": "string"}, "number": {"type": "integer"}}},
    },
}


@pytest.mark.parametrize("value", [True, False, None, 3, "string", ["type"]])
def test_what_is_no_schema_object_means_anything(value: object) -> None:
    assert as_schema(value) == ANYTHING


def test_a_local_reference_is_followed_through_several_hops() -> None:
    root: Schema = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/c"}, "c": STRING}}
    assert branches({"$ref": "#/$defs/a"}, root) == [STRING]


def test_names_with_slashes_and_tildes_are_escaped_as_in_json_pointers() -> None:
    root: Schema = {"$defs": {"a/b": STRING, "c~d": NUMBER}}
    assert branches({"$ref": "#/$defs/a~1b"}, root) == [STRING]
    assert branches({"$ref": "#/$defs/c~0d"}, root) == [NUMBER]


@pytest.mark.parametrize("target", ["https://evil.example/schema.json", "other.json#/$defs/a", "file:///etc/passwd"])
def test_a_reference_to_elsewhere_is_never_fetched_and_means_anything(target: str) -> None:
    assert branches({"$ref": target}, {}) == [ANYTHING]


@pytest.mark.parametrize("root", [{"$defs": {}}, {"$defs": "nonsense"}, {}, {"$defs": {"a": 5}}])
def test_a_reference_that_leads_nowhere_means_anything(root: Schema) -> None:
    assert branches({"$ref": "#/$defs/a"}, root) == [ANYTHING]


def test_references_that_go_round_in_circles_end() -> None:
    root: Schema = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}, STRING]}}}
    assert branches({"$ref": "#/$defs/a"}, root) == [STRING]


def test_references_that_double_their_work_are_cut_off() -> None:
    """Twenty definitions that each name the next one twice would be a million alternatives."""
    definitions: Schema = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(20)}
    root: Schema = {"$defs": {**definitions, "d20": STRING}}
    assert branches({"$ref": "#/$defs/d0"}, root) == [STRING]


def test_a_wide_union_is_read_as_far_as_its_first_alternatives() -> None:
    wide: Schema = {"anyOf": [{"const": n} for n in range(10_000)]}
    found = branches(wide, wide)
    assert 1 < len(found) < 100
    assert found == [{"const": n} for n in range(len(found))]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (STRING, [STRING]),
        ({"anyOf": [STRING, {"type": "null"}]}, [STRING]),
        ({"oneOf": [STRING, NUMBER]}, [STRING, NUMBER]),
        ({"anyOf": [{"oneOf": [STRING, {"type": "null"}]}, NUMBER]}, [STRING, NUMBER]),
        ({"type": "null"}, []),
        ({"anyOf": [{"type": "null"}]}, []),
        ({"anyOf": "nonsense", "type": "string"}, [{"anyOf": "nonsense", "type": "string"}]),
        ({"anyOf": [True, STRING]}, [ANYTHING, STRING]),
    ],
)
def test_alternatives_are_listed_flat_and_without_null(schema: Schema, expected: list[Schema]) -> None:
    assert branches(schema, schema) == expected


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": ["string", "null"]}, {"string"}),
        ({"type": ["integer", "number"]}, {"integer", "number"}),
        ({"properties": {}}, {"object"}),
        ({"items": {}}, {"array"}),
        ({}, set()),
        ({"type": 5}, set()),
    ],
)
def test_type_names_are_read_as_declared_or_as_implied(schema: Schema, names: set[str]) -> None:
    assert types_of(schema) == names


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ((), [REPORT]),
        (("result", "pages", "0", "text"), [STRING]),
        (("result", "pages", "17", "number"), [INTEGER]),
        (("warnings", "3"), [STRING]),
        (("maybe", "text"), [STRING]),
        (("either", "0"), [INTEGER]),
        (("open", "whatever", "you", "want"), [ANYTHING]),
        (("prices", "apples"), [NUMBER]),
        (("closed", "a"), [STRING]),
    ],
)
def test_a_path_leads_to_the_types_a_part_may_have(path: tuple[str, ...], expected: list[Schema]) -> None:
    assert at_path(REPORT, path) == expected


@pytest.mark.parametrize(
    "path",
    [
        ("nope",),
        ("result", "text"),
        ("result", "pages", "first"),
        ("result", "pages", "0", "text", "more"),
        ("warnings", "0", "0"),
        ("closed", "b"),
        ("either", "x"),
    ],
)
def test_a_path_to_what_is_not_there_gives_nothing(path: tuple[str, ...]) -> None:
    assert at_path(REPORT, path) == []


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (STRING, STRING),
        (INTEGER, NUMBER),
        (ANYTHING, FILE),
        (STRING, ANYTHING),
        (FILE, FILE),
        ({"type": ["string", "integer"]}, INTEGER),
        (FILE, ANYTHING),
        ({"properties": {}}, {"type": "object"}),
    ],
)
def test_what_fits_is_let_through(source: Schema, target: Schema) -> None:
    assert mismatch(source, target) is None


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (NUMBER, INTEGER, "is number, integer is asked"),
        (STRING, INTEGER, "is string, integer is asked"),
        ({"type": "object"}, {"type": ["array", "string"]}, "is object, array or string is asked"),
        (STRING, FILE, "is text, a file is asked"),
        (FILE, STRING, "is a file, text is asked"),
    ],
)
def test_what_cannot_fit_is_said_in_words(source: Schema, target: Schema, reason: str) -> None:
    assert mismatch(source, target) == reason


ASKED: Schema = {
    "type": "object",
    "properties": {
        "text": STRING,
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "file": FILE,
        "sources": {"type": "array", "items": {"$ref": "#/$defs/Source"}},
        "extra": {"anyOf": [{"type": "object", "properties": {"deep": INTEGER}}, {"type": "null"}]},
    },
    "required": ["text"],
    "additionalProperties": False,
    "$defs": {"Source": {"type": "object", "properties": {"name": STRING, "text": STRING}, "required": ["name"]}},
}
GIVEN = {"s1": REPORT}
PAGE_TEXT = {"$step": "s1", "path": "result.pages.0.text"}
PAGE_NUMBER = {"$step": "s1", "path": "result.pages.0.number"}


@pytest.mark.parametrize(
    "template",
    [
        {"text": "hello"},
        {"text": PAGE_TEXT},
        {"text": PAGE_TEXT, "count": PAGE_NUMBER, "file": {"$file": 0}},
        {"text": {"$file": 0, "as": "text"}, "sources": [{"name": {"$file": 0, "as": "name"}, "text": PAGE_TEXT}]},
        {"text": "x", "extra": {"deep": PAGE_NUMBER}},
        {"text": {"$step": "s1", "path": "either"}},
        {"text": {"$step": "elsewhere", "path": "result"}},
    ],
)
def test_a_template_that_fits_has_no_problem(template: object) -> None:
    assert list(problems(template, ASKED, GIVEN)) == []


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ({}, 'input: "text" is a required property'),
        ({"file": {"$file": 0}}, "input.text is missing"),
        ({"text": PAGE_NUMBER}, "input.text: s1.result.pages.0.number is integer, string is asked"),
        ({"text": {"$file": 0}}, "input.text is a file, text is asked"),
        ({"text": "a", "file": {"$file": 0, "as": "text"}}, "input.file is text, a file is asked"),
        ({"text": "a", "file": {"$file": 0, "as": "name"}}, "input.file is text, a file is asked"),
        ({"text": {"$step": "s1", "path": "no.such"}}, "input.text: step s1 does not give 'no.such'"),
        ({"text": PAGE_TEXT, "count": 10}, "input.count: 10 is greater than the maximum of 9"),
        ({"text": PAGE_TEXT, "colour": "red"}, "input.colour is not known to the seller"),
        ({"text": "a", "sources": [{"text": PAGE_TEXT}]}, "input.sources.0.name is missing"),
        (
            {"text": "a", "sources": [{"name": "n"}, {"name": "n", "text": PAGE_NUMBER}]},
            "input.sources.1.text: s1.result.pages.0.number is integer, string is asked",
        ),
        ({"text": [PAGE_TEXT]}, "input.text is a list, string is asked"),
        ({"text": {"inner": PAGE_TEXT}}, "input.text is an object, string is asked"),
        (
            {"text": "a", "extra": {"deep": PAGE_TEXT}},
            "input.extra.deep: s1.result.pages.0.text is string, integer is asked",
        ),
    ],
)
def test_each_fault_is_named_with_its_place(template: object, said: str) -> None:
    assert said in list(problems(template, ASKED, GIVEN))


def test_of_several_alternatives_the_nearest_one_is_complained_about() -> None:
    either: Schema = {
        "anyOf": [
            {"type": "object", "properties": {"a": STRING, "b": STRING, "c": STRING}, "required": ["a", "b", "c"]},
            {"type": "object", "properties": {"text": STRING}, "required": ["text"]},
        ]
    }
    assert list(problems({"text": PAGE_NUMBER}, either, GIVEN)) == [
        "input.text: s1.result.pages.0.number is integer, string is asked"
    ]


def test_an_alternative_that_fits_silences_the_others() -> None:
    assert list(problems(PAGE_NUMBER, {"anyOf": [STRING, NUMBER]}, GIVEN)) == []


def test_a_reference_where_only_null_is_allowed_is_left_to_the_seller() -> None:
    assert list(problems(PAGE_TEXT, {"type": "null"}, GIVEN)) == []


def test_values_are_checked_with_the_definitions_of_the_whole_schema() -> None:
    found = list(problems({"text": "a", "sources": [{"name": 5}]}, ASKED, GIVEN))
    assert found == ['input.sources.0.name: 5 is not of type "string"']


def test_at_most_five_faults_of_one_value_are_listed_and_each_is_short() -> None:
    schema: Schema = {"type": "array", "items": {"type": "integer"}}
    found = list(problems(["x" * 1000] * 50, schema, {}))
    assert len(found) == 5
    assert all(len(each) <= 300 for each in found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"$file": 0}, True),
        ([[{"a": {"$step": "s1"}}]], True),
        ({"a": [1, "x", None]}, False),
        ("$file", False),
        (b"$step", False),
        ({}, False),
    ],
)
def test_references_are_noticed_at_any_depth(value: object, expected: bool) -> None:
    assert holds_reference(value) is expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)


def schema_of(value: object) -> Schema:
    """The narrowest schema that describes one value."""
    match value:
        case None:
            return {"type": "null"}
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case str():
            return {"type": "string"}
        case list():
            return {"type": "array", "items": {"anyOf": [schema_of(item) for item in value]} if value else {}}
        case dict():
            return {
                "type": "object",
                "properties": {key: schema_of(item) for key, item in value.items()},
                "required": sorted(value),
                "additionalProperties": False,
            }
    raise AssertionError(value)


def paths_of(value: object, here: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], object]]:
    found = [(here, value)]
    if isinstance(value, dict):
        for key, item in value.items():
            found += paths_of(item, (*here, key))
    if isinstance(value, list):
        for number, item in enumerate(value):
            found += paths_of(item, (*here, str(number)))
    return found


@given(json_values)
def test_a_value_has_no_problem_with_the_schema_made_from_it(value: object) -> None:
    assert list(problems(value, schema_of(value), {})) == []


@given(json_values)
def test_every_part_of_a_value_is_found_by_its_path_in_the_schema_made_from_it(value: object) -> None:
    schema = schema_of(value)
    for path, part in paths_of(value):
        if part is not None:
            kinds = {kind for option in at_path(schema, path) for kind in types_of(option)}
            assert kinds >= types_of(schema_of(part)), (path, part)


@given(json_values, st.sampled_from(["zz", "99x", "-1"]))
def test_no_closed_schema_has_a_part_of_an_unknown_name(value: object, name: str) -> None:
    assert [found for found in at_path(schema_of(value), (name,)) if found] == []
