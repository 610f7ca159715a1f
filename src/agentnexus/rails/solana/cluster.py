"""What a payment asks of a cluster, as values: blockhashes, simulations, statuses, and what a transaction moved."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from solders.hash import Hash, ParseHashError
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from agentnexus.rails.solana.errors import NodeError

RpcValue: TypeAlias = "bool | int | float | str | list[RpcValue] | dict[str, RpcValue] | None"
PREFLIGHT_FAILED = -32002
MAXIMUM_STATUSES = 256


class Commitment(StrEnum):
    """How sure a cluster is."""

    PROCESSED = "processed"
    CONFIRMED = "confirmed"  # two thirds of the stake voted for it
    FINALIZED = "finalized"  # it cannot be undone


LEVELS = {Commitment.PROCESSED: 0, Commitment.CONFIRMED: 1, Commitment.FINALIZED: 2}


class Node(Protocol):
    """A node's JSON-RPC."""

    async def call(self, method: str, *parameters: RpcValue) -> RpcValue:
        """Raises `ClusterUnavailable` or `NodeError`."""


@dataclass(frozen=True, slots=True)
class LatestBlockhash:
    """A blockhash and the last block height a transaction with it can be in."""

    blockhash: Hash
    last_valid_block_height: int
    slot: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """`error` is None when the transaction would go through."""

    error: str | None
    units: int


@dataclass(frozen=True, slots=True)
class Status:
    """Where a transaction is. `error`: it is on the chain and did nothing but cost its fee."""

    error: str | None
    level: Commitment
    slot: int

    def reached(self, level: Commitment) -> bool:
        return LEVELS[self.level] >= LEVELS[level]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A transaction on the chain and what it moved: the change of each token account, in atomic units."""

    transaction: VersionedTransaction
    slot: int
    error: str | None
    changes: Mapping[Pubkey, int]


@dataclass(frozen=True, slots=True)
class Mention:
    """A transaction that names an address. `memo` is as clusters show it: ``[length] text``."""

    signature: str
    slot: int
    error: str | None
    memo: str


class Cluster:
    """Typed reading over a node. An answer that is not of the documented shape is a `NodeError`."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def latest_blockhash(self, commitment: Commitment = Commitment.CONFIRMED) -> LatestBlockhash:
        answer = _object(await self._node.call("getLatestBlockhash", {"commitment": commitment}), "getLatestBlockhash")
        value = _object(answer.get("value"), "getLatestBlockhash")
        try:
            blockhash = Hash.from_string(str(value.get("blockhash")))
        except ParseHashError as error:
            raise _odd("getLatestBlockhash") from error
        return LatestBlockhash(blockhash, _whole(value.get("lastValidBlockHeight")), _slot(answer))

    async def is_valid(self, blockhash: Hash, commitment: Commitment = Commitment.PROCESSED) -> bool:
        """Whether a transaction with this blockhash could be taken now."""
        answer = await self._node.call("isBlockhashValid", str(blockhash), {"commitment": commitment})
        return _object(answer, "isBlockhashValid").get("value") is True

    async def block_height(self, commitment: Commitment) -> int:
        return _whole(await self._node.call("getBlockHeight", {"commitment": commitment}))

    async def slot(self, commitment: Commitment) -> int:
        return _whole(await self._node.call("getSlot", {"commitment": commitment}))

    async def token_balance(self, account: Pubkey) -> int | None:
        """Atomic units in a token account; None when there is no such account."""
        try:
            answer = await self._node.call("getTokenAccountBalance", str(account), {"commitment": Commitment.CONFIRMED})
        except NodeError as error:
            if error.rpc_code == -32602:  # "invalid param: could not find account"
                return None
            raise
        value = _object(_object(answer, "getTokenAccountBalance").get("value"), "getTokenAccountBalance")
        return _whole(value.get("amount"))

    async def account(self, address: Pubkey) -> tuple[Pubkey, bytes] | None:
        """Owning program and data."""
        options: RpcValue = {"encoding": "base64", "commitment": Commitment.CONFIRMED}
        answer = _object(await self._node.call("getAccountInfo", str(address), options), "getAccountInfo")
        value = answer.get("value", False)
        if value is None:
            return None
        account = _object(value, "getAccountInfo")
        try:
            return Pubkey.from_string(str(account.get("owner"))), _base64(account.get("data"))
        except ValueError as error:
            raise _odd("getAccountInfo") from error

    async def simulate(self, wire: bytes, *, check_signatures: bool = True, own_blockhash: bool = True) -> Simulation:
        """Would it go through now? With its own blockhash an expired one is an error, else the newest is used."""
        options: RpcValue = {
            "encoding": "base64",
            "sigVerify": check_signatures,
            "replaceRecentBlockhash": not own_blockhash,
            "commitment": Commitment.PROCESSED,
        }
        text = base64.b64encode(wire).decode("ascii")
        answer = _object(await self._node.call("simulateTransaction", text, options), "simulateTransaction")
        value = _object(answer.get("value"), "simulateTransaction")
        return Simulation(_error(value), _whole(value.get("unitsConsumed") or 0))

    async def send(self, wire: bytes, *, preflight: bool) -> None:
        """Give it to the network. Raises `NodeError` with `PREFLIGHT_FAILED` when the node would not even try."""
        options: RpcValue = {
            "encoding": "base64",
            "skipPreflight": not preflight,
            "preflightCommitment": Commitment.PROCESSED,
            "maxRetries": 0,  # we repeat ourselves, and know when to stop
        }
        await self._node.call("sendTransaction", base64.b64encode(wire).decode("ascii"), options)

    async def status(self, signature: str, *, search: bool = False) -> Status | None:
        """None when the node does not know it; `search` looks beyond the last minutes."""
        (status,) = await self.statuses([signature], search=search)
        return status

    async def statuses(self, signatures: Sequence[str], *, search: bool = False) -> list[Status | None]:
        """Of up to `MAXIMUM_STATUSES` transactions in one request, in order."""
        method = "getSignatureStatuses"
        answer = await self._node.call(method, list(signatures), {"searchTransactionHistory": search})
        values = _object(answer, method).get("value")
        if not isinstance(values, list) or len(values) != len(signatures):
            raise _odd(method)
        return [None if value is None else _status(_object(value, method)) for value in values]

    async def outcome(self, signature: str, commitment: Commitment = Commitment.CONFIRMED) -> Outcome | None:
        """The transaction and its effect; None while it is not known at that commitment."""
        options: RpcValue = {
            "encoding": "base64",
            "commitment": commitment,
            "maxSupportedTransactionVersion": 0,
        }
        answer = await self._node.call("getTransaction", signature, options)
        if answer is None:
            return None
        found = _object(answer, "getTransaction")
        meta = _object(found.get("meta"), "getTransaction")
        try:
            transaction = VersionedTransaction.from_bytes(_base64(found.get("transaction")))
        except ValueError as error:
            raise _odd("getTransaction") from error
        return Outcome(transaction, _whole(found.get("slot")), _error(meta), _changes(transaction, meta))

    async def mentions(
        self, address: Pubkey, *, before: str | None, commitment: Commitment, minimum_slot: int, limit: int = 1000
    ) -> list[Mention]:
        """Transactions that name the address, the newest first; from a node that has seen at least `minimum_slot`."""
        options: dict[str, RpcValue] = {"limit": limit, "commitment": commitment, "minContextSlot": minimum_slot}
        if before is not None:
            options["before"] = before
        answer = await self._node.call("getSignaturesForAddress", str(address), options)
        if not isinstance(answer, list):
            raise _odd("getSignaturesForAddress")
        rows = [_object(row, "getSignaturesForAddress") for row in answer]
        return [
            Mention(str(row.get("signature")), _whole(row.get("slot")), _error(row), str(row.get("memo") or ""))
            for row in rows
        ]


