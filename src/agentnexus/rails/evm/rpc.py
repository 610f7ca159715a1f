"""JSON-RPC to an Ethereum node: batches, deadlines, typed errors, and no blind repetition of what moves money."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import httpx

from agentnexus.platform.node_client import NodeClient
from agentnexus.rails.evm.encoding import from_hex, quantity
from agentnexus.rails.evm.errors import ChainUnavailable, NodeError, Reverted

RpcValue: TypeAlias = "bool | int | float | str | list[RpcValue] | dict[str, RpcValue] | None"

# A node's code for a call that was refused, and a bundler's (ERC-7769).
_REVERT_CODES = (3, -32521)
# Where nodes and bundlers put what a contract gave as its reason.
_REVERT_FIELDS = ("data", "revertData", "revert_data")
_METHOD_NOT_FOUND = -32601
_BAD_REQUEST = 400
# Repeating these is harmless whatever became of the first try.
_READS = ("eth_", "net_", "web3_")
_WRITES = ("eth_sendRawTransaction", "eth_sendTransaction", "eth_sendRawTransactionSync")


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a batch."""

    method: str
    parameters: tuple[RpcValue, ...] = ()


def eth_call(to: str, data: bytes, *, sender: str | None = None, block: str = "latest") -> Call:
    """A read of a contract."""
    transaction: dict[str, RpcValue] = {"to": to, "data": "0x" + data.hex()}
    if sender:
        transaction["from"] = sender
    return Call("eth_call", (transaction, block))


class Rpc(NodeClient):
    """One node. Safe to share between tasks of one event loop.

    Args:
        url: HTTP address of the node.
        timeout_seconds: for one request, batch or not.
        connect_retries: further tries when no connection came about, or when a read was cut off; never for a send
            that may have arrived.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 10.0, connect_retries: int = 2) -> None:
        super().__init__(url, timeout_seconds=timeout_seconds)
        self._retries = connect_retries
        self._ids = itertools.count(1)

    async def call(self, method: str, *parameters: RpcValue) -> RpcValue:
        """One request. Raises `ChainUnavailable`, `NodeError` or `Reverted`."""
        (answer,) = await self.batch([Call(method, parameters)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def batch(self, calls: Sequence[Call]) -> list[RpcValue | NodeError | Reverted]:
        """Several requests in one round trip, answers in order; a refused one is its error, not an exception.

        Raises `ChainUnavailable` when the node as a whole did not answer.
        """
        first = next(self._ids)
        numbered = list(zip(itertools.chain([first], self._ids), calls, strict=False))
        requests = [
            {"jsonrpc": "2.0", "id": number, "method": call.method, "params": call.parameters}
            for number, call in numbered
        ]
        body = json.dumps(requests[0] if len(requests) == 1 else requests, separators=(",", ":")).encode()
        repeatable = all(call.method.startswith(_READS) and call.method not in _WRITES for call in calls)
        answers = _by_id(await self._post(body, repeatable))
        return [_outcome(call, answers.get(number)) for number, call in numbered]

    async def _post(self, body: bytes, repeatable: bool) -> RpcValue:
        for tries_left in range(self._retries, -1, -1):
            try:
                response = await self._ask(body)
                break
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                failure = ChainUnavailable(f"no connection to the chain's node: {type(error).__name__}")
                if not tries_left:
                    raise failure from error
            except httpx.TransportError as error:
                failure = ChainUnavailable(f"the chain's node gave no answer: {type(error).__name__}", maybe_sent=True)
                if not tries_left or not repeatable or isinstance(error, httpx.TimeoutException):
                    raise failure from error
            await asyncio.sleep(0.05 * 2 ** (self._retries - tries_left))
        outage = ChainUnavailable(f"the chain's node answered HTTP {response.status_code}", maybe_sent=not repeatable)
        if response.status_code > _BAD_REQUEST:
            raise outage
        try:
            answer: RpcValue = response.json()
        except ValueError as error:
            raise ChainUnavailable("the chain's node did not answer in JSON", maybe_sent=not repeatable) from error
        # Alchemy sends JSON-RPC errors that are about the request with this status: those are answers.
        if response.status_code == _BAD_REQUEST and not (isinstance(answer, dict) and "error" in answer):
            raise outage
        return answer

    async def read_int(self, method: str, *parameters: RpcValue) -> int:
        """A call that answers with one quantity."""
        return quantity(await self.call(method, *parameters), field=method)

    async def read_contract(self, to: str, data: bytes, *, block: str = "latest") -> bytes:
        """Returned data of an ``eth_call``."""
        (answer,) = await self.batch([eth_call(to, data, block=block)])
        return call_data(answer)

    async def chain_id(self) -> int:
        return await self.read_int("eth_chainId")


def call_data(answer: RpcValue | NodeError | Reverted) -> bytes:
    """The bytes of one answer in a batch; raises the answer when it is an error."""
    if isinstance(answer, Exception):
        raise answer
    return from_hex(answer, field="result")


def call_int(answer: RpcValue | NodeError | Reverted) -> int:
    """The quantity of one answer in a batch; raises the answer when it is an error."""
    if isinstance(answer, Exception):
        raise answer
    return quantity(answer, field="result")


def call_object(answer: RpcValue | NodeError | Reverted) -> dict[str, RpcValue] | None:
    """The object (or null) of one answer in a batch; raises the answer when it is an error."""
    if isinstance(answer, Exception):
        raise answer
    return answer if isinstance(answer, dict) else None


def method_missing(error: NodeError) -> bool:
    """Does this node simply not have the method?"""
    return error.rpc_code == _METHOD_NOT_FOUND


def _by_id(answer: RpcValue) -> dict[object, dict[str, RpcValue]]:
    replies = answer if isinstance(answer, list) else [answer]
    return {reply.get("id"): reply for reply in replies if isinstance(reply, dict)}


def _outcome(call: Call, reply: dict[str, RpcValue] | None) -> RpcValue | NodeError | Reverted:
    if reply is None:
        return NodeError(call.method, 0, "the node left this request of a batch unanswered")
    error = reply.get("error")
    if error is None:
        return reply.get("result")
    detail = error if isinstance(error, dict) else {"message": str(error)}
    code, data = detail.get("code"), detail.get("data")
    message = _message(str(detail.get("message", "")), data)
    if code in _REVERT_CODES or "revert" in message.lower():
        return Reverted(message, _revert_data(data))
    return NodeError(call.method, code if isinstance(code, int) else 0, message)


def _message(message: str, data: RpcValue) -> str:
    """Bundlers put EntryPoint's code (``AA23``) into the message, or beside it."""
    reason = data.get("reason") if isinstance(data, dict) else None
    return f"{message}: {reason}" if isinstance(reason, str) and reason and reason not in message else message


def _revert_data(data: RpcValue) -> bytes:
    texts = [data.get(field) for field in _REVERT_FIELDS] if isinstance(data, dict) else [data]
    text = next((each for each in texts if isinstance(each, str)), "")
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        return b""
