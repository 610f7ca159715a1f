"""The chain's HTTP and websocket door, and our client towards nodes that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import websockets
from tests.solana.conftest import Desk

from agentnexus.core.errors import PaymentFailed, Unavailable
from agentnexus.core.payments import Payment, PaymentState
from agentnexus.devnet.solana.accounts import solana_accounts
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.devnet.solana.faults import Fault
from agentnexus.rails.solana.cluster import Cluster, Commitment
from agentnexus.rails.solana.deposits import DepositVerifier
from agentnexus.rails.solana.errors import ClusterUnavailable, NodeError
from agentnexus.rails.solana.landed import read_landed
from agentnexus.rails.solana.networks import DEVNET
from agentnexus.rails.solana.rpc import RpcValue, SolanaRpc
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.wallet import SolanaRail

BUYER = solana_accounts()["buyer"].address


@pytest.fixture
async def http(solana: SolanaDevelopmentChain) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=solana.rpc_url, trust_env=False) as client:
        yield client


def request(method: str, *parameters: object, number: object = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(parameters)}


async def test_several_requests_travel_together(http: httpx.AsyncClient) -> None:
    calls = [request("getHealth", number="a"), request("nothing", number="b"), request("getBalance", BUYER, number=3)]
    first, second, third = (await http.post("/", json=calls)).json()
    assert first == {"jsonrpc": "2.0", "id": "a", "result": "ok"}
    assert (second["id"], second["error"]["code"]) == ("b", -32601)
    assert third["result"]["value"] > 0


@pytest.mark.parametrize(
    ("body", "code"), [(b"{", -32700), (b"5", -32600), (b"[" * 100_000, -32700), (b'{"id":1}', -32600), (b"", -32700)]
)
async def test_what_is_no_request_gets_a_json_rpc_error(http: httpx.AsyncClient, body: bytes, code: int) -> None:
    answer = await http.post("/", content=body)
    assert answer.status_code == 200
    assert answer.json()["error"]["code"] == code


async def test_only_posts_of_a_sane_size_from_this_machine_are_answered(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health")).text == "ok"
    assert (await http.get("/")).status_code == 405
    assert (await http.post("/", content=b"x" * (1024 * 1024 + 1))).status_code == 413
    for origin, status in (
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost:5173", 200),
        ("http://localhost.evil.example", 403),
    ):
        answer = await http.post("/", json=request("getHealth"), headers={"origin": origin})
        assert answer.status_code == status, origin


async def test_a_web_page_cannot_open_a_websocket_either(solana: SolanaDevelopmentChain) -> None:
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(solana.websocket_url, origin=websockets.Origin("https://evil.example"))


async def test_ordered_faults_come_once_and_then_the_node_is_well(
    http: httpx.AsyncClient, solana: SolanaDevelopmentChain
) -> None:
    await solana.fault(Fault.UNAVAILABLE)
    assert (await http.post("/", json=request("getHealth"))).status_code == 503
    assert (await http.post("/", json=request("getHealth"))).status_code == 200
    await solana.fault(Fault.DROP_ANSWER)
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post("/", json=request("sendTransaction", "x"))
    assert (await http.post("/", json=request("getHealth"))).status_code == 200


async def test_a_websocket_answers_wrong_messages_and_goes_on(solana: SolanaDevelopmentChain) -> None:
    async with websockets.connect(solana.websocket_url) as socket, asyncio.timeout(20):

        async def ask(text: str) -> dict[str, object]:
            await socket.send(text)
            answer: dict[str, object] = json.loads(await socket.recv())
            return answer

        def code(answer: dict[str, object]) -> object:
            error = answer["error"]
            assert isinstance(error, dict)
            return error["code"]

        assert code(await ask("{")) == -32700
        assert code(await ask("5")) == -32600
        assert code(await ask(json.dumps(request("moonSubscribe")))) == -32601
        assert code(await ask(json.dumps(request("signatureSubscribe", "x")))) == -32602
        assert code(await ask(json.dumps(request("slotUnsubscribe", 10**9)))) == -32602
        assert code(await ask(json.dumps(request("logsSubscribe", {"mentions": []})))) == -32602
        subscription = (await ask(json.dumps(request("slotSubscribe"))))["result"]
        assert isinstance(subscription, int)
        assert json.loads(await socket.recv())["method"] == "slotNotification"
        assert (await ask(json.dumps(request("getHealth"))))["jsonrpc"] == "2.0"


Reply = Callable[[dict[str, object]], object]


@contextlib.asynccontextmanager
async def strange_node(reply: Reply) -> AsyncIterator[SolanaRpc]:
    """A node that answers as `reply` says; bytes are sent as they are, None closes the connection."""

    open_writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                answer = reply(json.loads(await reader.readexactly(length)))
                if answer is None:
                    break
                raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                if not raw.startswith(b"HTTP/"):
                    raw = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(raw) + raw
                writer.write(raw)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with SolanaRpc(f"http://127.0.0.1:{port}", timeout_seconds=2.0) as rpc:
            yield rpc
    finally:
        server.close()
        for writer in open_writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await server.wait_closed()


def result(value: RpcValue) -> Reply:
    return lambda request: {"jsonrpc": "2.0", "id": request["id"], "result": value}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not json",
        b"[]",
        b'{"jsonrpc":"2.0","id":999,"result":5}',
        b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n",
        None,
    ],
)
async def test_a_node_that_talks_nonsense_is_unavailable(answer: bytes | None) -> None:
    async with strange_node(lambda _: answer) as rpc:
        with pytest.raises(ClusterUnavailable):
            await rpc.call("getSlot")


async def test_reads_are_repeated_and_sends_are_not() -> None:
    asked: list[object] = []

    def cut_off(request: dict[str, object]) -> object:
        asked.append(request["method"])
        return None

    async with strange_node(cut_off) as rpc:
        with pytest.raises(ClusterUnavailable) as read:
            await rpc.call("getBalance", BUYER)
        with pytest.raises(ClusterUnavailable) as sent:
            await rpc.call("sendTransaction", "AA==")
    assert asked == ["getBalance"] * 3 + ["sendTransaction"]
    assert read.value.maybe_sent
    assert sent.value.maybe_sent


async def test_a_busy_node_is_asked_again() -> None:
    answers = [b"HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"]

    def busy(request: dict[str, object]) -> object:
        return answers.pop() if answers else {"id": request["id"], "result": 7}

    async with strange_node(busy) as rpc:
        assert await rpc.call("getSlot") == 7


async def test_nobody_at_the_address_is_unavailable_and_nothing_was_sent() -> None:
    async with SolanaRpc("http://127.0.0.1:1", retries=0) as rpc:
        with pytest.raises(ClusterUnavailable) as caught:
            await rpc.call("sendTransaction", "AA==")
    assert not caught.value.maybe_sent
    assert isinstance(caught.value, Unavailable)


async def test_an_error_of_the_node_is_passed_on_with_its_code() -> None:
    def refuse(request: dict[str, object]) -> object:
        return {
            "id": request["id"],
            "error": {"code": -32005, "message": "Node is behind", "data": {"numSlotsBehind": 9}},
        }

    async with strange_node(refuse) as rpc:
        with pytest.raises(NodeError, match="Node is behind") as caught:
            await rpc.call("getSlot")
    assert (caught.value.rpc_code, caught.value.data) == (-32005, {"numSlotsBehind": 9})


ODD: list[RpcValue] = [
    None,
    5,
    "x",
    [],
    {},
    {"value": 5},
    {"value": [5]},
    {"value": {}},
    {"context": {}, "value": {"x": 1}},
]


@pytest.mark.parametrize("value", ODD)
async def test_answers_of_an_odd_shape_are_errors_and_never_money(value: RpcValue) -> None:
    async with strange_node(result(value)) as rpc:
        cluster = Cluster(rpc)
        asks: list[Callable[[], Awaitable[object]]] = [
            cluster.latest_blockhash,
            lambda: cluster.simulate(b"x"),
            lambda: cluster.block_height(Commitment.FINALIZED),
            lambda: cluster.mentions(
                solana_accounts()["buyer"].public_key, before=None, commitment=Commitment.FINALIZED, minimum_slot=0
            ),
        ]
        for ask in asks:
            with contextlib.suppress(NodeError, ClusterUnavailable):
                answer = await ask()
                assert answer in ([], 5), (answer, value)  # what was right by chance
        if value is not None:
            with pytest.raises(NodeError):
                await read_landed(rpc, "s", Commitment.FINALIZED)


async def test_a_lying_status_does_not_make_a_payment(desk: Desk) -> None:
    """A node that calls everything confirmed: the payee's account did not grow, so nothing is called paid."""
    real = desk.chain.rpc
    sent: list[str] = []

    class Liar(SolanaRpc):
        async def call(self, method: str, *parameters: RpcValue) -> RpcValue:
            if method == "sendTransaction":
                return "swallowed"
            if method == "getSignatureStatuses":
                assert isinstance(parameters[0], list)
                sent.append(str(parameters[0][0]))
                status: RpcValue = {"slot": 5, "confirmations": None, "err": None, "confirmationStatus": "finalized"}
                return {"context": {"slot": 9}, "value": [status]}
            if method == "getTransaction":
                # Another transaction, which moved nothing to our payee.
                listed = await real.call("getSignaturesForAddress", desk.payer.address, {"commitment": "confirmed"})
                assert isinstance(listed, list)
                assert isinstance(listed[0], dict)
                return await real.call(method, listed[0]["signature"], *parameters[1:])
            return await real.call(method, *parameters)

    async with Liar(desk.chain.rpc_url) as rpc:
        rail = SolanaRail(TransactionSender(desk.sender.database, rpc, DEVNET), desk.payer.signer)
        with pytest.raises(PaymentFailed, match="did not get the amount"):
            await rail.send(desk.request(), "k1")
        looked = await rail.lookup(Payment(id="k1", request=desk.request(), state=PaymentState.SENT))
    assert looked.state is PaymentState.UNKNOWN
    assert sent


async def test_a_deposit_is_not_believed_from_a_status_alone() -> None:
    status: RpcValue = {"slot": 5, "confirmations": None, "err": None, "confirmationStatus": "finalized"}

    def reply(request: dict[str, object]) -> object:
        found = {"context": {"slot": 9}, "value": [status]} if request["method"] == "getSignatureStatuses" else None
        return {"id": request["id"], "result": found}

    async with strange_node(reply) as rpc:
        verifier = DepositVerifier(rpc, DEVNET, BUYER, [DEVNET.usdc])
        with pytest.raises(Exception, match="cannot show") as caught:
            await verifier.verify_deposit("1" * 64)
    assert getattr(caught.value, "fault", None) == "unconfirmed"
