"""Compiled contracts, committed so that running anything needs no compiler; made by ``contracts/tools/export``.

EntryPoint's own code is not here: it is published by others, and where a chain lacks it, it comes from npm.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from agentnexus.core.errors import NotFound


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract: its ABI (as JSON values) and creation bytecode, empty where only the ABI is ours."""

    name: str
    abi: list[dict[str, object]]
    bytecode: bytes


@cache
def load_artifact(name: str) -> Artifact:
    """Raises `NotFound` for a contract that was never exported."""
    source = files(__name__) / f"{name}.json"
    if not source.is_file():
        raise NotFound(f"no compiled contract named {name}", next_step="build it and run contracts/tools/export")
    document = json.loads(source.read_text())
    return Artifact(name, document["abi"], bytes.fromhex(document.get("bytecode", "").removeprefix("0x")))