def _changes(transaction: VersionedTransaction, meta: Mapping[str, RpcValue]) -> dict[Pubkey, int]:
    """Token balances after less before, by account. An account that is new had nothing."""
    keys = transaction.message.account_keys
    changes: dict[Pubkey, int] = {}
    for name, sign in (("preTokenBalances", -1), ("postTokenBalances", 1)):
        balances = meta.get(name)
        for balance in balances if isinstance(balances, list) else []:
            row = _object(balance, "getTransaction")
            index = _whole(row.get("accountIndex"))
            if index < len(keys):
                amount = _whole(_object(row.get("uiTokenAmount"), "getTransaction").get("amount"))
                changes[keys[index]] = changes.get(keys[index], 0) + sign * amount
    return changes


def _status(value: Mapping[str, RpcValue]) -> Status:
    try:
        level = Commitment(str(value.get("confirmationStatus") or Commitment.FINALIZED))
    except ValueError as error:
        raise _odd("getSignatureStatuses") from error
    return Status(_error(value), level, _whole(value.get("slot")))


def _odd(method: str) -> NodeError:
    return NodeError(method, 0, "the answer is not of the documented shape")


def _object(value: RpcValue, method: str) -> dict[str, RpcValue]:
    if not isinstance(value, dict):
        raise _odd(method)
    return value


def _whole(value: RpcValue) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    raise _odd("a number")


def _slot(answer: Mapping[str, RpcValue]) -> int:
    return _whole(_object(answer.get("context"), "context").get("slot"))


def _base64(value: RpcValue) -> bytes:
    """``[text, "base64"]``; raises `ValueError`."""
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
        raise ValueError("not base64 data")
    return base64.b64decode(value[0], validate=True)


def _error(holder: Mapping[str, RpcValue]) -> str | None:
    """The member ``err``. One that is missing is not one that says "no error"."""
    if "err" not in holder:
        raise _odd("an outcome")
    error = holder["err"]
    return None if error is None else str(error)
