"""What the built-in agents' answers have in common: one envelope, where it came from, and how big a file may be."""

from __future__ import annotations

import hashlib
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from agentnexus.sdk.context import Refusal

ResultT = TypeVar("ResultT", bound=BaseModel)

MAX_FILE_BYTES = 32 * 1024 * 1024


class Part(BaseModel):
    """Base of requests and answers: a field nobody declared is a mistake, not a silent loss."""

    model_config = ConfigDict(extra="forbid")


class Source(Part):
    """Where a part of the answer comes from. `fetched_at` is RFC 3339 UTC and only set for what was fetched."""

    name: str
    url: str | None = None
    fetched_at: str | None = None
    sha256: str | None = Field(default=None, description="of the bytes that were read")


class OutsideCost(Part):
    """What the agent itself had to spend on others for this answer (0 when it works alone)."""

    amount_minor: int = Field(default=0, ge=0, description="smallest units of the currency")
    currency: str = "USDC"


class Envelope(Part, Generic[ResultT]):
    """Every answer: the result, how it was made, from what, and what the reader should be careful about."""

    result: ResultT
    engine: Literal["rules", "llm"] = Field(default="rules", description="`llm` when a language model took part")
    sources: list[Source] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    cost: OutsideCost = Field(default_factory=OutsideCost)


def check_size(data: bytes, *, field: str = "file", limit_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The same bytes. Raises `Refusal` when there are none or more than the limit."""
    megabyte = 1024 * 1024
    if len(data) > limit_bytes:
        raise Refusal(
            f"the file has {len(data) / megabyte:.1f} MB, this agent reads at most {limit_bytes // megabyte} MB",
            next_step="split the file or send only the part you need",
            field=field,
        )
    if not data:
        raise Refusal("the file is empty", next_step="send a file that has content", field=field)
    return data


def source_of(name: str, data: bytes) -> Source:
    """A source that was sent along, named and fingerprinted."""
    return Source(name=name, sha256=hashlib.sha256(data).hexdigest())
