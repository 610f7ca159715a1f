"""References in inputs: found, filled from files and outputs, refused when they point at nothing."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import InvalidInput, InvalidPlan
from agentnexus.platform.blobs import MemoryBlobs
from agentnexus.workflows.model import FileRef
from agentnexus.workflows.references import (
    StepReference,
    decode_text,
    fill,
    part_of,
    read_reference,
    references,
    steps_used,
)


async def given_file(data: bytes, name: str = "a.txt") -> tuple[MemoryBlobs, list[FileRef]]:
    blobs = MemoryBlobs()
    return blobs, [FileRef(name=name, size_bytes=len(data), blob=await blobs.put(data))]


async def test_a_template_is_filled_with_bytes_text_names_and_outputs() -> None:
    blobs, files = await given_file("häuser".encode())
    template = {
        "file": {"$file": 0},
        "text": {"$file": 0, "as": "text"},
        "sources": [{"name": {"$file": 0, "as": "name"}, "text": {"$step": "s1", "path": "pages.1.text"}}],
        "plain": [1, None, "x", {"deep": True}],
    }
    outputs = {"s1": {"pages": [{"text": "one"}, {"text": "two"}]}}
    assert await fill(template, files=files, outputs=outputs, read=blobs.get) == {
        "file": base64.b64encode("häuser".encode()).decode(),
        "text": "häuser",
        "sources": [{"name": "a.txt", "text": "two"}],
        "plain": [1, None, "x", {"deep": True}],
    }


@pytest.mark.parametrize("path", ["nope", "pages.2", "pages.x", "pages.0.text.more", "pages.-1"])
def test_a_part_that_is_not_there_names_the_path(path: str) -> None:
    with pytest.raises(InvalidPlan, match=r"has no"):
        part_of({"s1": {"pages": [{"text": "one"}]}}, StepReference("s1", path))


def test_an_output_that_never_came_is_named() -> None:
    with pytest.raises(InvalidPlan, match="step s9 has no output"):
        part_of({}, StepReference("s9"))


async def test_a_file_that_does_not_exist_is_refused() -> None:
    blobs, files = await given_file(b"x")
    with pytest.raises(InvalidPlan, match="no file 1"):
        await fill({"$file": 1}, files=files, outputs={}, read=blobs.get)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("größe".encode(), "größe"),
        (b"\xef\xbb\xbfbom", "bom"),
        ("weit".encode("utf-16"), "weit"),
        ("größe".encode("cp1252"), "größe"),
        (b"", ""),
    ],
    ids=["utf-8", "bom", "utf-16", "windows", "empty"],
)
def test_text_is_read_in_the_encodings_people_have(data: bytes, text: str) -> None:
    assert decode_text(data) == text


def test_a_binary_file_is_not_text() -> None:
    with pytest.raises(InvalidInput, match=r"image\.png is not a text file"):
        decode_text(b"\x89PNG\x00\x00", "image.png")


def test_steps_are_listed_once_in_order() -> None:
    assert steps_used([{"$step": "b"}, {"x": {"$step": "a", "path": "p"}}, {"$step": "b"}]) == ("b", "a")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text().filter(lambda key: key not in ("$file", "$step")), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(PLAIN)
async def test_what_holds_no_reference_comes_out_as_it_went_in(value: object) -> None:
    async def read(_reference: str) -> bytes:
        raise AssertionError("nothing to read")

    assert list(references(value)) == []
    assert await fill(value, files=[], outputs={}, read=read) == value


@given(st.text(max_size=10), st.text(max_size=20))
def test_a_step_reference_survives_its_json_form(step: str, path: str) -> None:
    assert read_reference({"$step": step, "path": path}) == StepReference(step, path)


@pytest.mark.parametrize("part", ["²", "٣", "9" * 5000, "-0", "1.0", " 0", "0x0", ""])
def test_a_strange_number_is_no_place_in_a_list(part: str) -> None:
    with pytest.raises(InvalidPlan, match=r"has no"):
        part_of({"s1": ["one", "two"]}, StepReference("s1", part or f"{part}.x"))


def test_a_number_may_be_the_name_of_a_member() -> None:
    assert part_of({"s1": {"2024": {"0": "x"}}}, StepReference("s1", "2024.0")) == "x"


@pytest.mark.parametrize("index", [-1, 1, 99])
async def test_a_file_out_of_range_says_how_many_there_are(index: int) -> None:
    blobs, files = await given_file(b"x")
    with pytest.raises(InvalidPlan) as refused:
        await fill({"$file": index}, files=files, outputs={}, read=blobs.get)
    assert refused.value.next_step == "1 files were given"


@pytest.mark.parametrize(
    "value",
    [
        {"$file": "0"},
        {"$file": True},
        {"$file": 0.0},
        {"$file": None},
        {"$file": 0, "as": "bytes"},
        {"$file": 0, "as": ["text"]},
        {"$file": 0, "path": "x"},
        {"$step": 5},
        {"$step": "s1", "path": 0},
        {"$step": "s1", "as": "text"},
        {"$step": "s1", "$file": 0},
    ],
)
def test_what_is_nearly_a_reference_is_refused_and_quoted_briefly(value: dict[str, object]) -> None:
    with pytest.raises(InvalidPlan, match=r"not a (file|step) reference") as refused:
        read_reference({**value, **({"junk": "x" * 1000} if "junk" in value else {})})
    assert len(refused.value.message) <= 300


@pytest.mark.parametrize("value", [{}, {"file": 0}, {"step": "s1"}, "$file", 5, None, [], {"$schema": "x"}])
def test_what_names_no_reference_is_none(value: object) -> None:
    assert read_reference(value) is None


async def test_filling_leaves_the_template_as_it_was() -> None:
    template = {"a": [{"$step": "s1"}], "b": {"c": 1}}
    before = repr(template)
    await fill(template, files=[], outputs={"s1": {"x": 1}}, read=MemoryBlobs().get)
    assert repr(template) == before


async def test_what_a_seller_returned_is_data_and_its_references_are_not_followed() -> None:
    blobs, files = await given_file(b"secret")
    filled = await fill({"a": {"$step": "s1"}}, files=files, outputs={"s1": {"$file": 0}}, read=blobs.get)
    assert filled == {"a": {"$file": 0}}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"\xef\xbb\xbf", ""),
        ("häuser".encode("utf-16"), "häuser"),
        ("häuser".encode("utf-16-be"), None),
        (b"\xfe\xff" + "häuser".encode("utf-16-be"), "häuser"),
        ("häuser".encode("cp1252"), "häuser"),
        (b"\x81\x8d", "\ufffd\ufffd"),
        (b"a" * 5000 + b"\x00", "a" * 5000 + "\x00"),
    ],
)
def test_more_encodings(data: bytes, text: str | None) -> None:
    if text is None:
        with pytest.raises(InvalidInput, match=r"notes\.txt is not a text file") as refused:
            decode_text(data, "notes.txt")
        assert refused.value.details == {"field": "files"}
    else:
        assert decode_text(data) == text


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_refused_with_advice(data: bytes) -> None:
    try:
        assert isinstance(decode_text(data), str)
    except InvalidInput as refused:
        assert b"\x00" in data
        assert refused.next_step
