"""Sentences, words and encodings: the plain-text helpers that text agents share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.sdk.texts import content_words, decode_text, looks_binary, paragraphs, sentences, stem, words


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("It rained. We left.", ["It rained.", "We left."]),
        ("The value is 3.14 here. Done.", ["The value is 3.14 here.", "Done."]),
        ("Dr. Meyer met Mr. J. Smith. They spoke.", ["Dr. Meyer met Mr. J. Smith.", "They spoke."]),
        ("See Fig. 3 and No. 7. Then stop.", ["See Fig. 3 and No. 7.", "Then stop."]),
        ("Really?! Yes. \u201cNo.\u201d He left.", ["Really?!", "Yes.", "\u201cNo.\u201d", "He left."]),
        ("Wait... and then it went on. End.", ["Wait... and then it went on.", "End."]),
        ("河流泛滥。村庄很老。", ["河流泛滥。", "村庄很老。"]),
        ("No stop at all", ["No stop at all"]),
        ("", []),
    ],
)
def test_sentences_end_where_readers_say_they_end(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


def test_lines_of_one_paragraph_are_joined_and_hyphens_healed() -> None:
    wrapped = "The station was con-\nnected to the grid in nineteen\nsixty-six by the engineers of\nthe company."

    assert paragraphs(wrapped) == [
        "The station was connected to the grid in nineteen sixty-six by the engineers of the company."
    ]


def test_headings_and_cells_stay_apart_from_the_text_below_them() -> None:
    text = "Water power\nHydropower is the oldest renewable source of electricity that is\nused widely.\nItaipu\n14,000"

    assert paragraphs(text) == [
        "Water power",
        "Hydropower is the oldest renewable source of electricity that is used widely.",
        "Itaipu",
        "14,000",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("turbines", "turbine"),
        ("batteries", "battery"),
        ("stopped", "stop"),
        ("opened", "open"),
        ("calculated", "calculate"),
    ],
)
def test_forms_of_a_word_meet_in_their_stem(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize("word", ["gas", "glass", "is", "bus", "sea", "red"])
def test_short_words_keep_enough_of_themselves(word: str) -> None:
    assert len(stem(word)) >= 2


def test_small_words_carry_no_meaning() -> None:
    assert content_words("Where is the largest of all the dams?") == [stem("largest"), stem("dams")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_text_is_decoded_whatever_it_was_written_in(encoding: str) -> None:
    text = "Größe und Höhe über dem Meer, naïve café"

    assert decode_text(text.encode(encoding))[0] == text


def test_bytes_that_fit_no_encoding_are_still_read() -> None:
    assert decode_text(b"caf\xe9 \x81 open") == ("caf\xe9 \x81 open", "latin-1")


@pytest.mark.parametrize(
    ("data", "binary"),
    [
        (b"a,b\n1,2\n", False),
        ("ü".encode() * 50, False),
        (bytes(500), True),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", True),
    ],
)
def test_binary_data_is_told_from_text(data: bytes, binary: bool) -> None:
    assert looks_binary(data) is binary


@given(st.text())
def test_sentences_lose_no_visible_character(text: str) -> None:
    kept = "".join("".join(sentences(text)).split()).replace("-", "")
    assert kept == "".join(text.replace("\f", " ").split()).replace("-", "")


@given(st.text())
def test_words_are_lower_case_and_without_blanks(text: str) -> None:
    assert all(word and not any(character.isspace() for character in word) for word in words(text))


@given(st.binary(max_size=300))
def test_any_bytes_decode_to_text(data: bytes) -> None:
    text, encoding = decode_text(data)

    assert isinstance(text, str)
    assert encoding
