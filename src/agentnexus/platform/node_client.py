"""What clients of a blockchain's node share: one address, one pool of connections, JSON posted in one packet."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx

from agentnexus.platform.neighbour import NeighbourTransport

_HEADERS = {"content-type": "application/json", "accept": "application/json"}


class NodeClient:
    """One node. Safe to share between tasks of one event loop.

    Args:
        url: HTTP address of the node.
        timeout_seconds: for one request.
    """

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self.url = url
        # The node is a neighbour, not the web: a proxy from the environment must not see our transactions.
        self._transport = NeighbourTransport()
        timeout = httpx.Timeout(timeout_seconds)
        self._http = httpx.AsyncClient(timeout=timeout, trust_env=False, transport=self._transport)
        self._target = httpx.URL(url)
        self._extensions = {"timeout": timeout.as_dict()}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(self, body: bytes) -> httpx.Response:
        """One HTTP request. A plain one skips httpx's client, which costs twice the rest; logins and TLS need it."""
        if self._target.scheme != "http" or self._target.userinfo:
            return await self._http.post(self._target, content=body, headers=_HEADERS)
        request = httpx.Request("POST", self._target, content=body, headers=_HEADERS, extensions=self._extensions)
        return await self._transport.handle_async_request(request)
