"""The JSON-RPC client against nodes that answer badly, late, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from agentnexus.core.errors import InvalidInput
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.process import free_port
from agentnexus.rails.evm.errors import ChainUnavailable, NodeError, Reverted
from agentnexus.rails.evm.rpc import Call, Rpc, call_data, call_int, call_object, eth_call, method_missing
from agentnexus.rails.evm.token import transfer_call

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class BadNode:
    """An HTTP server that counts requests and answers as the test says."""

    def __init__(self, handler: Handler) -> None:
        self.requests: list[object] = []
        self._handler = handler

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
        body = await reader.readexactly(length)
        self.requests.append(json.loads(body))
        await self._handler(body, writer)
        writer.close()


@asynccontextmanager
async def bad_node(handler: Handler, timeout_seconds: float = 5.0) -> AsyncIterator[tuple[BadNode, Rpc]]:
    node = BadNode(handler)
    server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Rpc(f"http://127.0.0.1:{port}", timeout_seconds=timeout_seconds) as rpc:
        yield node, rpc


def answers(status: str, body: str) -> Handler:
    async def handler(_body: bytes, writer: asyncio.StreamWriter) -> None:
        data = body.encode()
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n".encode() + data)
        await writer.drain()

    return handler


async def hangs_up(_body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def test_a_batch_is_one_round_trip_with_answers_in_order(chain: DevelopmentChain) -> None:
    chain_id, missing, block = await chain.rpc.batch(
        [Call("eth_chainId"), Call("eth_noSuchThing"), Call("eth_getBlockByNumber", ("latest", False))]
    )
    assert call_int(chain_id) == 31337
    assert isinstance(missing, NodeError)
    assert method_missing(missing)
    found = call_object(block)
    assert found is not None
    assert "number" in found


async def test_a_contracts_refusal_is_told_apart_with_its_reason(chain: DevelopmentChain) -> None:
    call = eth_call(chain.usdc.reference, transfer_call("0x" + "11" * 20, 1), sender="0x" + "22" * 20)
    (answer,) = await chain.rpc.batch([call])
    assert isinstance(answer, Reverted)
    assert len(answer.data) == 4 + 3 * 32
    for read in (call_data, call_int, call_object):
        with pytest.raises(Reverted):
            read(answer)


async def test_a_single_call_raises_what_the_node_said(chain: DevelopmentChain) -> None:
    with pytest.raises(NodeError, match="eth_noSuchThing") as caught:
        await chain.rpc.call("eth_noSuchThing")
    assert caught.value.details["rpc_code"] == -32601
    assert caught.value.retryable


async def test_no_node_at_all_is_unavailable_and_certainly_not_sent() -> None:
    async with Rpc(f"http://127.0.0.1:{free_port()}") as rpc:
        with pytest.raises(ChainUnavailable, match="no connection") as caught:
            await rpc.call("eth_sendRawTransaction", "0x00")
    assert not caught.value.maybe_sent
    assert "NEXUS_EVM_RPC_URL" in caught.value.next_step


async def test_a_read_that_was_cut_off_is_tried_again() -> None:
    async with bad_node(hangs_up) as (node, rpc):
        with pytest.raises(ChainUnavailable):
            await rpc.call("eth_chainId")
    assert len(node.requests) == 3


@pytest.mark.parametrize("method", ["eth_sendRawTransaction", "eth_sendTransaction"])
async def test_a_send_that_was_cut_off_is_never_repeated_blindly(method: str) -> None:
    async with bad_node(hangs_up) as (node, rpc):
        with pytest.raises(ChainUnavailable) as caught:
            await rpc.batch([Call("eth_chainId"), Call(method, ("0x00",))])
    assert len(node.requests) == 1
    assert caught.value.maybe_sent


async def test_a_node_that_says_nothing_is_given_up_at_the_deadline() -> None:
    released = asyncio.Event()

    async def silent(_body: bytes, _writer: asyncio.StreamWriter) -> None:
        await released.wait()

    async with bad_node(silent, timeout_seconds=0.1) as (node, rpc):
        with pytest.raises(ChainUnavailable, match="no answer") as caught:
            await rpc.call("eth_chainId")
        released.set()
    assert len(node.requests) == 1
    assert caught.value.maybe_sent


@pytest.mark.parametrize("status", ["500 Oops", "429 Too Many", "403 No"])
async def test_an_http_error_is_unavailable(status: str) -> None:
    async with bad_node(answers(status, "{}")) as (_, rpc):
        with pytest.raises(ChainUnavailable, match=status[:3]):
            await rpc.call("eth_chainId")


async def test_a_bad_request_that_is_a_json_rpc_error_is_an_answer() -> None:
    body = (
        '{"jsonrpc":"2.0","id":1,"error":{"code":-32521,"message":"execution reverted","data":{"revertData":"0xe3"}}}'
    )
    async with bad_node(answers("400 Bad Request", body)) as (_, rpc):
        with pytest.raises(Reverted) as caught:
            await rpc.call("eth_estimateUserOperationGas")
    assert caught.value.data == b"\xe3"


@pytest.mark.parametrize("body", ["{}", "[]", '{"message": "no"}', "<html>"])
async def test_a_bad_request_without_one_is_an_outage(body: str) -> None:
    async with bad_node(answers("400 Bad Request", body)) as (_, rpc):
        with pytest.raises(ChainUnavailable):
            await rpc.call("eth_chainId")


@pytest.mark.parametrize(
    ("data", "message", "revert"),
    [
        ('{"reason": "AA23 reverted", "revert_data": "0x01"}', "validation: AA23 reverted", b"\x01"),
        ('{"reason": 7, "data": null, "revertData": "0x02"}', None, b""),
        ('{"reason": "AA33 reverted", "revertData": "0xzz"}', "validation: AA33 reverted", b""),
        ('{"reason": ""}', None, b""),
    ],
)
async def test_what_stands_beside_an_error_is_read(data: str, message: str | None, revert: bytes) -> None:
    body = f'{{"jsonrpc":"2.0","id":1,"error":{{"code":-32500,"message":"validation","data":{data}}}}}'
    async with bad_node(answers("200 OK", body)) as (_, rpc):
        with pytest.raises((NodeError, Reverted)) as caught:
            await rpc.call("eth_chainId")
    assert isinstance(caught.value, Reverted) is (message is not None)
    assert message is None or caught.value.message == message
    assert not isinstance(caught.value, Reverted) or caught.value.data == revert


async def test_an_answer_that_is_no_json_is_unavailable() -> None:
    async with bad_node(answers("200 OK", "<html>")) as (_, rpc):
        with pytest.raises(ChainUnavailable, match="JSON"):
            await rpc.call("eth_chainId")


@pytest.mark.parametrize("body", ["[]", "{}", "null", '[{"id": 999, "result": "0x1"}]', "7"])
async def test_a_request_left_unanswered_is_an_error_of_its_own(body: str) -> None:
    async with bad_node(answers("200 OK", body)) as (_, rpc):
        with pytest.raises(NodeError, match="unanswered"):
            await rpc.call("eth_chainId")


@pytest.mark.parametrize("error", ['"broken"', '{"message": 5}', '{"code": "x", "message": "broken"}'])
async def test_an_error_in_an_odd_shape_is_still_an_error(error: str) -> None:
    async with bad_node(answers("200 OK", f'{{"id": 1, "error": {error}}}')) as (_, rpc):
        with pytest.raises(NodeError):
            await rpc.call("eth_chainId")


@pytest.mark.parametrize("data", ['"0xzz"', "7", "null", '{"data": "0x1234"}'])
async def test_revert_data_in_an_odd_shape_does_not_hurt(data: str) -> None:
    body = f'{{"id": 1, "error": {{"code": 3, "message": "execution reverted", "data": {data}}}}}'
    async with bad_node(answers("200 OK", body)) as (_, rpc):
        with pytest.raises(Reverted):
            await rpc.call("eth_call", {})


async def test_a_result_of_the_wrong_kind_is_refused() -> None:
    async with bad_node(answers("200 OK", '{"id": 1, "result": {"no": "number"}}')) as (_, rpc):
        with pytest.raises(InvalidInput):
            await rpc.chain_id()
