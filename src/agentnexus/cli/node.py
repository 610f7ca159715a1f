"""Find the running economy and talk to its API."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import httpx
import psutil

from agentnexus.cli.sign_in_file import SignedIn, home, place, signed_in
from agentnexus.core.errors import NexusError, Unavailable

DESCRIPTION = "devnet.json"
REQUEST_SECONDS = 60.0
CONNECT_RETRIES = 3


@dataclass(frozen=True, slots=True)
class Node:
    """Where a node is and who we are to it."""

    api_url: str
    token: str
    user: str
    facts: dict[str, object]


class RemoteError(NexusError):
    """An error that the node answered, with the node's own code, status and advice."""

    def __init__(self, status: int, body: dict[str, object]) -> None:
        details = body.get("details")
        super().__init__(
            str(body.get("message", f"the node answered {status}")),
            next_step=advice(body),
            **(cast("dict[str, object]", details) if isinstance(details, dict) else {}),
        )
        self.remote_code = str(body.get("code", "internal"))

    @property
    def code(self) -> str:  # type: ignore[override]  # a class constant in our own errors, the node's word here
        return self.remote_code


def advice(error: Mapping[str, object]) -> str:
    """What to do about an error that the node answered; play money is to be had where it runs here."""
    told = str(error.get("next_step") or "")
    plays = not os.environ.get("NEXUS_API_URL") and (home() / DESCRIPTION).exists()
    if plays and error.get("code") == "insufficient_funds" and "USDC" in told:
        return f"{told}; play money: nexus wallet top-up 5"
    return told


def find_node() -> Node:
    """Where ``NEXUS_API_URL`` says, or the economy of ``<home>/devnet.json``; raises `Unavailable` with advice.

    The token is ``NEXUS_TOKEN``, or that of `nexus sign-in`, or the economy's own.
    """
    url = os.environ.get("NEXUS_API_URL")
    if url:
        who = _who(SignedIn(os.environ.get("NEXUS_USER", "local"), ""))
        return Node(url, who.token, who.user, {})
    path = home() / DESCRIPTION
    advice = "start it with `nexus up` in another terminal, or set NEXUS_API_URL and NEXUS_TOKEN"
    if not path.exists():
        raise Unavailable("no economy is running here", next_step=advice)
    facts = json.loads(path.read_text(encoding="utf-8"))
    if not _alive(int(facts["pid"]), path.stat().st_mtime):
        raise Unavailable("the economy that ran here has stopped", next_step=advice)
    who = _who(SignedIn(str(facts["user"]), str(facts["token"])))
    return Node(str(facts["api_url"]), who.token, who.user, facts)


def _who(otherwise: SignedIn) -> SignedIn:
    token = os.environ.get("NEXUS_TOKEN")
    if token:
        return SignedIn(os.environ.get("NEXUS_USER", otherwise.user), token)
    return signed_in(place()) or otherwise


def _alive(pid: int, described_at: float) -> bool:
    """Whether the process that wrote the description lives; a later process may have got its number."""
    try:
        return psutil.Process(pid).create_time() <= described_at
    except psutil.NoSuchProcess:
        return False


@asynccontextmanager
async def api(node: Node) -> AsyncIterator[httpx.AsyncClient]:
    """A client for the node's API that turns its error answers into `RemoteError`."""

    async def check(answer: httpx.Response) -> None:
        if answer.status_code < 400:
            return
        await answer.aread()
        try:
            body = answer.json()
        except ValueError:
            body = {}
        error = body.get("error") if isinstance(body, dict) else None
        if isinstance(error, str):  # the sentence alone, with the rest of the error beside it
            error = {**body, "message": error}
        raise RemoteError(answer.status_code, error if isinstance(error, dict) else {"message": answer.text[:300]})

    try:
        async with httpx.AsyncClient(
            base_url=node.api_url,
            headers={"Authorization": f"Bearer {node.token}"} if node.token else {},
            timeout=REQUEST_SECONDS,
            transport=httpx.AsyncHTTPTransport(retries=CONNECT_RETRIES),  # bridges a restart of the API
            event_hooks={"response": [check]},
        ) as client:
            yield client
    except httpx.TransportError as error:
        raise Unavailable(
            f"the node at {node.api_url} does not answer: {error or type(error).__name__}",
            next_step="see whether `nexus up` still runs",
        ) from error
