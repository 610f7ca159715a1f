"""Schemas of strangers: what fits and what does not, and nothing a hostile one can do to us."""

from __future__ import annotations

import pytest

from agentnexus.core.errors import InvalidInput
from agentnexus.hiring.schemas import (
    INSTANCE_DEPTH_MAX,
    PROBLEMS_MAX,
    SCHEMA_BYTES_MAX,
    SCHEMA_DEPTH_MAX,
    CompiledSchema,
    Schemas,
)

PDF = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "contentEncoding": "base64"},
        "pages": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "mail": {"type": "string", "format": "email"},
        "when": {"type": "string", "format": "date-time"},
    },
    "required": ["file"],
    "additionalProperties": False,
}


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def test_a_value_that_fits_has_no_problems() -> None:
    assert Schemas().problems(PDF, {"file": "AAAA", "pages": [1, 2]}) == ()


def test_a_problem_names_its_place_as_a_pointer_and_says_what_is_wrong() -> None:
    (problem,) = Schemas().problems(PDF, {"file": "AAAA", "pages": [1, 0]})
    assert problem.path == "/pages/1"
    assert "minimum" in problem.message


def test_pointers_escape_what_they_must() -> None:
    schema = {"properties": {"a/b~c": {"type": "integer"}}}
    assert Schemas().problems(schema, {"a/b~c": "x"})[0].path == "/a~1b~0c"


@pytest.mark.parametrize("value", [{"mail": "nobody"}, {"when": "yesterday"}])
def test_formats_are_checked(value: dict[str, object]) -> None:
    assert Schemas().problems(PDF, {"file": "AAAA", **value})


def test_at_most_a_few_problems_are_listed() -> None:
    schema = {"items": {"type": "integer"}}
    assert len(Schemas().problems(schema, ["x"] * 100)) == PROBLEMS_MAX


def test_a_problem_does_not_quote_a_whole_file() -> None:
    (problem,) = Schemas().problems({"properties": {"file": {"type": "integer"}}}, {"file": "A" * 1_000_000})
    assert len(problem.message) <= 300


def test_an_empty_schema_allows_everything() -> None:
    assert Schemas().problems({}, object()) == ()


@pytest.mark.parametrize(
    "reference",
    ["http://169.254.169.254/latest", "https://example.com/s.json", "file:///etc/passwd", "other.json", "//x/y"],
)
def test_a_schema_that_refers_to_another_document_is_refused(reference: str) -> None:
    with pytest.raises(InvalidInput, match="another document"):
        Schemas().compile({"$ref": reference})


def test_an_id_elsewhere_does_not_make_a_local_reference_remote() -> None:
    schema = {"$id": "http://127.0.0.1:9/x", "properties": {"a": {"$ref": "y"}}}
    with pytest.raises(InvalidInput):
        Schemas().compile(schema)


def test_a_schema_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidInput, match="larger"):
        Schemas().compile({"description": "x" * SCHEMA_BYTES_MAX})


def test_a_schema_that_is_too_deep_is_refused() -> None:
    schema: dict[str, object] = {}
    for _ in range(SCHEMA_DEPTH_MAX + 1):
        schema = {"not": schema}
    with pytest.raises(InvalidInput, match="deeper"):
        Schemas().compile(schema)


def test_a_schema_whose_references_double_at_every_level_is_refused() -> None:
    definitions: dict[str, object] = {
        f"l{level}": {"allOf": [{"$ref": f"#/$defs/l{level + 1}"}, {"$ref": f"#/$defs/l{level + 1}"}]}
        for level in range(40)
    }
    definitions["l40"] = {"type": "integer"}
    with pytest.raises(InvalidInput, match="multiplies"):
        Schemas().compile({"$defs": definitions, "$ref": "#/$defs/l0"})


