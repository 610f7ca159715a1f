"""The file that remembers who is signed in where: tokens by node, in NEXUS home, for its owner only."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from agentnexus.core.errors import InvalidInput, NotAllowed

NAME = "sign-in.json"
OTHERS_MAY = 0o077
HERE = "here"  # the economy that `nexus up` runs in this home, whatever its address is today


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A person at a node, by a token."""

    user: str
    token: str

    def __repr__(self) -> str:
        return f"SignedIn({self.user})"


def home() -> Path:
    """NEXUS home."""
    return Path(os.environ.get("NEXUS_HOME", ".nexus"))


def place() -> str:
    """The node that commands talk to now, as this file names it."""
    return os.environ.get("NEXUS_API_URL") or HERE


def signed_in(node: str) -> SignedIn | None:
    """Who is signed in at a node (its address, or `HERE`); a token is never sent to another one.

    Raises `NotAllowed` when others may read the file, `InvalidInput` when it is none of ours.
    """
    found = _read().get(_name(node))
    return None if found is None else SignedIn(found["user"], found["token"])


def remember(node: str, who: SignedIn) -> Path:
    """Keep the token. The file's path."""
    return _write({**_read(), _name(node): asdict(who)})


def forget(node: str) -> bool:
    """Drop the token of a node. Whether there was one."""
    known = _read()
    there = known.pop(_name(node), None) is not None
    if there:
        _write(known)
    return there


def _name(node: str) -> str:
    return node.rstrip("/").lower()


def _read() -> dict[str, dict[str, str]]:
    path = home() / NAME
    if not path.exists():
        return {}
    if path.stat().st_mode & OTHERS_MAY:
        raise NotAllowed(f"{path} is readable by others", next_step=f"chmod 600 {path}, and sign in again")
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        known = None
    if not isinstance(known, dict) or not all(_is_entry(each) for each in known.values()):
        raise InvalidInput(f"{path} is damaged", next_step="delete it, and sign in again")
    return cast("dict[str, dict[str, str]]", known)


def _is_entry(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("user"), str) and isinstance(value.get("token"), str)


def _write(known: dict[str, dict[str, str]]) -> Path:
    """Whole or not at all: into a file beside it first, which nobody else can read at any moment."""
    path = home() / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{NAME}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(known, file)
    beside.replace(path)
    return path
