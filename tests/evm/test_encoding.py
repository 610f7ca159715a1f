"""Bytes of the EVM, held against eth_account's and eth_abi's own."""

from __future__ import annotations

import pytest
import rlp as reference_rlp
from eth_abi import encode
from eth_utils import keccak as reference_keccak
from eth_utils import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm import encoding

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
NO_ADDRESSES = ["", "0x", "0x12", ADDRESS[2:], ADDRESS + "00", "0x" + "g" * 40, None, 7, b"\x00" * 20]
rlp_leaves = st.binary(max_size=80) | st.integers(0, 2**256)
rlp_items = st.recursive(rlp_leaves, lambda inner: st.lists(inner, max_size=8), max_leaves=30)


def bytes_of(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


@given(st.binary(max_size=300))
def test_keccak_is_ethereums(data: bytes) -> None:
    assert encoding.keccak(data) == reference_keccak(data)


@given(bytes_of(20))
def test_checksums_are_eip_55(raw: bytes) -> None:
    lower = encoding.to_hex(raw)
    assert encoding.checksum_address(lower) == to_checksum_address(lower)
    assert encoding.address(encoding.checksum_address(lower)) == lower


@given(
    st.recursive(
        st.binary(max_size=80) | st.integers(0, 2**256), lambda inner: st.lists(inner, max_size=8), max_leaves=30
    )
)
def test_rlp_is_the_reference_rlp(item: encoding.RlpItem) -> None:
    assert encoding.rlp(item) == reference_rlp.encode(_as_reference(item))


def _as_reference(item: encoding.RlpItem) -> object:
    if isinstance(item, int):
        return item.to_bytes((item.bit_length() + 7) // 8, "big")
    return item if isinstance(item, bytes) else [_as_reference(part) for part in item]


@given(
    st.integers(0, 2**256 - 1),
    st.binary(min_size=20, max_size=20),
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=100),
)
def test_words_are_abi_words(number: int, raw: bytes, fixed: bytes, dynamic: bytes) -> None:
    address = encoding.to_hex(raw)
    ours = encoding.word(number) + encoding.word(address) + encoding.word(fixed)
    tail = encoding.word(4 * 32) + encoding.dynamic_bytes(dynamic)
    assert ours + tail == encode(["uint256", "address", "bytes32", "bytes"], [number, address, fixed, dynamic])


def test_strings_and_integers_are_read_back() -> None:
    assert encoding.string(encode(["string"], ["USD Coin"])) == "USD Coin"
    assert encoding.uint(encode(["uint256"], [7])) == 7
    assert encoding.word_address(encode(["address"], [ADDRESS])) == ADDRESS.lower()
    assert encoding.word_address("0x" + "00" * 12 + ADDRESS[2:]) == ADDRESS.lower()
    assert encoding.words(b"\x01" * 70) == [b"\x01" * 32, b"\x01" * 32]


def test_selectors_and_topics_are_the_known_ones() -> None:
    assert encoding.selector("transfer(address,uint256)").hex() == "a9059cbb"
    assert encoding.topic("Transfer(address,address,uint256)").startswith("0xddf252ad")


@pytest.mark.parametrize("text", [ADDRESS, ADDRESS.lower(), "0x" + ADDRESS[2:].upper()])
def test_addresses_compare_in_lower_case(text: str) -> None:
    assert encoding.address(text) == ADDRESS.lower()


@pytest.mark.parametrize(
    "text", ["", "0x", "0x12", ADDRESS[2:], ADDRESS + "00", "0x" + "g" * 40, None, 7, b"\x00" * 20]
)
def test_what_is_no_address_is_refused_by_name(text: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        encoding.address(text, field="payee")
    assert caught.value.details["field"] == "payee"


def test_one_wrong_letter_in_a_checksummed_address_is_noticed() -> None:
    with pytest.raises(InvalidInput, match="checksum"):
        encoding.address(ADDRESS.replace("aA", "Aa"))


@pytest.mark.parametrize("text", ["12", "0x1", "0xzz", None, 5])
def test_what_is_no_hex_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput):
        encoding.from_hex(text)


def test_a_wrong_size_is_refused() -> None:
    assert encoding.from_hex("0x" + "00" * 32, size=32) == bytes(32)
    with pytest.raises(InvalidInput, match="32 bytes"):
        encoding.from_hex("0x00", size=32)


@pytest.mark.parametrize("text", ["12", "0xzz", None, 5, ""])
def test_what_is_no_quantity_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput):
        encoding.quantity(text)


@pytest.mark.parametrize("value", [-1, 2**256, b"short"])
def test_what_fits_no_word_is_refused(value: int | bytes) -> None:
    with pytest.raises(InvalidInput):
        encoding.word(value)


def test_an_answer_of_less_than_a_word_is_not_zero() -> None:
    with pytest.raises(InvalidInput, match="less than one word"):
        encoding.uint(b"")
