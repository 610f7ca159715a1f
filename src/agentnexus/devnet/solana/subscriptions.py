"""Websocket subscriptions: signatures, accounts, logs and slots, as clusters notify them."""

from __future__ import annotations

import asyncio
import itertools
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass

from solders.account import Account
from solders.pubkey import Pubkey
from solders.signature import Signature
from starlette.types import Receive, Send

from agentnexus.devnet.solana.engine import Chain
from agentnexus.devnet.solana.ledger import Sent
from agentnexus.devnet.solana.methods import Dispatcher
from agentnexus.devnet.solana.parameters import COMMITMENTS, Options, Parameters, read_key, read_signature
from agentnexus.devnet.solana.parsed import Json
from agentnexus.devnet.solana.rpc_errors import PARSE_ERROR, RpcError, invalid
from agentnexus.devnet.solana.state_methods import StateMethods

_QUEUE_MAX = 10_000
_OVERLOADED = 1013
_LOGS_PER_ROUND = 256


class Subscription(ABC):
    """One subscription; `news` is asked after every change of the chain."""

    notification: str
    once = False

    @abstractmethod
    def news(self) -> list[Json]:
        """Results to notify now."""


class SlotSubscription(Subscription):
    notification = "slotNotification"

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._last = chain.slot

    def news(self) -> list[Json]:
        now = self._chain.slot
        found: list[Json] = [
            {"parent": slot - 1, "slot": slot, "root": max(0, slot - self._chain.pace.finality_slots)}
            for slot in range(max(self._last + 1, now - _LOGS_PER_ROUND), now + 1)
        ]
        self._last = now
        return found


@dataclass(slots=True)
class _Level:
    chain: Chain
    commitment: str

    def reached(self, sent: Sent) -> bool:
        return COMMITMENTS.index(self.chain.commitment(sent)) >= COMMITMENTS.index(self.commitment)


class SignatureSubscription(Subscription):
    notification = "signatureNotification"
    once = True

    def __init__(self, state: StateMethods, level: _Level, signature: Signature) -> None:
        self._state = state
        self._level = level
        self._signature = signature

    def news(self) -> list[Json]:
        sent = self._level.chain.ledger.find(self._signature)
        if sent is None or not self._level.reached(sent):
            return []
        return [self._state.in_context({"err": sent.error})]


class AccountSubscription(Subscription):
    """Tells the newest state, whatever the commitment: this chain keeps no older one."""

    notification = "accountNotification"

    def __init__(self, state: StateMethods, chain: Chain, address: Pubkey, options: Options) -> None:
        self._state = state
        self._chain = chain
        self._address = address
        self._options = options
        self._last: Account | None = chain.account(address)

    def news(self) -> list[Json]:
        now = self._chain.account(self._address)
        if now == self._last:
            return []
        self._last = now
        shown = self._state.shown_account(now or Account(0, b"", Pubkey.default()), self._options)
        return [self._state.in_context(shown)]


class LogsSubscription(Subscription):
    notification = "logsNotification"

    def __init__(self, state: StateMethods, level: _Level, mentions: Pubkey | None) -> None:
        self._state = state
        self._level = level
        self._mentions = mentions
        self._next = level.chain.transaction_count + 1

    def news(self) -> list[Json]:
        found: list[Json] = []
        for sent in self._level.chain.ledger.from_number(self._next, _LOGS_PER_ROUND):
            if not self._level.reached(sent):
                break
            self._next = sent.number + 1
            if self._mentions is None or self._mentions in self._level.chain.keys(sent.transaction.message).all:
                logs = sent.outcome["logMessages"]
                value: Json = {"signature": str(sent.signature), "err": sent.error, "logs": logs}
                found.append(self._state.in_context(value))
        return found


