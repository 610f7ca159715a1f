"""What the page for signing in shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

SHORT_CHARS: Final = 14


@dataclass(frozen=True, slots=True)
class PasskeyView:
    """One of the visitor's passkeys."""

    id: str
    name: str
    created_at: datetime
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeviceView:
    """Where the visitor is signed in. `way` as in ``with a passkey``; `is_current`: here."""

    id: str
    name: str
    way: str
    signed_in_at: datetime
    last_used_at: datetime | None = None
    is_current: bool = False


@dataclass(frozen=True, slots=True)
class VisitorView:
    """Who is signed in. `name` is for people, `way` is ``session``, ``token`` or ``local``; `address` gets codes."""

    person_id: str
    name: str
    way: str
    address: str = ""
    passkeys: Sequence[PasskeyView] = ()
    devices: Sequence[DeviceView] = ()


@dataclass(frozen=True, slots=True)
class ConnectPage:
    """The ways in.

    Args:
        stale: the browser's cookie is over, and to be taken away.
        mail: whether codes can be sent; `mail_folder` is where a development node leaves them.
        no_passkeys: why passkeys cannot be used at this address; `by_name` is where they can, "" for nowhere.
    """

    visitor: VisitorView | None = None
    stale: bool = False
    mail: bool = True
    mail_folder: str = ""
    no_passkeys: str = ""
    by_name: str = field(default="")


def short_person(person_id: str) -> str:
    """A person's name where there is little room: wallets by both ends, hashes by their beginning."""
    if person_id.startswith("0x") and len(person_id) == 42:
        return f"{person_id[:6]}…{person_id[-4:]}"
    kind, _, rest = person_id.partition(".")
    if kind in ("mail", "passkey", "ed25519") and rest:
        words = {"mail": "e-mail", "passkey": "passkey", "ed25519": "key"}
        return f"{words[kind]} {rest[:4]}"
    return person_id if len(person_id) <= SHORT_CHARS else f"{person_id[: SHORT_CHARS - 1]}…"