def test_a_recursive_schema_is_fine_and_checks_trees() -> None:
    tree = {
        "$defs": {
            "node": {"type": "object", "properties": {"left": {"$ref": "#/$defs/node"}, "value": {"type": "integer"}}}
        },
        "$ref": "#/$defs/node",
    }
    schemas = Schemas()
    assert schemas.problems(tree, {"left": {"left": {"value": 1}}}) == ()
    assert schemas.problems(tree, {"left": {"left": {"value": "x"}}})[0].path == "/left/left/value"


def test_a_schema_that_doubles_its_work_at_every_level_of_the_value_is_stopped() -> None:
    twice = [{"$ref": "#/$defs/t"}, {"$ref": "#/$defs/t"}]
    schema = {"$defs": {"t": {"properties": {"a": {"allOf": twice}}}}, "$ref": "#/$defs/t"}
    (problem,) = Schemas().problems(schema, deep(60))
    assert "too deep" in problem.message


def test_a_pattern_made_to_explode_takes_no_time() -> None:
    assert Schemas().problems({"pattern": "^(a+)+$"}, "a" * 5_000 + "b")


@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1", "(", "a{1000}{1000}{1000}"])
def test_patterns_beyond_the_linear_kind_are_refused_not_run(pattern: str) -> None:
    assert Schemas().problems({"pattern": pattern}, "aaa")


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"minimum": "x"}, {"$ref": "#/$defs/missing"}, {"required": 3}]
)
def test_what_is_no_schema_allows_nothing_and_says_why(schema: dict[str, object]) -> None:
    (problem,) = Schemas().problems(schema, {})
    assert "cannot be checked" in problem.message


def test_a_schema_that_is_not_json_is_refused() -> None:
    circle: dict[str, object] = {}
    circle["self"] = circle
    for schema in ({"x": object()}, circle, {"minimum": float("nan")}):
        with pytest.raises(InvalidInput, match="not JSON"):
            Schemas().compile(schema)


def test_a_value_nested_without_end_is_stopped() -> None:
    (problem,) = Schemas().problems({"type": "object"}, deep(INSTANCE_DEPTH_MAX + 5))
    assert "nested deeper" in problem.message


@pytest.mark.parametrize("value", [{"a": object()}, {"a": {1, 2}}, {"a": b"bytes"}])
def test_a_value_that_json_has_no_word_for_is_a_problem_not_a_crash(value: object) -> None:
    assert Schemas().problems({"properties": {"a": {"type": "string"}}}, value)


def test_a_schema_is_compiled_once_whatever_the_order_of_its_keys() -> None:
    schemas = Schemas()
    first = schemas.compile({"type": "object", "required": ["a"]})
    assert schemas.compile({"required": ["a"], "type": "object"}) is first


def test_a_refused_schema_is_refused_again_without_new_work() -> None:
    schemas = Schemas()
    for _ in range(2):
        with pytest.raises(InvalidInput, match="another document"):
            schemas.compile({"$ref": "http://x"})


def test_only_the_most_recent_schemas_are_kept() -> None:
    schemas = Schemas(capacity=2)
    first = schemas.compile({"const": 1})
    schemas.compile({"const": 2})
    schemas.compile({"const": 3})
    assert schemas.compile({"const": 1}) is not first


def test_a_compiled_schema_can_be_used_many_times() -> None:
    compiled = CompiledSchema({"type": "integer"})
    assert [bool(compiled.problems(value)) for value in (1, "x", 2)] == [False, True, False]


@pytest.mark.parametrize("index", ["²", "9" * 5000, "٣", "-1", "1.0", "+1"])
def test_a_reference_to_a_list_item_with_a_strange_number_is_refused_not_a_crash(index: str) -> None:
    """One seller's schema is read while everybody's offers are gathered."""
    found = Schemas().problems({"anyOf": [{"type": "string"}], "$ref": f"#/anyOf/{index}"}, "x")
    assert [problem.path for problem in found] == [""]
    assert "cannot be checked" in found[0].message
