"""Base58 of any length, as Bitcoin and Solana write bytes; keys and signatures have their own types in solders."""

from __future__ import annotations

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
# The work grows with the square of the length; nothing on Solana is longer than a transaction of 1232 bytes.
MAX_TEXT = 2_000


def encode(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    letters = []
    while number:
        number, value = divmod(number, 58)
        letters.append(_ALPHABET[value])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return _ALPHABET[0] * zeros + "".join(reversed(letters))


def decode(text: str) -> bytes:
    """Raises `ValueError` for other letters and for texts over `MAX_TEXT`."""
    if len(text) > MAX_TEXT:
        raise ValueError("too long for base58")
    number = 0
    for letter in text:
        if letter not in _VALUES:
            raise ValueError("not base58")
        number = number * 58 + _VALUES[letter]
    zeros = len(text) - len(text.lstrip(_ALPHABET[0]))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
