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