class Session:
    """The subscriptions of one websocket."""

    _numbers = itertools.count(1)

    def __init__(self, chain: Chain, dispatcher: Dispatcher) -> None:
        self._chain = chain
        self._state = StateMethods(chain)
        self._dispatcher = dispatcher
        self._subscriptions: dict[int, Subscription] = {}
        self.outgoing: asyncio.Queue[str | None] = asyncio.Queue(_QUEUE_MAX)

    def changed(self) -> None:
        """Queue what is new. A reader that is too slow is cut off: None is then the last thing in its queue."""
        for number, subscription in list(self._subscriptions.items()):
            for result in subscription.news():
                self._put({
                    "jsonrpc": "2.0",
                    "method": subscription.notification,
                    "params": {"result": result, "subscription": number},
                })  # fmt: skip
                if subscription.once:
                    del self._subscriptions[number]

    def take(self, text: str) -> None:
        """One message of the client; its answer is queued."""
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            self._put({"jsonrpc": "2.0", "error": {"code": PARSE_ERROR, "message": "Parse error"}, "id": None})
            return
        for each in request if isinstance(request, list) else [request]:
            self._put(self._answer(each))
        self.changed()

    def _answer(self, request: object) -> dict[str, Json]:
        method = request.get("method") if isinstance(request, dict) else None
        if not isinstance(request, dict) or not isinstance(method, str) or not method.endswith("ubscribe"):
            return self._dispatcher.answer(request)
        number = request.get("id")
        try:
            given = request.get("params")
            parameters = Parameters(given if isinstance(given, list) else [])
            result: Json = self._unsubscribe(parameters) if "Unsub" in method else self._subscribe(method, parameters)
        except RpcError as error:
            return {"jsonrpc": "2.0", "error": error.to_json(), "id": number}
        return {"jsonrpc": "2.0", "result": result, "id": number}

    def _subscribe(self, method: str, parameters: Parameters) -> int:
        number = next(self._numbers)
        self._subscriptions[number] = self._make(method, parameters)
        return number

    def _make(self, method: str, parameters: Parameters) -> Subscription:
        options = parameters.options(1)
        level = _Level(self._chain, options.commitment)
        match method:
            case "slotSubscribe":
                return SlotSubscription(self._chain)
            case "signatureSubscribe":
                return SignatureSubscription(self._state, level, read_signature(parameters.required(0, "signature")))
            case "accountSubscribe":
                return AccountSubscription(self._state, self._chain, parameters.key(0), options)
            case "logsSubscribe":
                return LogsSubscription(self._state, level, _mentioned(parameters.required(0, "filter")))
        raise RpcError(-32601, "Method not found")

    def _unsubscribe(self, parameters: Parameters) -> bool:
        if self._subscriptions.pop(parameters.whole(0, "subscription"), None) is None:
            raise invalid("Invalid subscription id.")
        return True

    def _put(self, message: Json) -> None:
        if self.outgoing.qsize() < _QUEUE_MAX - 1:
            self.outgoing.put_nowait(json.dumps(message, separators=(",", ":")))
        elif not self.outgoing.full():
            self.outgoing.put_nowait(None)


async def serve_subscriptions(chain: Chain, dispatcher: Dispatcher, receive: Receive, send: Send) -> None:
    """One websocket until its client leaves."""
    await receive()
    await send({"type": "websocket.accept"})
    session = Session(chain, dispatcher)
    chain.on_change.append(session.changed)
    writer = asyncio.create_task(_write(session, send))
    try:
        while (message := await receive())["type"] == "websocket.receive":
            data = message.get("text")
            session.take(data if data is not None else message.get("bytes", b"").decode("utf-8", "replace"))
    finally:
        chain.on_change.remove(session.changed)
        writer.cancel()


async def _write(session: Session, send: Send) -> None:
    while (text := await session.outgoing.get()) is not None:
        await send({"type": "websocket.send", "text": text})
    await send({"type": "websocket.close", "code": _OVERLOADED, "reason": "reading too slowly"})


def _mentioned(wanted: Json) -> Pubkey | None:
    """None for all transactions."""
    if wanted in ("all", "allWithVotes"):
        return None
    mentions = wanted.get("mentions") if isinstance(wanted, dict) else None
    if not isinstance(mentions, list) or len(mentions) != 1:
        raise invalid("filter must be all, or mentions with one address")
    return read_key(mentions[0])
