"""Endpoints that are told of events, and what was delivered to them. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from urllib.parse import urlsplit

from agentnexus.core.errors import InvalidInput
from agentnexus.core.events import EventName
from agentnexus.core.offers import Noun
from agentnexus.platform.outbound import is_public

URL_MAX = 2000
KNOWN = frozenset({"*", *(name.value for name in EventName), *(f"{name.value.split('.')[0]}.*" for name in EventName)})


class Signature(StrEnum):
    """How an endpoint wants its messages signed."""

    HMAC = "hmac-sha256"
    ED25519 = "ed25519"


class Webhook(Noun):
    """An endpoint of a user. `reason` says why it is not enabled; `failures` counts deliveries given up in a row.

    `secret` is as the database keeps it, sealed; only the answer that makes one has it as it is.
    """

    id: str
    user_id: str
    url: str
    events: tuple[str, ...]
    signature: Signature
    secret: str
    enabled: bool
    reason: str
    failures: int
    created_at: datetime
    updated_at: datetime

    def to_json(self, *, with_secret: bool = False) -> dict[str, object]:
        """Without the secret, which is shown once; in both spellings, like workflows."""
        own = self.model_dump(mode="json", exclude=set() if with_secret else {"secret"})
        return {**own, "userId": self.user_id, "createdAt": own["created_at"]}


class Delivery(Noun):
    """One event on its way to one endpoint: ``waiting``, ``delivered`` or ``failed``; `answer` begins the last one."""

    webhook_id: str
    run_id: str
    sequence: int
    name: str
    state: str
    attempts: int
    next_at: datetime
    status: int | None
    answer: str
    created_at: datetime
    delivered_at: datetime | None

    @property
    def event_id(self) -> str:
        return event_id(self.run_id, self.sequence)

    def to_json(self) -> dict[str, object]:
        return {"event_id": self.event_id, **self.model_dump(mode="json")}


def event_id(run_id: str, sequence: int) -> str:
    """The same for every attempt: receivers drop what they know."""
    return f"evt_{run_id}_{sequence}"


def checked_events(events: Sequence[str]) -> list[str]:
    """Names, groups (``step.*``) or ``*``. Raises `InvalidInput`."""
    strange = sorted(set(events) - KNOWN)
    if strange or not events:
        raise InvalidInput(
            f"{strange[0]!r} is not an event" if strange else "no events are named",
            field="events",
            next_step="use names such as workflow.completed, groups such as workflow.*, or *",
        )
    return sorted(set(events))


def checked_url(url: str, *, allow_local: bool) -> str:
    """An address on the open internet over HTTPS; in development this machine over HTTP too. Raises `InvalidInput`.

    A name may still lead elsewhere: what it resolves to is checked again whenever it is dialled.
    """
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise _bad_url("is not an address") from None
    if len(url) > URL_MAX or not host or not url.isprintable() or " " in url:
        raise _bad_url("is not an address")
    if parts.username is not None or parts.password is not None:
        raise _bad_url("has a name or password in it")
    if parts.scheme != "https" and not (allow_local and parts.scheme == "http"):
        raise _bad_url("does not begin with https://")
    if not _reachable(host, allow_local=allow_local):
        raise _bad_url(f"is not on the open internet: {host}")
    return url


def _reachable(host: str, *, allow_local: bool) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return allow_local or not (host == "localhost" or host.endswith((".localhost", ".local", ".internal")))
    return (allow_local and address.is_loopback) or is_public(host)


def _bad_url(why: str) -> InvalidInput:
    return InvalidInput(
        f"the webhook's address {why}", field="url", next_step="give an https:// address that the internet can reach"
    )
