"""JSON-RPC to a Solana node: deadlines, typed errors, reads repeated, sends never repeated blindly."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TypeAlias

import httpx

from agentnexus.platform.node_client import NodeClient
from agentnexus.rails.solana.errors import ClusterUnavailable, NodeError

RpcValue: TypeAlias = "bool | int | float | str | list[RpcValue] | dict[str, RpcValue] | None"

# Whatever became of the first try, these change nothing.
_READS = ("get", "is", "simulate")
_NEVER_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BUSY = (429, 502, 503, 504)


class SolanaRpc(NodeClient):
    """One node. Safe to share between tasks of one event loop.

    Args:
        url: HTTP address of the node.
        timeout_seconds: for one request.
        retries: further tries when no connection came about, or when a read was cut off or refused for load.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 10.0, retries: int = 2) -> None:
        super().__init__(url, timeout_seconds=timeout_seconds)
        self._retries = retries
        self._ids = itertools.count(1)

    async def call(self, method: str, *parameters: RpcValue) -> RpcValue:
        """One request's result. Raises `ClusterUnavailable` or `NodeError`."""
        number = next(self._ids)
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
        answer = await self._post(
            json.dumps(body, separators=(",", ":")).encode(), repeatable=method.startswith(_READS)
        )
        if not isinstance(answer, dict) or answer.get("id") != number:
            raise ClusterUnavailable(f"the Solana node did not answer {method}", maybe_sent=True)
        error = answer.get("error")
        if error is None:
            return answer.get("result")
        detail = error if isinstance(error, dict) else {"message": str(error)}
        code = detail.get("code")
        raise NodeError(
            method, code if isinstance(code, int) else 0, str(detail.get("message", ""))[:500], detail.get("data")
        )

    async def value(self, method: str, *parameters: RpcValue) -> RpcValue:
        """The ``value`` of an answer that comes with its context."""
        return mapping(await self.call(method, *parameters), method).get("value")

    async def _post(self, body: bytes, *, repeatable: bool) -> RpcValue:
        for tries_left in range(self._retries, -1, -1):
            try:
                return _read(await self._ask(body), repeatable=repeatable)
            except ClusterUnavailable as error:
                if not tries_left or error.maybe_sent:
                    raise
            except _NEVER_CONNECTED as error:
                if not tries_left:
                    raise ClusterUnavailable(f"no connection to the Solana node: {type(error).__name__}") from error
            except httpx.TransportError as error:
                if not tries_left or not repeatable or isinstance(error, httpx.TimeoutException):
                    message = f"the Solana node gave no answer: {type(error).__name__}"
                    raise ClusterUnavailable(message, maybe_sent=True) from error
            await asyncio.sleep(0.05 * 2 ** (self._retries - tries_left))
        raise ClusterUnavailable("the Solana node was never asked")


def _read(response: httpx.Response, *, repeatable: bool) -> RpcValue:
    if response.status_code >= 400:
        busy = response.status_code in _BUSY
        message = f"the Solana node answered HTTP {response.status_code}"
        raise ClusterUnavailable(message, maybe_sent=not (repeatable and busy))
    try:
        answer: RpcValue = response.json()
    except ValueError as error:
        raise ClusterUnavailable("the Solana node did not answer in JSON", maybe_sent=True) from error
    return answer


def mapping(value: RpcValue, what: str) -> dict[str, RpcValue]:
    """Raises `ClusterUnavailable` when a node answered with something else than an object."""
    if not isinstance(value, dict):
        raise ClusterUnavailable(f"the Solana node answered {what} with something unexpected")
    return value


def whole(value: RpcValue, what: str) -> int:
    """Raises `ClusterUnavailable` when a node answered with something else than an integer."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ClusterUnavailable(f"the Solana node answered {what} with something unexpected")
    return value
