"""RFC 8785 by its own tables: numbers, the order of names, what strings escape; and what has no canonical form."""

from __future__ import annotations

import hashlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from agentnexus.core.canonical import bytes_hash, canonical_json, content_hash, idempotency_key
from agentnexus.core.errors import InvalidInput

WHOLE = st.integers(-(2**53) + 1, 2**53 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | WHOLE | st.text(max_size=8) | FLOATS
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)


class Named(BaseModel):
    """A model whose wire name differs from its Python name."""

    pay_to: str = Field(alias="payTo")
    amount: int


def from_bits(bits: str) -> float:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert isinstance(number, float)
    return number


# Appendix B of the RFC, by the bits of the IEEE 754 double.
@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555554", "333333333.33333325"),
        ("41b3de4355555555", "333333333.3333333"),
        ("41b3de4355555556", "333333333.3333334"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_numbers_are_written_as_the_rfc_tabulates_them(bits: str, text: str) -> None:
    assert canonical_json(from_bits(bits)) == text.encode()


@pytest.mark.parametrize("bits", ["7fffffffffffffff", "7ff0000000000000", "fff0000000000000"])
def test_what_is_no_number_in_json_is_refused(bits: str) -> None:
    with pytest.raises(InvalidInput, match="not canonical JSON"):
        canonical_json({"deep": [from_bits(bits)]})


def test_the_example_document_of_the_rfc() -> None:
    document = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert canonical_json(document) == (
        b'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        b'"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_names_are_ordered_by_utf_16_units_and_not_by_code_points() -> None:
    document = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    assert list(json.loads(canonical_json(document)).values()) == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("\b\t\n\f\r", '"\\b\\t\\n\\f\\r"'),
        ("\x00\x01\x1f", '"\\u0000\\u0001\\u001f"'),
        ("\x7f\x80", '"\x7f\x80"'),
        ("/</script>", '"/</script>"'),
        ("\u2028\u2029", '"\u2028\u2029"'),
        ("e\u0301", '"e\u0301"'),
        ("\u00e9", '"\u00e9"'),
        ("\U0010ffff", '"\U0010ffff"'),
    ],
)
def test_strings_escape_what_json_must_escape_and_nothing_else(text: str, written: str) -> None:
    assert canonical_json(text) == written.encode()


def test_two_spellings_of_one_letter_are_two_hashes() -> None:
    assert content_hash("e\u0301") != content_hash("\u00e9")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ([], b"[]"),
        ({}, b"{}"),
        ("", b'""'),
        ({"": {"": [[]]}}, b'{"":{"":[[]]}}'),
        ({"b": 1, "a": 2, "B": 3, "A": 4}, b'{"A":4,"B":3,"a":2,"b":1}'),
        ({"10": 1, "9": 2, "1": 3}, b'{"1":3,"10":1,"9":2}'),
        ((1, (2,)), b"[1,[2]]"),
        (2**53 - 1, b"9007199254740991"),
        (-(2**53) + 1, b"-9007199254740991"),
        (1.0, b"1"),
        (True, b"true"),
    ],
)
def test_plain_values_have_one_form(value: object, written: bytes) -> None:
    assert canonical_json(value) == written  # type: ignore[arg-type]  # tuples are sequences of JSON


@given(FLOATS)
def test_a_double_is_the_same_after_any_number_of_journeys(number: float) -> None:
    written = canonical_json({"n": [number]})
    assert canonical_json(json.loads(written)) == written
    assert float(json.loads(written)["n"][0]) == number


@pytest.mark.parametrize(
    ("whole", "written"),
    [
        (2**53, b"9007199254740992"),
        (-(2**53), b"-9007199254740992"),
        (10**20, b"100000000000000000000"),
        (123456789012345680000, b"123456789012345680000"),
        ({"a": [10**17, 1]}, b'{"a":[100000000000000000,1]}'),
    ],
)
def test_a_large_whole_number_that_a_double_carries_is_that_double(whole: object, written: bytes) -> None:
    assert canonical_json(whole) == written  # type: ignore[arg-type]  # JSON


@pytest.mark.parametrize(
    "value",
    [
        2**53 + 1,
        -(2**53) - 1,
        2**60,
        10**21,
        10**40,
        10**400,
        {"deep": [{"in": 2**63 - 1}]},
        {1: "a number as a name"},
        {None: 1},
        b"bytes",
        {"set": {1}},
        pytest.param(object(), id="an object"),
        "\ud800",
        {"\udfff": 1},
        {"a": 1, "\ud800": 2},
        [["\udc00\ud800"]],
    ],
    ids=repr,
)
def test_what_json_cannot_carry_is_an_input_error_and_nothing_else(value: object) -> None:
    with pytest.raises(InvalidInput, match="not canonical JSON"):
        canonical_json(value)  # type: ignore[arg-type]  # the point of the test


def test_a_tower_of_lists_is_refused_and_does_not_end_the_process() -> None:
    tower: list[object] = []
    for _ in range(50_000):
        tower = [tower]
    with pytest.raises(InvalidInput):
        canonical_json(tower)  # type: ignore[arg-type]  # lists of lists


@given(JSON)
def test_writing_what_was_read_back_changes_nothing(value: object) -> None:
    once = canonical_json(value)  # type: ignore[arg-type]  # generated JSON
    assert canonical_json(json.loads(once)) == once


@given(JSON, JSON)
def test_different_values_have_different_bytes(one: object, other: object) -> None:
    same = json.loads(canonical_json(one)) == json.loads(canonical_json(other))  # type: ignore[arg-type]  # JSON
    if canonical_json(one) == canonical_json(other):  # type: ignore[arg-type]  # generated JSON
        assert same


@given(st.dictionaries(st.text(max_size=6), WHOLE, max_size=8))
def test_a_hash_is_sha_256_over_the_canonical_bytes(value: dict[str, int]) -> None:
    assert content_hash(value) == "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()
    assert content_hash(value) == bytes_hash(canonical_json(value))


def test_models_are_written_under_their_wire_names() -> None:
    model = Named(payTo="0xabc", amount=5)
    assert canonical_json(model) == b'{"amount":5,"payTo":"0xabc"}'
    assert content_hash(model) == content_hash({"payTo": "0xabc", "amount": 5})


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (b"\x00", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    ],
)
def test_bytes_are_hashed_as_the_standard_says(data: bytes, digest: str) -> None:
    assert bytes_hash(data) == f"sha256:{digest}"


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x1f"), max_size=6), min_size=1, max_size=4))
def test_only_the_same_parts_give_the_same_key(parts: list[str]) -> None:
    assert idempotency_key(*parts) == idempotency_key(*parts)
    assert idempotency_key(*parts, "") != idempotency_key(*parts)
    assert idempotency_key(*reversed(parts), "tail") != idempotency_key("tail", *parts, "more")
    assert len(idempotency_key(*parts)) == 64
