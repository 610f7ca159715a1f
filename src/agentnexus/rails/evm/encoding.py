"""Bytes of the EVM: hex, Keccak, addresses, ABI words and RLP, as far as token payments need them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from Crypto.Hash import keccak as _keccak

from agentnexus.core.errors import InvalidInput

WORD = 32
MAX_WORD = (1 << 256) - 1
ZERO_ADDRESS = "0x" + "00" * 20

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*")
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")

RlpItem: TypeAlias = "bytes | int | Sequence[RlpItem]"


def keccak(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (not SHA3-256)."""
    return _keccak.new(digest_bits=256, data=data).digest()


def to_hex(data: bytes) -> str:
    return "0x" + data.hex()


def from_hex(text: object, *, size: int | None = None, field: str = "value") -> bytes:
    """Bytes of a ``0x…`` text; raises `InvalidInput` naming `field` for anything else or another size."""
    if not isinstance(text, str) or not _HEX.fullmatch(text):
        raise InvalidInput(f"{field} is not 0x-prefixed hex", field=field)
    data = bytes.fromhex(text[2:])
    if size is not None and len(data) != size:
        raise InvalidInput(f"{field} must be {size} bytes, not {len(data)}", field=field)
    return data


def quantity(value: object, *, field: str = "quantity") -> int:
    """A JSON-RPC quantity (``0x1f``) as an int."""
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise InvalidInput(f"{field} is not a JSON-RPC quantity", field=field)
    return int(value, 16)


def address(text: object, *, field: str = "address") -> str:
    """The lower-case form by which addresses are compared and stored.

    Mixed case is read as an EIP-55 checksum and must be right, so that a mistyped address is caught.
    """
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        raise InvalidInput(
            f"{field} is not an EVM address: {text!r}", field=field, next_step="give 0x and 40 hexadecimal digits"
        )
    lower = text.lower()
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and text != checksum_address(lower):
        raise InvalidInput(
            f"{field} has a wrong checksum: {text}",
            field=field,
            next_step="copy the address again, or write it all in lower case",
        )
    return lower


@lru_cache(maxsize=4096)
def checksum_address(lower: str) -> str:
    """EIP-55 mixed-case form of a lower-case address."""
    digits = lower[2:]
    digest = keccak(digits.encode()).hex()
    return "0x" + "".join(
        letter.upper() if int(nibble, 16) >= 8 else letter for letter, nibble in zip(digits, digest, strict=False)
    )


def public_key_address(uncompressed: bytes) -> str:
    """Address of a 65-byte uncompressed secp256k1 public key."""
    return to_hex(keccak(uncompressed[1:])[12:])


def selector(signature: str) -> bytes:
    """First four bytes of a call: ``selector("balanceOf(address)")``."""
    return keccak(signature.encode())[:4]


def topic(signature: str) -> str:
    """Topic zero of an event."""
    return to_hex(keccak(signature.encode()))


def word(value: int | str | bytes) -> bytes:
    """One 32-byte ABI word: an unsigned integer, a lower-case address, or bytes32."""
    if isinstance(value, bytes):
        if len(value) != WORD:
            raise InvalidInput(f"a word has 32 bytes, not {len(value)}")
        return value
    if isinstance(value, str):
        return bytes(12) + bytes.fromhex(value[2:])
    if not 0 <= value <= MAX_WORD:
        raise InvalidInput("an unsigned 256-bit integer was expected")
    return value.to_bytes(WORD, "big")


def dynamic_bytes(data: bytes) -> bytes:
    """Length and zero-padded content of an ABI ``bytes``."""
    return word(len(data)) + data + bytes(-len(data) % WORD)


def words(data: bytes) -> list[bytes]:
    """Returned or logged data cut into words; a ragged end is dropped."""
    return [data[at : at + WORD] for at in range(0, len(data) - WORD + 1, WORD)]


def uint(data: bytes) -> int:
    """The one integer that a call returned; raises `InvalidInput` when it returned less than a word."""
    if len(data) < WORD:
        raise InvalidInput("the contract returned less than one word; is it the contract it should be?")
    return int.from_bytes(data[:WORD], "big")


def string(data: bytes) -> str:
    """The one string that a call returned."""
    offset = uint(data)
    length = uint(data[offset:])
    return data[offset + WORD : offset + WORD + length].decode("utf-8", "replace")


def word_address(data: bytes | str) -> str:
    """The address in a word or topic."""
    raw = from_hex(data) if isinstance(data, str) else data
    return to_hex(raw[-20:])


def rlp(item: RlpItem) -> bytes:
    """Recursive-length prefix, with integers in their shortest form."""
    if isinstance(item, int):
        return rlp(item.to_bytes((item.bit_length() + 7) // 8, "big"))
    if isinstance(item, bytes):
        return item if len(item) == 1 and item[0] < 0x80 else _rlp_prefix(0x80, len(item)) + item
    return rlp_list(b"".join(rlp(part) for part in item))


def rlp_list(body: bytes) -> bytes:
    """A list whose items are encoded already."""
    return _rlp_prefix(0xC0, len(body)) + body


def _rlp_prefix(base: int, length: int) -> bytes:
    if length < 56:
        return bytes([base + length])
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([base + 55 + len(size)]) + size
