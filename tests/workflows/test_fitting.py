"""What the planner reads out of a seller's input schema: slots for files, texts, questions, sources and settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.offers import Capability, Schema
from agentnexus.workflows.model import FileRef
from agentnexus.workflows.planner.fitting import (
    Field,
    Kind,
    converts,
    form_of,
    kind_of,
    result_path,
    text_path,
)

STRING: Schema = {"type": "string"}
FILE: Schema = {"type": "string", "contentEncoding": "base64"}


def file(name: str, media_type: str = "application/octet-stream") -> FileRef:
    return FileRef(name=name, media_type=media_type, size_bytes=1, blob="sha256:" + "0" * 64)


def capability(properties: Schema, required: list[str] | None = None, **more: object) -> Capability:
    takes: Schema = {"type": "object", "properties": properties, "required": required or [], **more}
    return Capability(name="x.y", input_schema=takes)


def gives(schema: Schema) -> Capability:
    return Capability(name="x.y", output_schema=schema)


@pytest.mark.parametrize(
    ("name", "media_type", "kind"),
    [
        ("a.pdf", "application/octet-stream", Kind.PDF),
        ("A.PDF", "", Kind.PDF),
        ("archive.tar.pdf", "", Kind.PDF),
        ("a.csv", "", Kind.TABLE),
        ("a.tsv", "", Kind.TABLE),
        ("a.XLSX", "", Kind.TABLE),
        ("a.parquet", "", Kind.TABLE),
        ("a.htm", "", Kind.HTML),
        ("a.md", "", Kind.TEXT),
        ("a.log", "", Kind.TEXT),
        ("report", "application/pdf", Kind.PDF),
        ("report", "APPLICATION/PDF; version=1.7", Kind.PDF),
        ("page", "text/html; charset=utf-8", Kind.HTML),
        ("table", "text/csv", Kind.TABLE),
        ("notes", "text/plain", Kind.TEXT),
        ("picture.png", "image/png", Kind.OTHER),
        ("pdf", "", Kind.OTHER),
        (".pdf", "", Kind.OTHER),
        ("no extension", "", Kind.OTHER),
        ("a.pdf.exe", "", Kind.OTHER),
    ],
)
def test_a_file_is_what_its_ending_says_else_what_its_media_type_says(name: str, media_type: str, kind: Kind) -> None:
    assert kind_of(file(name, media_type)) is kind


def test_the_ending_wins_over_a_media_type_that_contradicts_it() -> None:
    assert kind_of(file("a.csv", "application/pdf")) is Kind.TABLE


@given(st.text(min_size=1, max_size=40), st.text(max_size=40))
def test_every_file_has_some_kind(name: str, media_type: str) -> None:
    assert kind_of(file(name, media_type)) in Kind


@pytest.mark.parametrize(
    ("accept", "name", "media_type", "taken"),
    [
        ((), "a.pdf", "", True),
        ((), "a.html", "", True),
        ((), "a.txt", "", True),
        ((), "a.csv", "", False),
        ((), "a.png", "", False),
        ((".pdf",), "a.pdf", "", True),
        ((".pdf",), "A.PDF", "", True),
        ((".pdf",), "a.txt", "", False),
        ((".pdf",), "report", "application/pdf", True),
        ((".pdf",), "a.txt", "application/pdf", False),
        (("application/pdf",), "a.pdf", "", True),
        (("application/pdf",), "a.csv", "", False),
        ((".csv",), "a.xlsx", "", False),
        ((".csv", ".xlsx"), "a.xlsx", "", True),
        (("text/csv",), "a.xlsx", "", True),
        ((".png",), "a.png", "", True),
        (("image/png",), "picture", "image/png", True),
        ((".txt",), "notes", "text/plain", False),
    ],
)
def test_a_slot_takes_what_its_hint_names(accept: tuple[str, ...], name: str, media_type: str, taken: bool) -> None:
    assert Field("file", FILE, accept).takes(file(name, media_type)) is taken


def test_slots_are_found_by_their_usual_names() -> None:
    form = form_of(
        capability(
            {
                "data": FILE, "content": STRING, "page_html": STRING, "link": STRING, "prompt": STRING,
                "filename": STRING, "mime_type": STRING,
            },
            ["content"],
        )
    )  # fmt: skip
    slots = [form.file, form.text, form.html, form.url, form.question, form.label, form.media_type]
    assert [slot and slot.name for slot in slots] == [
        "data", "content", "page_html", "link", "prompt", "filename", "mime_type",
    ]  # fmt: skip
    assert form.required == {"content"}
    assert form.fillable() == {"data", "content", "page_html", "link", "prompt", "filename", "mime_type"}


@pytest.mark.parametrize(
    ("names", "chosen"),
    [(["body", "text"], "text"), (["input", "document"], "document"), (["passage", "markdown"], "passage")],
)
def test_of_several_text_slots_the_likeliest_is_taken_whatever_the_order(names: list[str], chosen: str) -> None:
    for order in (names, names[::-1]):
        form = form_of(capability(dict.fromkeys(order, STRING)))
        assert form.text is not None
        assert form.text.name == chosen


def test_names_are_compared_without_case() -> None:
    form = form_of(capability({"Text": STRING, "QUESTION": STRING}))
    assert form.text is not None
    assert form.question is not None
    assert (form.text.name, form.question.name) == ("Text", "QUESTION")


def test_a_list_of_fixed_words_is_a_setting_and_no_text_slot() -> None:
    form = form_of(capability({"text": {"type": "string", "enum": ["long", "short"]}}))
    assert form.text is None


def test_the_null_of_an_optional_field_is_no_obstacle() -> None:
    form = form_of(capability({"text": {"anyOf": [STRING, {"type": "null"}]}, "file": {"type": ["string", "null"]}}))
    assert form.text is not None
    assert form.fillable() == {"text"}


def test_hints_are_read_from_the_field_and_from_inside_a_union() -> None:
    outer = form_of(capability({"file": {**FILE, "x-ui": {"accept": ".PDF, .csv"}}}))
    inner = form_of(capability({"file": {"anyOf": [{**FILE, "contentMediaType": "text/csv"}, {"type": "null"}]}}))
    assert outer.file is not None
    assert outer.file.accept == (".pdf", ".csv")
    assert inner.file is not None
    assert inner.file.accept == ("text/csv",)


def test_whole_numbers_are_settings_and_others_are_not() -> None:
    form = form_of(capability({"sentences": {"type": "integer", "maximum": 9}, "ratio": {"type": "number"}}))
    assert dict(form.numbers) == {"sentences": {"type": "integer", "maximum": 9}}


def test_lists_of_fixed_words_are_choices() -> None:
    form = form_of(
        capability({"want": {"type": "array", "items": {"enum": ["text", "tables"]}}, "tags": {"type": "array"}})
    )
    assert dict(form.choices) == {"want": ("text", "tables")}


def test_a_list_of_documents_is_found_and_looked_into_once() -> None:
    item: Schema = {"type": "object", "properties": {"name": STRING, "text": STRING, "file": FILE}}
    form = form_of(capability({"question": STRING, "sources": {"type": "array", "items": item}}))
    assert form.sources is not None
    assert form.sources.name == "sources"
    assert form.sources.item.text is not None
    assert form.sources.item.file is not None
    assert form.sources.item.sources is None
    assert form.fillable() == {"question", "sources"}


def test_a_list_of_things_that_hold_no_document_is_no_list_of_sources() -> None:
    item: Schema = {"type": "object", "properties": {"weight": {"type": "number"}}}
    assert form_of(capability({"parts": {"type": "array", "items": item}})).sources is None


def test_items_may_be_named_by_reference() -> None:
    found = form_of(
        capability(
            {"documents": {"type": "array", "items": {"$ref": "#/$defs/Doc"}}},
            **{"$defs": {"Doc": {"type": "object", "properties": {"body": STRING}}}},
        )
    )
    assert found.sources is not None
    assert found.sources.item.text is not None
    assert found.sources.item.text.name == "body"


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "string"},
        {"type": "object"},
        {"type": "object", "properties": "nonsense"},
        {"$ref": "https://evil.example/schema.json"},
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"type": "array", "items": {"$ref": "#"}},
        {"properties": {"a": {"type": "array", "items": {"$ref": "#"}}}},
        {"properties": {"a": 5, "b": None, "c": ["x"], "d": True}},
        {"properties": {"file": {**FILE, "x-ui": "nonsense", "contentMediaType": 7}}},
    ],
)
def test_a_schema_that_says_nothing_or_nonsense_makes_a_form_without_harm(schema: Schema) -> None:
    found = form_of(Capability(name="x.y", input_schema=schema))
    assert found.question is None
    assert text_path(gives(schema)) is None


def test_a_schema_that_offers_alternatives_is_read_by_its_first() -> None:
    form = form_of(
        Capability(
            name="x.y",
            input_schema={
                "oneOf": [
                    {"type": "object", "properties": {"text": STRING}},
                    {"type": "object", "properties": {"url": STRING}},
                ]
            },
        )
    )
    assert form.text is not None
    assert form.url is None


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"properties": {"text": STRING}}, "text"),
        ({"properties": {"result": {"properties": {"text": STRING}}}}, "result.text"),
        ({"properties": {"text": STRING, "result": {"properties": {"text": STRING}}}}, "text"),
        ({"properties": {"result": {"$ref": "#/$defs/R"}}, "$defs": {"R": {"properties": {"body": STRING}}}},
         "result.body"),
        ({"properties": {"result": {"anyOf": [{"type": "null"}, {"properties": {"markdown": STRING}}]}}},
         "result.markdown"),
        ({"properties": {"text": {"type": "integer"}}}, None),
        ({"properties": {"result": STRING}}, None),
        ({"properties": {"summary": STRING}}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_where_an_output_holds_text_for_others(schema: Schema, path: str | None) -> None:
    assert text_path(gives(schema)) == path


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"properties": {"result": STRING, "cost": {}}}, "result"),
        ({"properties": {"answer": STRING}}, ""),
        ({"anyOf": [{"type": "null"}, {"properties": {"result": {}}}]}, "result"),
        ({}, ""),
    ],
)
def test_the_envelope_around_a_result_is_opened(schema: Schema, path: str) -> None:
    assert result_path(gives(schema)) == path


def extractor(required: list[str], accept: str = ".pdf") -> Capability:
    return Capability(
        name="pdf.extract",
        input_schema={
            "type": "object",
            "properties": {"file": {**FILE, "x-ui": {"accept": accept}}, "pages": STRING},
            "required": required,
        },
        output_schema={"properties": {"result": {"properties": {"text": STRING}}}},
    )


def test_a_conversion_needs_the_file_alone_and_gives_text() -> None:
    assert converts(extractor(["file"]), file("a.pdf")) == "result.text"
    assert converts(extractor([]), file("a.pdf")) == "result.text"


def test_what_needs_more_than_the_file_or_another_kind_is_no_conversion() -> None:
    assert converts(extractor(["file", "pages"]), file("a.pdf")) is None
    assert converts(extractor(["file"]), file("a.csv")) is None
    assert converts(capability({"text": STRING}), file("a.pdf")) is None


def test_what_gives_no_text_is_no_conversion() -> None:
    found = extractor(["file"]).model_copy(update={"output_schema": {"properties": {"pages": {"type": "integer"}}}})
    assert converts(found, file("a.pdf")) is None
