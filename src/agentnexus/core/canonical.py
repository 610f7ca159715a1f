"""Canonical JSON (RFC 8785) and the hashes that receipts and idempotency rest on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import rfc8785
from pydantic import BaseModel

from agentnexus.core.errors import InvalidInput

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
# From here on the canonical form of a double has an exponent.
DOUBLE_DIGITS_END = 10**21
JsonObject: TypeAlias = "dict[str, Json]"


def canonical_json(value: Json | BaseModel) -> bytes:
    """The one byte form of a JSON value; raises `InvalidInput` for what JSON cannot carry."""
    plain = value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
    try:
        try:
            return rfc8785.dumps(plain)
        except rfc8785.IntegerDomainError:
            return rfc8785.dumps(_as_doubles(plain))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidInput(f"not canonical JSON: {error}") from error


def _as_doubles(value: Json) -> Json:
    """Large whole numbers back as the doubles they were: 1e20 is written as 100000000000000000000, and read as an int.

    Only those whose every digit a double's canonical text has; any other stays, and is refused.
    """
    if isinstance(value, int) and abs(value) < DOUBLE_DIGITS_END:
        number = float(value)
        return number if rfc8785.dumps(number) == str(value).encode() else value
    if isinstance(value, Mapping):
        return {key: _as_doubles(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_doubles(item) for item in value]
    return value


def content_hash(value: Json | BaseModel) -> str:
    """``sha256:<hex>`` of the canonical form."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def bytes_hash(data: bytes) -> str:
    """``sha256:<hex>`` of raw bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def idempotency_key(*parts: str) -> str:
    """A deterministic key from our own ids, the same after every restart."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
