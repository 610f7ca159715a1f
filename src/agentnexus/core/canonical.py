"""Canonical JSON (RFC 8785) and the hashes that receipts and idempotency rest on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import rfc8785
from pydantic import BaseModel

from agentnexus.core.errors import InvalidInput

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"


def canonical_json(value: Json | BaseModel) -> bytes:
    """The one byte form of a JSON value; raises `InvalidInput` for what JSON cannot carry."""
    plain = value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value
    try:
        return rfc8785.dumps(plain)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidInput(f"not canonical JSON: {error}") from error


def content_hash(value: Json | BaseModel) -> str:
    """``sha256:<hex>`` of the canonical form."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def bytes_hash(data: bytes) -> str:
    """``sha256:<hex>`` of raw bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def idempotency_key(*parts: str) -> str:
    """A deterministic key from our own ids, the same after every restart."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
