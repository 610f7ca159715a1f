"""Forms from JSON Schemas: every kind of field, the way back, errors at fields, and schemas that mean harm."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentnexus.web.forms import Field, Form, Kind, Upload, build_form, check, parse_form
from agentnexus.web.rendering import environment
from tests.web import samples

DRAW = environment().from_string('{% import "components/forms.html" as f %}{{ f.fields_of(form.fields) }}')


def one(schema: dict[str, object], value: object = None, **errors: str) -> Field:
    """The only field of a form with the property ``x``."""
    wrapped = {"type": "object", "properties": {"x": schema}}
    given_value = None if value is None else {"x": value}
    return build_form(wrapped, given_value, {f"/{name}": text for name, text in errors.items()}).fields[0]


def html(form: Form) -> str:
    return DRAW.render(form=form)


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string"}, Kind.TEXT),
        ({"type": "string", "maxLength": 5000}, Kind.TEXTAREA),
        ({"type": "string", "x-ui": {"editor": "textarea"}}, Kind.TEXTAREA),
        ({"type": "string", "format": "password"}, Kind.SECRET),
        ({"type": "string", "writeOnly": True}, Kind.SECRET),
        ({"type": "string", "contentEncoding": "base64"}, Kind.FILE),
        ({"type": "array", "items": {"type": "string", "contentEncoding": "base64"}}, Kind.FILES),
        ({"type": "integer"}, Kind.NUMBER),
        ({"type": ["number", "null"]}, Kind.NUMBER),
        ({"type": "boolean"}, Kind.BOOLEAN),
        ({"enum": ["a", 1, None]}, Kind.SELECT),
        ({"const": "only"}, Kind.SELECT),
        ({"type": "array", "items": {"enum": ["a"]}, "uniqueItems": True}, Kind.CHECKS),
        ({"type": "array", "items": {"enum": ["a", "b"], "type": "string"}}, Kind.CHECKS),
        ({"type": "array", "items": {"enum": ["a", "b"]}, "default": ["a", "b"], "minItems": 1}, Kind.CHECKS),
        ({"type": "array", "items": {"enum": ["a"]}, "uniqueItems": False}, Kind.LIST),
        ({"type": "array", "items": {"type": "string"}}, Kind.LIST),
        ({"type": "object", "properties": {"y": {"type": "string"}}}, Kind.GROUP),
        ({"type": "object"}, Kind.JSON),
        ({}, Kind.JSON),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, Kind.TEXT),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, Kind.CHOICE),
        ({"allOf": [{"type": "string"}, {"format": "email"}]}, Kind.TEXT),
        ({"enum": [str(n) for n in range(5000)]}, Kind.TEXT),
    ],
)
def test_each_schema_gets_its_control(schema: dict[str, object], kind: Kind) -> None:
    assert one(schema).kind is kind


def test_limits_become_attributes_of_the_control() -> None:
    number = one({"type": "integer", "minimum": 1, "maximum": 20})
    assert number.attributes == {"step": "1", "inputmode": "decimal", "min": "1", "max": "20"}
    text = one({"type": "string", "minLength": 2, "maxLength": 9, "pattern": "^a+$", "format": "email"})
    assert text.attributes == {"minlength": "2", "maxlength": "9", "type": "email", "pattern": "^a+$"}
    assert one({"type": "string", "pattern": "b"}).attributes["pattern"] == ".*(?:b).*"


def test_the_authors_wishes_for_the_form_are_followed() -> None:
    schema = {
        "type": "object",
        "properties": {
            "b": {"type": "string", "x-ui": {"order": 2, "prefill": "hello"}},
            "a": {"type": "number", "x-ui": {"order": 1, "unit": "euro", "section": "Amounts"}},
        },
    }
    first, second = build_form(schema).fields
    assert (first.label, first.unit, first.section) == ("A", "euro", "Amounts")
    assert second.value == "hello"


def test_defaults_fill_the_form_and_given_values_win() -> None:
    assert one({"type": "integer", "default": 5}).value == "5"
    assert one({"type": "integer", "default": 5}, 7).value == "7"
    assert one({"type": "boolean", "default": True}).checked
    assert one({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}).value == ""
    assert one({"type": "integer", "default": 5, "x-ui": {"prefill": "7"}}).value == "5"
    assert [o.selected for o in one({"enum": ["a", "b"], "default": "b"}).options] == [False, True]


def test_ids_differ_where_names_differ_only_in_punctuation() -> None:
    names = ["a b", "a.b", "a/b", "a~b", "a-b", "A b"]
    form = build_form({"type": "object", "properties": {name: {"type": "string"} for name in names}})
    assert len({field.id for field in form.fields}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", field.id) for field in form.fields)


def test_a_posted_form_becomes_the_json_it_stands_for() -> None:
    posted = {
        "in/question": ["Why?"],
        "in/sources": [""],
        "in/sources/0": [""],
        "in/sources/0/name": ["a.txt"],
        "in/sources/0/text": ["one\r\ntwo"],
        "in/sources/7/file": [Upload("b.pdf", "application/pdf", b"%PDF")],
        "in/top_k": ["3"],
        "in/style": ["full"],
        "in/since": [""],
        "unknown": ["x"],
    }
    parsed = parse_form(samples.QA_INPUT, posted)
    assert parsed.errors == {}
    assert parsed.value == {
        "question": "Why?",
        "sources": [{"name": "a.txt", "text": "one\ntwo"}, {"file": "JVBERg==", "name": "b.pdf"}],
        "top_k": 3,
        "style": "full",
    }
    assert check(samples.QA_INPUT, parsed.value) == {}


def test_checkboxes_tell_no_from_not_asked() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "boolean"}}}
    assert parse_form(schema, {}).value == {}
    assert parse_form(schema, {"in/x": ["false"]}).value == {"x": False}
    assert parse_form(schema, {"in/x": ["false", "true"]}).value == {"x": True}


def test_enum_values_come_back_with_their_own_types() -> None:
    schema = {"type": "object", "properties": {"x": {"enum": [1, "1", True, None, "b"]}}}
    assert parse_form(schema, {"in/x": ["true"]}).value == {"x": True}
    assert parse_form(schema, {"in/x": ["b"]}).value == {"x": "b"}
    assert parse_form(schema, {"in/x": ["c"]}).value == {"x": "c"}
    assert check(schema, {"x": "c"}) == {"/x": "Choose one of the listed values."}


@pytest.mark.parametrize("text", ["abc", "1.5.2", "0x10", "1e999", "nan", "inf", "9" * 60, "--1"])
def test_what_is_no_number_stays_as_typed_with_a_message(text: str) -> None:
    parsed = parse_form({"type": "object", "properties": {"x": {"type": "number"}}}, {"in/x": [text]})
    assert parsed.value == {"x": text}
    assert "/x" in parsed.errors
    assert one({"type": "number"}, text, x=parsed.errors["/x"]).value == text


def test_numbers_of_every_usual_form_are_read() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "number"}}}
    for text, number in (("12", 12), ("-3", -3), ("0.5", 0.5), (".5", 0.5), ("2.", 2.0), ("1e3", 1000.0), (" 7 ", 7)):
        assert parse_form(schema, {"in/x": [text]}).value == {"x": number}


def test_the_chosen_shape_of_a_union_is_the_one_that_is_read_and_marked() -> None:
    schema = {
        "type": "object",
        "properties": {
            "x": {"oneOf": [{"type": "string"}, {"type": "object", "properties": {"n": {"type": "integer"}}}]}
        },
    }
    posted = {"in/x": ["1"], "in/x/~00": ["text"], "in/x/~01/n": ["12"]}
    assert parse_form(schema, posted).value == {"x": {"n": 12}}
    assert parse_form(schema, {**posted, "in/x": ["9"]}).value == {}
    field = build_form(schema, {"x": {"n": "z"}}, {"/x/n": "Enter a whole number."}).fields[0]
    assert [option.selected for option in field.options] == [False, True]
    assert field.children[1].children[0].error == "Enter a whole number."


@pytest.mark.parametrize(
    ("value", "pointer", "message"),
    [
        ({}, "/question", "This is needed."),
        ({"question": "a", "sources": []}, "/question", "Write at least 3 characters."),
        ({"question": "abc", "sources": []}, "/sources", "This is needed."),
        ({"question": "abc", "sources": [{}]}, "/sources/0/name", "This is needed."),
        ({"question": "abc", "sources": [{"name": "a"}], "top_k": 21}, "/top_k", "Must be 20 or less."),
        ({"question": "abc", "sources": [{"name": "a"}], "top_k": 1.5}, "/top_k", "Enter a whole number."),
        ({"question": 3, "sources": [{"name": "a"}]}, "/question", "This must be text."),
        ({"question": "abc", "since": "soon"}, "/since", "This does not have the form that is asked for."),
    ],
)
def test_mistakes_are_named_at_their_place_in_plain_words(value: dict[str, object], pointer: str, message: str) -> None:
    assert check(samples.QA_INPUT, value)[pointer] == message


def test_a_mistake_inside_a_nullable_field_is_named_at_the_field() -> None:
    assert check(samples.PDF_INPUT, {"file": "", "pages": "x!"}) == {
        "/pages": "This does not have the form that is asked for."
    }


def test_an_error_that_belongs_to_no_field_is_shown_on_top() -> None:
    form = build_form(samples.QA_INPUT, {}, {"/gone": "There is a field here that this agent does not know."})
    assert form.errors == ("There is a field here that this agent does not know.",)
    failed = build_form(samples.QA_INPUT, {"sources": [{"name": ""}]}, {"/sources/0/name": "This is needed."}).failed
    assert [field.pointer for field in failed] == ["/sources/0/name"]


def test_every_error_is_tied_to_its_control() -> None:
    form = build_form(samples.QA_INPUT, {"sources": [{}]}, {"/top_k": "Too large.", "/sources/0/name": "Needed."})
    drawn = html(form)
    for field in form.failed:
        control = re.search(rf'<(?:input|textarea)[^>]*id="{field.id}"[^>]*>', drawn)
        assert control is not None
        assert f'aria-describedby="{field.described_by}"' in control[0]
        assert 'aria-invalid="true"' in control[0]
        assert f'id="{field.id}-error"' in drawn


def test_a_file_that_was_sent_before_is_kept_through_a_redrawn_form() -> None:
    data = base64.b64encode(b"x" * 3000).decode()
    form = build_form(samples.PDF_INPUT, {"file": data})
    assert form.fields[0].kept == data
    assert parse_form(samples.PDF_INPUT, {"in/file": [data]}).value == {"file": data}
    again = parse_form(samples.PDF_INPUT, {"in/file": [data, Upload("b.pdf", "application/pdf", b"new")]})
    assert again.value == {"file": base64.b64encode(b"new").decode()}


def test_secrets_are_never_written_into_the_page() -> None:
    form = build_form(samples.PDF_INPUT, {"password": "open sesame"})
    assert "open sesame" not in html(form)


# ---- schemas that mean harm -----------------------------------------------------------------------------------------


def test_a_schema_that_refers_to_itself_is_drawn_and_bounded() -> None:
    endless = {"$ref": "#/$defs/Node", "$defs": {"Node": {"type": "object", "properties": {
        "name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
        "left": {"$ref": "#/$defs/Node"}, "right": {"$ref": "#/$defs/Node"}}}}}  # fmt: skip
    assert len(html(build_form(endless))) < 2_000_000
    assert parse_form(endless, {"in/name": ["a"], "in/left/name": ["b"]}).value == {"name": "a", "left": {"name": "b"}}
    assert build_form({"$ref": "#"}).fields[0].kind is Kind.JSON
    assert build_form({"$ref": "http://127.0.0.1:1/steal"}).fields[0].kind is Kind.JSON
    assert check({"$ref": "http://127.0.0.1:1/steal"}, {})[""].startswith("This agent describes")


def test_huge_schemas_make_small_forms() -> None:
    wide = {"type": "object", "properties": {f"p{n}": {"enum": list(range(250))} for n in range(5000)}}
    assert len(build_form(wide).fields) == 200
    huge = {"type": "object", "properties": {"x": {"enum": [f"v{n}" for n in range(100_000)]}}}
    assert len(html(build_form(huge))) < 100_000
    deep: dict[str, object] = {"type": "string"}
    for _ in range(500):
        deep = {"type": "object", "properties": {"x": deep}}
    assert len(html(build_form(deep))) < 100_000


def test_a_pattern_that_would_run_for_ever_does_not() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": "^(a+)+$"}}}
    assert "/x" in check(schema, {"x": "a" * 5000 + "b"})


@pytest.mark.parametrize(
    "schema", [{"type": 5}, {"properties": {"x": {"minimum": "a"}}}, {"$ref": "#/nowhere"}, {"pattern": "("}]
)
def test_a_broken_schema_is_said_to_be_broken(schema: dict[str, object]) -> None:
    assert "" in check(schema, {"x": 1})
    build_form(schema)


def test_nothing_in_a_schema_becomes_markup() -> None:
    attack = '"><script>alert(1)</script>'
    schema = {
        "type": "object",
        "required": [attack],
        "properties": {
            attack: {"type": "string", "title": attack, "description": attack, "default": attack, "pattern": attack},
            "e": {"enum": [attack], "x-ui": {"unit": attack, "section": attack}},
            "l": {"type": "array", "title": attack, "items": {"type": "object", "properties": {attack: {}}}},
            "f": {"type": "string", "contentEncoding": "base64", "contentMediaType": attack},
        },
    }
    drawn = html(build_form(schema, {attack: attack, "l": [{attack: attack}]}, {"/e": attack}))
    assert "<script" not in drawn
    assert "&lt;script&gt;" in drawn


names = st.text(min_size=1, max_size=12)
plain = st.one_of(st.text(max_size=8), st.integers(), st.none(), st.booleans())
simple: list[dict[str, object]] = [{"type": kind} for kind in ("string", "integer", "boolean", "number", "null")]
leaves = st.one_of(
    st.sampled_from([*simple, {}]),
    st.builds(lambda values: {"enum": values}, st.lists(plain, max_size=4)),
    st.dictionaries(names, plain, max_size=4),
)


def _object(properties: dict[str, object], required: list[str]) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": required}


schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(_object, st.dictionaries(names, inner, max_size=4), st.lists(names, max_size=3)),
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(
            lambda parts, word: {word: parts}, st.lists(inner, max_size=3), st.sampled_from(["oneOf", "anyOf", "allOf"])
        ),
    ),
    max_leaves=10,
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    schema=schemas,
    value=values,
    posted=st.dictionaries(st.text(max_size=20), st.lists(st.text(max_size=9), max_size=2), max_size=4),
)
def test_any_schema_and_any_post_are_survived(
    schema: dict[str, object], value: object, posted: dict[str, list[str]]
) -> None:
    drawn = html(build_form(schema, value, {"/x": "<b>wrong"}))
    assert "<b>" not in drawn
    parsed = parse_form(schema, {f"in{name}": texts for name, texts in posted.items()})
    json.dumps(parsed.value)
    check(schema, parsed.value)


@settings(max_examples=100, deadline=None)
@given(
    question=st.text(alphabet="abc xyzäöü<>&\"'", min_size=3, max_size=40).filter(lambda text: text.strip() == text),
    sources=st.lists(st.fixed_dictionaries({"name": st.text("abc.", min_size=1, max_size=9)}), min_size=1, max_size=4),
    top_k=st.integers(1, 20),
    style=st.sampled_from(["short", "full"]),
)
def test_a_drawn_form_sent_back_unchanged_means_the_same(**value: object) -> None:
    form = build_form(samples.QA_INPUT, value)
    posted: dict[str, list[str | Upload]] = {}

    def fill(fields: tuple[Field, ...]) -> None:
        for field in fields:
            if field.kind in (Kind.GROUP, Kind.LIST):
                fill(field.children)
            elif field.kind is Kind.SELECT:
                posted[field.name] = [option.value for option in field.options if option.selected]
            elif field.value:
                posted[field.name] = [field.value]

    fill(form.fields)
    assert parse_form(samples.QA_INPUT, posted).value == value
