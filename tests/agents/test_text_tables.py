"""Sentences, words, stems and encodings by table: what readers of several languages expect."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.sdk.texts import content_words, decode_text, is_ended, looks_binary, paragraphs, sentences, stem, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t ", []),
        ("One.", ["One."]),
        ("No stop at the end", ["No stop at the end"]),
        ("Dr. Smith came. He left.", ["Dr. Smith came.", "He left."]),
        ("It costs 3.5 euros. Cheap!", ["It costs 3.5 euros.", "Cheap!"]),
        ("Use e.g. this one. And that.", ["Use e.g. this one.", "And that."]),
        ("Wait... what? Yes.", ["Wait... what?", "Yes."]),
        ('He said "Go." Then left.', ['He said "Go."', "Then left."]),
        ("J. R. R. Tolkien wrote. Yes.", ["J. R. R. Tolkien wrote.", "Yes."]),
        ("U.S. forces. Left.", ["U.S. forces.", "Left."]),
        ("Das ist z.B. gut. Und dies.", ["Das ist z.B. gut.", "Und dies."]),
        ("First.Second is one word.", ["First.Second is one word."]),
        ("What?! Really.", ["What?!", "Really."]),
        ("(He left.) She stayed.", ["(He left.)", "She stayed."]),
        ("See Fig. 3 and no. 5. Done.", ["See Fig. 3 and no. 5.", "Done."]),
        ("No. It is not.", ["No.", "It is not."]),
        ("\u6771\u4eac\u3067\u3059\u3002\u5927\u962a\u3067\u3059\u3002",
         ["\u6771\u4eac\u3067\u3059\u3002", "\u5927\u962a\u3067\u3059\u3002"]),
        ("\u4f60\u597d\uff01\u518d\u89c1\uff1f", ["\u4f60\u597d\uff01", "\u518d\u89c1\uff1f"]),
        ("end.\n\nNew block", ["end.", "New block"]),
        ("one\ftwo", ["one", "two"]),
        ("a line\nbroken in two. Next.", ["a line broken in two.", "Next."]),
        ("a hyphen-\nated word. Next.", ["a hyphenated word.", "Next."]),
        ("A\u00a0hard  blank\tand tabs. Yes.", ["A hard blank and tabs.", "Yes."]),
        ("\u00bfQu\u00e9? S\u00ed. \u00a1Vale!", ["\u00bfQu\u00e9?", "S\u00ed.", "\u00a1Vale!"]),
        ("Ends with an ellipsis\u2026 Then more.", ["Ends with an ellipsis\u2026", "Then more."]),
    ],
)  # fmt: skip
def test_texts_are_cut_into_the_sentences_readers_see(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("sentence", "ended"),
    [
        ("Yes.", True), ("Yes!", True), ("Yes?", True), ("Yes\u2026", True), ('"Yes."', True), ("(Yes.)", True),
        ("\u3067\u3059\u3002", True), ("\u300c\u306f\u3044\u3002\u300d", True),
        ("Heading", False), ("1,234", False), ("a:", False),
        ("", False), (". no", False),
    ],
)  # fmt: skip
def test_running_text_ends_with_a_stop(sentence: str, ended: bool) -> None:
    assert is_ended(sentence) is ended


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("turbine", "turbines"), ("study", "studies"), ("country", "countries"), ("class", "classes"), ("box", "boxes"),
        ("stop", "stopped"), ("run", "running"), ("river", "river's"),
        ("price", "prices"), ("plan", "planning"), ("close", "closing"),
    ],
)  # fmt: skip
def test_forms_of_one_word_meet(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize(
    ("one", "other"), [("class", "clap"), ("bus", "but"), ("power", "tower"), ("sun", "son"), ("is", "it")]
)
def test_different_words_stay_apart(one: str, other: str) -> None:
    assert stem(one) != stem(other)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don't stop-me now", ["don't", "stop-me", "now"]),
        ("na\u00efve CAF\u00c9", ["na\u00efve", "caf\u00e9"]),
        ("3.5 MW, 1,200", ["3", "5", "mw", "1", "200"]),
        ("a_b __c__", ["a", "b", "c"]),
        ("\u6771\u4eac\u30bf\u30ef\u30fc", ["\u6771\u4eac", "\u4eac\u30bf", "\u30bf\u30ef", "\u30ef\u30fc"]),
        ("\u6c34", ["\u6c34"]),
        ("\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440",
         ["\u043f\u0440\u0438\u0432\u0435\u0442", "\u043c\u0438\u0440"]),
        ("-- \u2013 ... \U0001f600", []),
        ("", []),
    ],
)  # fmt: skip
def test_words_of_every_script_are_found(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize("text", ["the and of", "Der die das", "le la les", "el los", "What is it?", "", "!!!"])
def test_small_words_of_four_languages_mean_nothing(text: str) -> None:
    assert content_words(text) == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"abc", "abc"),
        ("\u20ac".encode(), "\u20ac"),
        (codecs.BOM_UTF8 + b"abc", "abc"),
        ("abc".encode("utf-16"), "abc"),
        ("abcdef".encode("utf-16-le"), "abcdef"),
        ("abcdef".encode("utf-16-be"), "abcdef"),
        ("abc".encode("utf-32"), "abc"),
        (b"\x93quoted\x94 \x80", "\u201cquoted\u201d \u20ac"),
        (b"\x81\x8d", "\x81\x8d"),
        (codecs.BOM_UTF16_LE + b"a", "\ufffd"),
    ],
)
def test_bytes_become_the_text_that_was_meant(data: bytes, text: str) -> None:
    assert decode_text(data)[0] == text


@pytest.mark.parametrize(
    ("data", "binary"),
    [
        (b"", False), (b"plain\ttext\r\n", False), (b"\x1b[31mred", False), ("abc".encode("utf-16"), False),
        ("abcdef".encode("utf-16-le"), False), (b"\x00" * 50, True), (b"\x7fELF\x01\x01\x00\x00", True),
        (bytes(range(256)), True), ("\u00e4\u00f6\u00fc\n".encode("latin-1") * 20, False),
    ],
)  # fmt: skip
def test_text_is_told_from_other_bytes(data: bytes, binary: bool) -> None:
    assert looks_binary(data) is binary


@given(
    st.lists(
        st.sampled_from(["A short line.", "one that goes on for quite a while here", "", "HEADING", "- item"]),
        max_size=12,
    )
)
def test_blocks_hold_every_word_in_order_and_no_line_break(lines: list[str]) -> None:
    found = paragraphs("\n".join(lines))
    assert " ".join(found).split() == " ".join(lines).split()
    assert all(block and "\n" not in block for block in found)


@given(st.text(max_size=200))
def test_cutting_a_sentence_again_gives_the_same_sentence(text: str) -> None:
    for sentence in sentences(text):
        assert "".join(sentences(sentence)).replace(" ", "") == sentence.replace(" ", "")
