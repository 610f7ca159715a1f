"""Compiled contracts, committed so that running anything needs no compiler; made by ``contracts/tools/export``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from agentnexus.core.errors import NotFound


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract: its ABI (as JSON values) and creation bytecode."""

    name: str
    abi: list[dict[str, object]]
    bytecode: bytes


def load_artifact(name: str) -> Artifact:
    """Raises `NotFound` for a contract that was never exported."""
    source = files(__name__) / f"{name}.json"
    if not source.is_file():
        raise NotFound(f"no compiled contract named {name}", next_step="build it and run contracts/tools/export")
    document = json.loads(source.read_text())
    return Artifact(name, document["abi"], bytes.fromhex(document["bytecode"].removeprefix("0x")))
