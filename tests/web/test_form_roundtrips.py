"""Every JSON-Schema keyword that forms need: drawn, sent by a browser without scripts, and valid or named as wrong."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.web.forms import Upload, build_form, check, parse_form
from agentnexus.web.forms.moments import from_picker, to_picker
from tests.web.browsing import read_form
from tests.web.test_forms import html, one

Json = dict[str, object]


def form_schema(field: Json, *, required: bool = True) -> Json:
    return {"type": "object", "properties": {"x": field}, "required": ["x"] if required else []}


def sent_back(schema: Json, value: object) -> object:
    """What comes in when the form drawn for `value` is sent unchanged."""
    posted: dict[str, list[str | Upload]] = {
        name: list(texts) for name, texts in read_form(html(build_form(schema, value))).sent.items()
    }
    parsed = parse_form(schema, posted)
    assert parsed.errors == {}
    return parsed.value


def typed(field: Json, *texts: str | Upload) -> tuple[object, dict[str, str]]:
    """The value that typing `texts` into the one field gives, and every complaint about it."""
    schema = form_schema(field)
    parsed = parse_form(schema, {"in/x": list(texts)})
    found = parsed.value
    assert isinstance(found, dict)
    return found.get("x"), {**check(schema, found), **parsed.errors}


UNCHANGED: list[tuple[str, Json, object]] = [
    ("a short text", {"type": "string"}, "hello"),
    ("a text with markup", {"type": "string"}, "<b>&amp; \"quoted\" 'single' </textarea>"),
    ("a long text", {"type": "string", "x-ui": {"editor": "textarea"}}, "first\n\nsecond\n  third"),
    ("a long text that starts with a line break", {"type": "string", "x-ui": {"editor": "textarea"}}, "\nsecond"),
    ("an e-mail address", {"type": "string", "format": "email"}, "ann@example.org"),
    ("an address", {"type": "string", "format": "uri"}, "https://example.org/?a=1&b=2"),
    ("a date", {"type": "string", "format": "date"}, "2026-11-20"),
    ("a moment", {"type": "string", "format": "date-time"}, "2026-11-20T12:30:15Z"),
    ("a time", {"type": "string", "format": "time"}, "12:30:15Z"),
    ("a pattern", {"type": "string", "pattern": "^[a-z]{2}$"}, "ab"),
    ("a whole number", {"type": "integer", "minimum": -5, "maximum": 5}, -5),
    ("nothing as a number", {"type": "integer"}, 0),
    ("a large whole number", {"type": "integer"}, 2**62),
    ("a fraction", {"type": "number", "exclusiveMinimum": 0}, 0.25),
    ("a number in tenths", {"type": "number", "multipleOf": 0.5}, 1.5),
    ("yes", {"type": "boolean"}, True),
    ("no", {"type": "boolean"}, False),
    ("one of some words", {"enum": ["red", "green"]}, "green"),
    ("one of mixed values", {"enum": ["1", 1, True, 1.5]}, 1),
    ("a text that looks like a number", {"enum": ["1", 2]}, "1"),
    ("one of some objects", {"enum": [{"a": 1}, {"a": 2}]}, {"a": 2}),
    ("the only value", {"const": "v2"}, "v2"),
    ("several of some words", {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True}, ["a", "c"]),
    ("several of some numbers", {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True}, [1, 3]),
    ("a list of texts", {"type": "array", "items": {"type": "string"}}, ["one", "two", "three"]),
    ("a list of numbers", {"type": "array", "items": {"type": "integer"}}, [3, 0, -1]),
    (
        "a list of lists",
        {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        [["a"], ["b", "c"]],
    ),
    (
        "a group",
        {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}},
        {"a": "text", "b": 7},
    ),
    (
        "a list of groups",
        {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        [{"name": "one"}, {"name": "two"}],
    ),
    (
        "groups in groups",
        {"type": "object", "properties": {"in": {"type": "object", "properties": {"y": {"type": "boolean"}}}}},
        {"in": {"y": True}},
    ),
    ("anything at all", {}, {"deep": [1, None, {"x": "y"}], "n": 1.5}),
    ("an open object", {"type": "object"}, {"any": ["thing"]}),
    ("a nullable text", {"type": ["string", "null"]}, "there"),
    ("a nullable number", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, 4),
    ("a text or a number", {"oneOf": [{"type": "string"}, {"type": "integer"}]}, 12),
    (
        "one of two shapes",
        {
            "oneOf": [
                {"type": "string", "title": "Text"},
                {"type": "object", "title": "Place", "properties": {"city": {"type": "string"}}},
            ]
        },
        {"city": "Ulm"},
    ),
    ("merged parts", {"allOf": [{"type": "string"}, {"minLength": 2}]}, "ab"),
    ("a reference", {"$ref": "#/$defs/Name"}, "ann"),
    ("a file that is kept", {"type": "string", "contentEncoding": "base64"}, base64.b64encode(b"data").decode()),
    ("odd characters in names", {"type": "object", "properties": {"a/b~c d": {"type": "string"}}}, {"a/b~c d": "x"}),
]


@pytest.mark.parametrize(("field", "value"), [row[1:] for row in UNCHANGED], ids=[row[0] for row in UNCHANGED])
def test_a_form_sent_back_unchanged_means_what_was_in_it_and_is_valid(field: Json, value: object) -> None:
    schema = {**form_schema(field), "$defs": {"Name": {"type": "string", "minLength": 1}}}
    assert check(schema, {"x": value}) == {}
    assert sent_back(schema, {"x": value}) == {"x": value}


@pytest.mark.parametrize("field", [row[1] for row in UNCHANGED], ids=[row[0] for row in UNCHANGED])
def test_a_form_that_nobody_touched_says_nothing_or_only_no(field: Json) -> None:
    """Optional fields left alone are left out: sellers see absence, never empty texts."""
    schema = {**form_schema(field, required=False), "$defs": {"Name": {"type": "string"}}}
    assert sent_back(schema, {}) in ({}, {"x": False}, {"x": "v2"}, {"x": {"in": {"y": False}}})


@pytest.mark.parametrize("field", [row[1] for row in UNCHANGED], ids=[row[0] for row in UNCHANGED])
def test_every_control_has_a_name_that_leads_back_to_its_field(field: Json) -> None:
    reader = read_form(html(build_form({**form_schema(field), "$defs": {"Name": {"type": "string"}}})))
    assert reader.controls
    names = [name for name in reader.controls if name != "_add"]  # the button's value is the pointer of its list
    assert [each["value"] for each in reader.controls.get("_add", [])][:1] in ([], ["/x"])
    assert all(name == "in/x" or name.startswith("in/x/") for name in names)


LIMITS: list[tuple[Json, str, str]] = [
    ({"type": "string", "minLength": 3}, "ab", "Write at least 3 characters."),
    ({"type": "string", "maxLength": 3}, "abcd", "Write at most 3 characters."),
    ({"type": "string", "pattern": "^[a-z]+$"}, "A", "This does not have the form that is asked for."),
    ({"type": "string", "format": "email"}, "ann", "This does not have the form that is asked for."),
    ({"type": "string", "format": "uri"}, "not an address", "This does not have the form that is asked for."),
    ({"type": "string", "format": "date"}, "20.11.2026", "This does not have the form that is asked for."),
    ({"type": "string", "format": "date"}, "2026-02-30", "This does not have the form that is asked for."),
    ({"type": "string", "format": "date-time"}, "tomorrow", "This does not have the form that is asked for."),
    ({"type": "string", "format": "time"}, "25:00", "This does not have the form that is asked for."),
    ({"type": "string", "format": "uuid"}, "123", "This does not have the form that is asked for."),
    ({"type": "string", "format": "ipv4"}, "999.1.1.1", "This does not have the form that is asked for."),
    ({"type": "integer", "minimum": 1}, "0", "Must be 1 or more."),
    ({"type": "integer", "maximum": 9}, "10", "Must be 9 or less."),
    ({"type": "number", "exclusiveMinimum": 0}, "0", "Must be more than 0."),
    ({"type": "number", "exclusiveMaximum": 1}, "1", "Must be less than 1."),
    ({"type": "number", "multipleOf": 0.5}, "0.3", "Must be a multiple of 0.5."),
    ({"type": "integer", "multipleOf": 5}, "12", "Must be a multiple of 5."),
    ({"type": "integer"}, "1.5", "Enter a whole number."),
    ({"type": "integer"}, "1e3", "Enter a whole number."),
    ({"type": "integer"}, "twelve", "Enter a whole number."),
    ({"type": "number"}, "0,5", "Enter a number, like 12 or 0.5."),
    ({"type": "number"}, "NaN", "Enter a number, like 12 or 0.5."),
    ({"type": "number"}, "Infinity", "Enter a number, like 12 or 0.5."),
    ({"type": "number"}, "1e999", "This number is too large."),
    ({"type": "number"}, "0x10", "Enter a number, like 12 or 0.5."),
    ({"enum": ["a", "b"]}, "c", "Choose one of the listed values."),
    ({"const": "only"}, "other", "Choose one of the listed values."),
    ({"type": "string"}, "", "This is needed."),
    ({"type": "string"}, "   ", "This is needed."),
    ({"type": "string", "minLength": 1}, "", "This is needed."),
    ({"type": "object"}, "{", "This is not valid JSON (line 1)."),
    ({"type": "object"}, "[1]", "This must be a group of fields."),
    ({}, "[" * 100_000, "This is not valid JSON."),
]


@pytest.mark.parametrize(("field", "text", "message"), LIMITS, ids=[f"{row[0]}-{row[1][:12]}" for row in LIMITS])
def test_what_is_wrong_is_said_at_the_field_in_plain_words(field: Json, text: str, message: str) -> None:
    assert typed(field, text)[1] == {"/x": message}


JUST_RIGHT: list[tuple[Json, str, object]] = [
    ({"type": "string", "minLength": 3}, "abc", "abc"),
    ({"type": "string", "maxLength": 3}, "abc", "abc"),
    ({"type": "string", "maxLength": 2}, "😀😀", "😀😀"),
    ({"type": "integer", "minimum": 1}, "1", 1),
    ({"type": "integer", "maximum": 9}, " 9 ", 9),
    ({"type": "integer"}, "+7", 7),
    ({"type": "integer"}, "007", 7),
    ({"type": "number"}, "12", 12),
    ({"type": "number"}, "-.5", -0.5),
    ({"type": "number"}, "2.", 2.0),
    ({"type": "number"}, "1e3", 1000.0),
    ({"type": "number", "exclusiveMinimum": 0}, "0.000001", 0.000001),
    ({"type": "string", "format": "date-time"}, "2026-11-20T12:30", "2026-11-20T12:30:00Z"),
    ({"type": "string", "format": "date-time"}, "2026-11-20T12:30:05", "2026-11-20T12:30:05Z"),
    ({"type": "string", "format": "date-time"}, "2026-11-20T12:30:05.25", "2026-11-20T12:30:05.25Z"),
    ({"type": "string", "format": "date-time"}, "2026-11-20T12:30:00+01:00", "2026-11-20T12:30:00+01:00"),
    ({"type": "string", "format": "time"}, "12:30", "12:30:00Z"),
    ({"type": "string", "format": "date"}, "2028-02-29", "2028-02-29"),
    ({"type": "string"}, " kept as typed ", " kept as typed "),
    ({"type": "string", "x-ui": {"editor": "textarea"}}, "a\r\nb\rc", "a\nb\rc"),
    ({"enum": [1, "1"]}, "1", "1"),
    ({"type": "object"}, '{"a": [1]}', {"a": [1]}),
]


@pytest.mark.parametrize(
    ("field", "text", "value"), JUST_RIGHT, ids=[f"{row[0]}-{row[1][:12]!r}" for row in JUST_RIGHT]
)
def test_what_just_fits_is_taken(field: Json, text: str, value: object) -> None:
    assert typed(field, text) == (value, {})


@pytest.mark.parametrize(
    ("field", "texts", "message"),
    [
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["a"], "Add at least 2."),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 1}, ["a", "b"], "At most 1 are allowed."),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, ["1", "1"],
         "Each one may appear only once."),
    ],
)  # fmt: skip
def test_limits_of_lists_are_said_at_the_list(field: Json, texts: list[str], message: str) -> None:
    schema = form_schema(field)
    parsed = parse_form(schema, {f"in/x/{number}": [text] for number, text in enumerate(texts)})
    assert check(schema, parsed.value) == {"/x": message}


def test_items_that_were_left_empty_close_up_and_errors_point_at_what_is_left() -> None:
    schema = form_schema({"type": "array", "items": {"type": "integer"}})
    parsed = parse_form(schema, {"in/x/0": [""], "in/x/2": ["5"], "in/x/7": ["six"]})
    assert parsed.value == {"x": [5, "six"]}
    assert parsed.errors == {"/x/1": "Enter a whole number."}
    assert "Enter a whole number." in html(build_form(schema, parsed.value, parsed.errors))


def test_a_list_is_read_by_number_not_by_spelling() -> None:
    schema = form_schema({"type": "array", "items": {"type": "string"}})
    parsed = parse_form(schema, {"in/x/10": ["c"], "in/x/9": ["b"], "in/x/1": ["a"], "in/x/__0__": ["blank"]})
    assert parsed.value == {"x": ["a", "b", "c"]}


def test_a_list_of_absurd_length_is_cut() -> None:
    schema = form_schema({"type": "array", "items": {"type": "string"}})
    parsed = parse_form(schema, {f"in/x/{number}": ["a"] for number in range(1000)})
    assert parsed.value == {"x": ["a"] * 200}


@pytest.mark.parametrize("index", ["-1", "1e9", "0x1", "9999999", "../0", "", "0 "])
def test_an_item_with_a_strange_number_is_ignored(index: str) -> None:
    schema = form_schema({"type": "array", "items": {"type": "string"}})
    assert parse_form(schema, {f"in/x/{index}": ["a"]}).value == {}


@pytest.mark.parametrize("chosen", ["2", "99", "-1", "x", ""])
def test_a_choice_that_does_not_exist_takes_the_first_or_none(chosen: str) -> None:
    schema = form_schema({"oneOf": [{"type": "string"}, {"type": "integer"}]}, required=False)
    parsed = parse_form(schema, {"in/x": [chosen], "in/x/~00": ["text"], "in/x/~01": ["5"]})
    assert parsed.value in ({}, {"x": "text"})


def test_only_the_chosen_shape_is_read() -> None:
    schema = form_schema({"oneOf": [{"type": "string"}, {"type": "integer"}]})
    for chosen, value in (("0", "text"), ("1", 5)):
        parsed = parse_form(schema, {"in/x": [chosen], "in/x/~00": ["text"], "in/x/~01": ["5"]})
        assert parsed.value == {"x": value}


def test_a_file_becomes_base64_and_lends_its_name_and_type_to_fields_left_empty() -> None:
    schema: Json = {
        "type": "object",
        "properties": {
            "file": {"type": "string", "contentEncoding": "base64"},
            "name": {"type": "string"},
            "media_type": {"type": "string"},
        },
    }
    upload = Upload("a.pdf", "application/pdf", b"%PDF")
    encoded = base64.b64encode(b"%PDF").decode()
    assert parse_form(schema, {"in/file": [upload]}).value == {
        "file": encoded, "name": "a.pdf", "media_type": "application/pdf",
    }  # fmt: skip
    assert parse_form(schema, {"in/file": [upload], "in/name": ["mine"]}).value == {
        "file": encoded, "name": "mine", "media_type": "application/pdf",
    }  # fmt: skip


def test_two_files_lend_nobody_their_name() -> None:
    item: Json = {"type": "string", "contentEncoding": "base64"}
    schema: Json = {"type": "object", "properties": {"a": item, "b": item, "name": {"type": "string"}}}
    uploads: Mapping[str, list[str | Upload]] = {"in/a": [Upload("1", "", b"x")], "in/b": [Upload("2", "", b"y")]}
    assert parse_form(schema, uploads).value == {"a": "eA==", "b": "eQ=="}


def test_an_empty_file_control_is_no_file_and_a_new_file_wins_over_the_kept_one() -> None:
    field: Json = {"type": "string", "contentEncoding": "base64"}
    nothing = Upload("", "application/octet-stream", b"")
    assert typed(field, nothing)[0] is None
    assert typed(field, nothing, "a2VwdA==")[0] == "a2VwdA=="
    assert typed(field, Upload("new.txt", "", b"new"), "a2VwdA==")[0] == base64.b64encode(b"new").decode()


def test_several_files_are_a_list() -> None:
    field: Json = {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}}
    assert typed(field, Upload("1", "", b"x"), Upload("2", "", b"y"))[0] == ["eA==", "eQ=="]


def test_a_file_where_a_text_belongs_is_not_taken_for_one() -> None:
    assert typed({"type": "string"}, Upload("a.txt", "text/plain", b"hello")) == (None, {"/x": "This is needed."})


def test_names_that_the_schema_does_not_know_are_ignored() -> None:
    parsed = parse_form(form_schema({"type": "string"}), {"in/x": ["a"], "in/y": ["b"], "_remove": ["/x"], "": ["c"]})
    assert parsed.value == {"x": "a"}


def test_an_unknown_field_is_complained_about_where_it_is_forbidden() -> None:
    schema: Json = {"type": "object", "properties": {"x": {}}, "additionalProperties": False}
    assert check(schema, {"x": 1, "y": 2}) == {"": "There is a field here that this agent does not know."}


def test_an_optional_group_left_empty_is_absent_and_asks_for_nothing() -> None:
    place: Json = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    for required, value in ((False, {}), (True, {"x": {}})):
        schema = form_schema(place, required=required)
        parsed = parse_form(schema, {"in/x": [""], "in/x/city": [""]})
        assert parsed.value == value
        assert check(schema, parsed.value) == ({"/x/city": "This is needed."} if required else {})


def test_an_empty_object_typed_as_json_is_kept() -> None:
    schema = form_schema({"type": "object"}, required=False)
    assert parse_form(schema, {"in/x": ["{}"]}).value == {"x": {}}


def test_conditional_schemas_are_checked_though_they_are_not_drawn() -> None:
    schema: Json = {
        "type": "object",
        "properties": {"kind": {"enum": ["person", "firm"]}, "tax": {"type": "string"}},
        "if": {"properties": {"kind": {"const": "firm"}}},
        "then": {"required": ["tax"]},
    }
    assert check(schema, {"kind": "person"}) == {}
    assert check(schema, {"kind": "firm"}) == {"/tax": "This is needed."}


def test_fields_that_belong_together_are_checked() -> None:
    schema: Json = {"type": "object", "properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}}
    assert check(schema, {"a": 1, "b": 2}) == {}
    assert check(schema, {"a": 1}) == {"/b": "This is needed."}


def test_a_value_nested_without_end_is_refused_in_words() -> None:
    deep: object = 1
    for _ in range(1000):
        deep = [deep]
    assert check({"type": "object"}, deep) == {"": "This is nested too deeply."}


def test_at_most_fifty_mistakes_are_listed() -> None:
    schema: Json = {"type": "array", "items": {"type": "integer"}}
    assert len(check(schema, ["x"] * 500)) == 50


@pytest.mark.parametrize(
    ("field", "attributes"),
    [
        ({"type": "string", "minLength": 2, "maxLength": 5}, {"minlength": "2", "maxlength": "5", "type": "text"}),
        ({"type": "string", "format": "email"}, {"type": "email"}),
        ({"type": "string", "format": "uri"}, {"type": "url"}),
        ({"type": "string", "format": "date"}, {"type": "date"}),
        ({"type": "string", "format": "time"}, {"type": "time"}),
        ({"type": "string", "format": "date-time"}, {"type": "datetime-local"}),
        ({"type": "string", "format": "no-such-format"}, {"type": "text"}),
        ({"type": "string", "pattern": "^a$"}, {"type": "text", "pattern": "^a$"}),
        ({"type": "string", "pattern": "a"}, {"type": "text", "pattern": ".*(?:a).*"}),
        ({"type": "string", "pattern": "a" * 201}, {"type": "text"}),
        ({"type": "string", "minLength": -1, "maxLength": "x"}, {"type": "text"}),
        ({"type": "integer", "minimum": 0, "maximum": 9},
         {"step": "1", "inputmode": "decimal", "min": "0", "max": "9"}),
        ({"type": "number", "minimum": True}, {"step": "any", "inputmode": "decimal"}),
        ({"type": "number", "multipleOf": 0.25}, {"step": "0.25", "inputmode": "decimal"}),
        ({"type": "number", "multipleOf": 0}, {"step": "any", "inputmode": "decimal"}),
    ],
)  # fmt: skip
def test_limits_help_while_typing(field: Json, attributes: dict[str, str]) -> None:
    assert one(field).attributes == attributes


@pytest.mark.parametrize("format_", ["date-time", "time"])
def test_times_say_that_they_are_in_utc_unless_the_author_says_otherwise(format_: str) -> None:
    assert one({"type": "string", "format": format_}).unit == "UTC"
    assert one({"type": "string", "format": format_, "x-ui": {"unit": "local time"}}).unit == "local time"
    assert one({"type": "string", "format": "date"}).unit == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-20T12:00:00Z", "2026-11-20T12:00:00"),
        ("2026-11-20T13:00:00+01:00", "2026-11-20T12:00:00"),
        ("2026-11-20T00:30:00+01:00", "2026-11-19T23:30:00"),
        ("2026-11-20T12:00", "2026-11-20T12:00:00"),
        ("12:00:00Z", "12:00:00"),
        ("00:30:00+01:00", "23:30:00"),
        ("12:00", "12:00:00"),
        ("0001-01-01T00:00:00+23:00", "0001-01-01T00:00:00+23:00"),
        ("tomorrow", "tomorrow"),
        ("", ""),
    ],
)
def test_moments_are_shown_as_pickers_take_them(text: str, shown: str) -> None:
    assert to_picker(text) == shown


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_goes_through_a_picker_and_comes_back(moment: datetime) -> None:
    text = str(moment).replace(" ", "T").replace("+00:00", "Z")
    assert from_picker(to_picker(text)) == text


@given(st.text(max_size=30))
def test_any_text_in_place_of_a_moment_is_kept_or_made_whole(text: str) -> None:
    assert from_picker(text) in (text, f"{text}Z", f"{text}:00Z")
    assert isinstance(to_picker(text), str)


field_values = st.one_of(
    st.tuples(st.just({"type": "string"}), st.text("ab <>&\"'/~é😀", min_size=1).filter(lambda text: text.strip())),
    st.tuples(st.just({"type": "integer"}), st.integers(-(10**30), 10**30)),
    st.tuples(st.just({"type": "number"}), st.floats(allow_nan=False, allow_infinity=False, width=32)),
    st.tuples(st.just({"type": "boolean"}), st.booleans()),
    st.tuples(st.just({"enum": ["a", 1, 2.5, False]}), st.sampled_from(["a", 1, 2.5, False])),
)
shapes = st.dictionaries(st.text(min_size=1, max_size=8), field_values, min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(shapes)
def test_any_flat_form_comes_back_as_it_was_drawn(fields: dict[str, tuple[Json, object]]) -> None:
    schema: Json = {"type": "object", "properties": {name: field for name, (field, _) in fields.items()}}
    value = {name: given for name, (_, given) in fields.items()}
    assert sent_back(schema, value) == value


PLAN: Json = {
    "type": "object",
    "properties": {
        "pivot": {"type": "boolean", "default": False},
        "order": {"enum": ["up", "down"], "default": "up"},
        "limit": {"type": "integer"},
        "measure": {
            "type": "object",
            "properties": {"aggregate": {"enum": ["sum", "mean"]}, "column": {"type": "string"}},
            "required": ["aggregate"],
        },
    },
    "required": ["measure"],
}


def test_an_optional_group_that_nobody_filled_in_asks_for_nothing() -> None:
    """Its unticked box and what is chosen beforehand are sent all the same."""
    schema = form_schema(PLAN, required=False)
    assert sent_back(schema, {}) == {}
    assert check(schema, {}) == {}
    started = {"x": {"measure": {"column": "units"}, "pivot": False, "order": "up"}}
    assert sent_back(schema, started) == started
    assert "/x/measure/aggregate" in check(schema, started)
    ticked = {"x": {"measure": {"aggregate": "sum"}, "pivot": True, "order": "up"}}
    assert sent_back(schema, ticked) == ticked


def test_a_group_that_is_needed_is_sent_with_its_empty_parts() -> None:
    assert sent_back(form_schema(PLAN), {}) == {"x": {"measure": {}, "pivot": False, "order": "up"}}
