"""Sending transactions: stored before they leave, sent again as the same bytes, replaced only under the same nonce.

Every transaction has a key of ours. The same key never makes a second transaction, whichever process asks and
whatever died in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self, TypeAlias

import asyncpg

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import Conflict, InsufficientFunds, PaymentFailed, PaymentUnknown
from agentnexus.core.ports import Clock
from agentnexus.platform.batching import GroupCommit
from agentnexus.platform.database import Connection, Database
from agentnexus.rails.evm.delegation import SET_CODE_TYPE, DelegationSignature, delegations_of
from agentnexus.rails.evm.encoding import RlpItem, keccak, rlp, rlp_list, to_hex
from agentnexus.rails.evm.errors import ChainUnavailable, NodeError, Reverted
from agentnexus.rails.evm.fees import FeeLimits, FeeOracle, Fees
from agentnexus.rails.evm.networks import Network, NetworkKind, network_by_id
from agentnexus.rails.evm.nonces import NonceManager, check_chain
from agentnexus.rails.evm.receipts import Receipt, find_receipt, poll_seconds, unknown, wait_for_receipt
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue
from agentnexus.rails.evm.signer import EvmSigner, require_network

# An estimate is exact for the state it was made on; by the time of mining the state is another.
GAS_MARGIN_NUMERATOR, GAS_MARGIN_DENOMINATOR = 5, 4
_FILLER_GAS = 21_000
Note: TypeAlias = tuple[str, str, str, int]  # key, state, mined transaction, block
_NOTE_MINED = """
update evm.outgoing as outgoing
set state = note.state, mined_transaction = note.transaction, block_number = note.block_number, updated_at = now()
from unnest($2::text[], $3::text[], $4::text[], $5::bigint[]) as note(key, state, transaction, block_number)
where outgoing.network = $1 and outgoing.key = note.key
    and set_config('synchronous_commit', 'off', true) = 'off'
"""
_TOO_CHEAP = ("less than block base fee", "underpriced", "fee too low")
_NO_MONEY = ("insufficient funds", "insufficient balance")
_NEVER = ("intrinsic gas", "exceeds block gas limit", "gas limit", "oversized", "invalid sender", "chain id")


class OutgoingState(StrEnum):
    SIGNED = "signed"  # stored, perhaps sent: may be mined any time
    SUCCEEDED = "succeeded"
    REVERTED = "reverted"
    REJECTED = "rejected"  # can never be mined


@dataclass(frozen=True, slots=True)
class Intent:
    """What a transaction shall do."""

    target: str
    data: bytes
    gas: int
    value: int = 0
    delegations: tuple[DelegationSignature, ...] = ()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A transaction of ours. `transactions` are the hashes of all its signed forms, the newest last."""

    key: str
    sender: str
    nonce: int
    intent: Intent
    fees: Fees
    raw: bytes
    transactions: tuple[str, ...]
    state: OutgoingState
    mined_transaction: str | None = None
    error: str | None = None

    @property
    def transaction(self) -> str:
        """The hash that counts: the mined one, else the newest."""
        return self.mined_transaction or self.transactions[-1]

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Self:
        return cls(
            key=row["key"],
            sender=row["sender"],
            nonce=row["nonce"],
            intent=Intent(row["target"], row["data"], row["gas"], int(row["value"]), delegations_of(row["raw"])),
            fees=Fees(int(row["max_fee_wei"]), int(row["priority_fee_wei"])),
            raw=row["raw"],
            transactions=tuple(row["transactions"]),
            state=OutgoingState(row["state"]),
            mined_transaction=row["mined_transaction"],
            error=row["error"],
        )


async def sign_transaction(
    signer: EvmSigner, network: Network, nonce: int, intent: Intent, fees: Fees
) -> tuple[bytes, str]:
    """The signed bytes, of EIP-1559 or (with delegations) of EIP-7702, and their hash."""
    fields: list[RlpItem] = [
        network.chain_id,
        nonce,
        fees.priority,
        fees.maximum,
        intent.gas,
        bytes.fromhex(intent.target[2:]),
        intent.value,
        intent.data,
        [],
    ]
    kind = b"\x02"
    if intent.delegations:
        kind = bytes([SET_CODE_TYPE])
        fields.append([each.rlp_fields() for each in intent.delegations])
    body = b"".join(rlp(each) for each in fields)
    signature = await signer.sign(keccak(kind + rlp_list(body)))
    r, s = (int.from_bytes(signature[at : at + 32], "big") for at in (0, 32))
    raw = kind + rlp_list(body + rlp(signature[64] - 27) + rlp(r) + rlp(s))
    return raw, to_hex(keccak(raw))


class TransactionSender:
    """All sending on one network, for any number of signers and processes.

    `open` is the usual door: it checks that the node is on the chain it should be.

    Args:
        limits: the most a transaction may cost.
        stuck_after_seconds: how long a transaction may wait before it is sent again; then, doubled, with more fee.
    """

    def __init__(
        self,
        database: Database,
        rpc: Rpc,
        network: Network,
        *,
        clock: Clock | None = None,
        limits: FeeLimits | None = None,
        stuck_after_seconds: float | None = None,
    ) -> None:
        self.limits = limits or FeeLimits()
        self.database = database
        self.rpc = rpc
        self.network = network
        self.clock = clock or SystemClock()
        self._fees = FeeOracle(rpc, network, self.clock, self.limits)
        self._nonces = NonceManager(database, rpc, network)
        self._notes: GroupCommit[Note, None] = GroupCommit(self._write_notes)
        self._stuck_after = stuck_after_seconds or max(1.0, 8 * network.block_seconds)

    @classmethod
    async def open(
        cls,
        database: Database,
        rpc: Rpc,
        chain_id: int,
        *,
        clock: Clock | None = None,
        limits: FeeLimits | None = None,
    ) -> Self:
        """A sender for a chain we know, on a node that is really on it; raises `WrongNetwork` or `Unavailable`."""
        network = network_by_id(chain_id)
        await check_chain(rpc, network)
        return cls(database, rpc, network, clock=clock, limits=limits)

    async def submit(self, signer: EvmSigner, key: str, intent: Intent, *, timeout_seconds: float = 60.0) -> Receipt:
        """Send once and wait. Asking again with the same key waits for the same transaction.

        Raises `PaymentUnknown` when time is up, `InsufficientFunds` when the signer cannot pay the gas,
        `PaymentFailed` when the node refuses the transaction for good.
        """
        await self.prepare(signer)
        async with self.database.transaction() as connection:
            outgoing = await self.find(key, connection) or await self.stage(connection, signer, key, intent)
        return await self.deliver(signer, outgoing, timeout_seconds=timeout_seconds)

    async def fees(self) -> Fees:
        """What gas costs now; raises `Unavailable` above our limit."""
        return await self._fees.current()

    async def estimate(self, signer: EvmSigner, intent: Intent) -> Intent:
        """Try it on the node without sending; the intent with a gas limit. Raises `Reverted` when it would fail."""
        call: dict[str, RpcValue] = {
            "from": signer.public_id,
            "to": intent.target,
            "data": to_hex(intent.data),
            "value": hex(intent.value),
        }
        gas = await self.rpc.read_int("eth_estimateGas", call, self.network.trial_block)
        return replace(intent, gas=gas * GAS_MARGIN_NUMERATOR // GAS_MARGIN_DENOMINATOR)

    def require_allowed(self, intent: Intent) -> None:
        """Raises `PaymentFailed` for a transaction above our gas limit."""
        if intent.gas > self.limits.maximum_gas:
            raise PaymentFailed(
                f"the transaction needs {intent.gas} gas, our limit is {self.limits.maximum_gas}",
                next_step="raise the gas limit if the contract is trusted",
            )

    async def prepare(self, signer: EvmSigner) -> None:
        """What `stage` needs and must not read inside a database transaction: the nonce row and the fees."""
        require_network(signer, self.network)
        await self._nonces.prepare(signer.public_id)
        await self._fees.current()

    async def stage(self, connection: Connection, signer: EvmSigner, key: str, intent: Intent) -> Outgoing:
        """Take a nonce, sign and store, all in the caller's transaction; nothing is sent.

        Only for keys that are new or whose earlier transaction was rejected; raises `Conflict` otherwise.
        """
        self.require_allowed(intent)
        fees = await self._fees.current()
        nonce = await self._nonces.take(connection, signer.public_id)
        raw, transaction = await sign_transaction(signer, self.network, nonce, intent, fees)
        row = await connection.fetchrow(
            "insert into evm.outgoing as old (network, key, sender, nonce, target, data, value, gas, max_fee_wei,"
            " priority_fee_wei, raw, transactions, state)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, array[$12], 'signed')"
            " on conflict (network, key) do update set sender = excluded.sender, nonce = excluded.nonce,"
            " target = excluded.target, data = excluded.data, value = excluded.value, gas = excluded.gas,"
            " max_fee_wei = excluded.max_fee_wei, priority_fee_wei = excluded.priority_fee_wei, raw = excluded.raw,"
            " transactions = excluded.transactions, state = 'signed', error = null, updated_at = now()"
            " where old.state = 'rejected' returning *",
            self.network.caip2,
            key,
            signer.public_id,
            nonce,
            intent.target,
            intent.data,
            intent.value,
            intent.gas,
            fees.maximum,
            fees.priority,
            raw,
            transaction,
        )
        if row is None:
            raise Conflict(f"a transaction with the key {key!r} exists already", next_step="look it up instead")
        return Outgoing.from_row(row)

    async def find(self, key: str, connection: Connection | None = None) -> Outgoing | None:
        """The live transaction of a key: None when there is none, or only a rejected one."""
        if connection is None:
            async with self.database.connection() as own:
                return await self.find(key, own)
        row = await connection.fetchrow(
            "select * from evm.outgoing where network = $1 and key = $2 and state <> 'rejected'",
            self.network.caip2,
            key,
        )
        return Outgoing.from_row(row) if row else None

    async def deliver(
        self, signer: EvmSigner, outgoing: Outgoing, *, timeout_seconds: float = 60.0, noted: bool = True
    ) -> Receipt:
        """Send what `stage` stored (again, if need be) and wait for its receipt, whatever that says.

        `noted` waits as well until the books have the outcome; without it they get it a moment later.
        """
        sent: Outgoing | Receipt = outgoing
        if outgoing.state is OutgoingState.SIGNED:
            sent = await self._broadcast(signer, outgoing, min(timeout_seconds, self._stuck_after))
        receipt = sent if isinstance(sent, Receipt) else await self._wait(signer, sent, timeout_seconds)
        return await self._finish(outgoing, receipt, noted=noted)

    async def recover(self, signer: EvmSigner) -> list[Outgoing]:
        """Send again whatever this signer stored and nobody saw mined; call it when a process starts.

        Returns what the chain still lacks after that.
        """
        await self.prepare(signer)
        await self._resend(signer, signer.public_id)
        lacking = []
        for each in await self._unfinished(signer.public_id):
            receipt = await find_receipt(self.rpc, each.transactions)
            if receipt:
                await self._finish(each, receipt)
            else:
                lacking.append(each)
        return lacking

    async def _broadcast(self, signer: EvmSigner, outgoing: Outgoing, patience_seconds: float) -> Outgoing | Receipt:
        """Hand the bytes to the node. Once stored they are never given up on an unclear answer, only on a clear no.

        A local node is asked to answer with the receipt, which saves asking for it; the others only for a "taken".
        """
        in_one = self.network.kind is NetworkKind.LOCAL and self.network.confirmations == 1
        method = "eth_sendRawTransactionSync" if in_one else "eth_sendRawTransaction"
        try:
            async with asyncio.timeout(patience_seconds):
                (answer,) = await self.rpc.batch([Call(method, (to_hex(outgoing.raw),))])
        except (ChainUnavailable, TimeoutError):
            return outgoing
        if not isinstance(answer, NodeError | Reverted):
            return Receipt.from_json(answer) if isinstance(answer, dict) else outgoing
        text = answer.message.lower()
        if "nonce too low" in text:
            return await self._settle_nonce_conflict(outgoing, patience_seconds)
        if _any((*_NO_MONEY, *_NEVER), text) and await self._is_on_its_way(outgoing):
            return outgoing
        if _any(_NO_MONEY, text):
            await self._reject(outgoing, text)
            raise InsufficientFunds(
                f"the account {outgoing.sender} has too little {self.network.native_symbol} for gas",
                next_step=f"send it some {self.network.native_symbol} and try again",
                address=outgoing.sender,
            )
        if _any(_NEVER, text):
            await self._reject(outgoing, text)
            raise PaymentFailed(f"the node refuses the transaction: {answer.message}", next_step="read its reason")
        if _any(_TOO_CHEAP, text):
            return await self._bump(signer, outgoing)
        return outgoing

    async def _is_on_its_way(self, outgoing: Outgoing) -> bool:
        """Whether an earlier try, whose answer was lost, got through: then no later refusal counts."""
        try:
            known = await self.rpc.batch([Call("eth_getTransactionByHash", (t,)) for t in outgoing.transactions])
        except ChainUnavailable:
            return True
        return any(isinstance(each, dict) for each in known)

    async def _settle_nonce_conflict(self, outgoing: Outgoing, patience_seconds: float) -> Receipt:
        """The nonce is used on chain: by this very transaction, or by someone else who holds the key.

        A node may count a block before it can show what is in it. So nothing is given up before it was asked for a
        while: a transaction wrongly called rejected would be paid a second time.
        """
        with suppress(PaymentUnknown):
            return await wait_for_receipt(
                self.rpc, self.network, outgoing.transactions, timeout_seconds=patience_seconds, confirmations=1
            )
        async with self.database.transaction() as connection:
            await self._mark_rejected(connection, outgoing, "another program used the nonce")
            await self._nonces.skip_to_chain(connection, outgoing.sender)
        raise Conflict(
            f"another program sends from {outgoing.sender}; this transaction was not sent",
            next_step="try again; give every program a key of its own",
            address=outgoing.sender,
        )

    async def _wait(self, signer: EvmSigner, outgoing: Outgoing, timeout_seconds: float) -> Receipt:
        first_pause = pause = poll_seconds(self.network)
        resend_at = self.clock.monotonic() + self._stuck_after
        rounds = 0
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    receipt = await self._look(outgoing)
                    if receipt:
                        return receipt
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, max(self.network.block_seconds / 2, 0.05))
                    if self.clock.monotonic() >= resend_at:
                        outgoing = await self._unstick(signer, outgoing, more_fee=rounds > 0)
                        rounds += 1
                        pause = first_pause
                        resend_at = self.clock.monotonic() + self._stuck_after
        except TimeoutError:
            raise unknown(outgoing.transaction, timeout_seconds) from None

    async def _look(self, outgoing: Outgoing) -> Receipt | None:
        try:
            return await find_receipt(self.rpc, outgoing.transactions, confirmations=self.network.confirmations)
        except ChainUnavailable:
            return None

    async def _unstick(self, signer: EvmSigner, outgoing: Outgoing, *, more_fee: bool) -> Outgoing:
        """Send again what is in front of a waiting transaction and itself; `more_fee` when that did not help."""
        try:
            blocking = await self._resend(signer, outgoing.sender)
            if more_fee and blocking and signer.public_id == blocking.sender:
                await self._bump(signer, blocking)
        except ChainUnavailable:
            return outgoing
        now = await self.find(outgoing.key)
        if now is None:
            raise PaymentFailed(
                "the transaction was withdrawn: its nonce was used by another program",
                next_step="try again; give every program a key of its own",
            )
        return now

    async def _resend(self, signer: EvmSigner, address: str) -> Outgoing | None:
        """Hand the node all stored transactions it has not mined, in order; returns the first of them.

        Includes those once mined and dropped by a reorganisation. Nonces given back below them are filled, because
        nothing behind a gap is ever mined.
        """
        count = await self.rpc.read_int("eth_getTransactionCount", address, "latest")
        waiting = await self._from_nonce(address, count)
        if waiting:
            if signer.public_id == address:
                await self._fill_gaps(signer, count, waiting[-1].nonce)
            await self.rpc.batch([_send_call(each) for each in waiting])
        return waiting[0] if waiting else None

    async def _fill_gaps(self, signer: EvmSigner, first: int, last: int) -> None:
        """Use up given-back nonces in ``[first, last)`` with transactions that do nothing."""
        nothing = Intent(signer.public_id, b"", _FILLER_GAS)
        while True:
            async with self.database.transaction() as connection:
                gap = await self._nonces.first_free(connection, signer.public_id)
                if gap is None or not first <= gap < last:
                    return
                filler = await self.stage(connection, signer, f"fill:{signer.public_id}:{gap}", nothing)
            await self.rpc.batch([_send_call(filler)])

    async def _from_nonce(self, address: str, nonce: int) -> list[Outgoing]:
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "select * from evm.outgoing where network = $1 and sender = $2 and nonce >= $3"
                " and state <> 'rejected' order by nonce",
                self.network.caip2,
                address,
                nonce,
            )
        return [Outgoing.from_row(row) for row in rows]

    async def _unfinished(self, address: str) -> list[Outgoing]:
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "select * from evm.outgoing where network = $1 and sender = $2 and state = 'signed' order by nonce",
                self.network.caip2,
                address,
            )
        return [Outgoing.from_row(row) for row in rows]

    async def _bump(self, signer: EvmSigner, outgoing: Outgoing) -> Outgoing:
        """Sign the same transaction with more fee and send that; one process at a time, up to our limit."""
        self._fees.forget()
        current = await self._fees.current()
        async with self.database.transaction() as connection:
            row = await connection.fetchrow(
                "select * from evm.outgoing where network = $1 and key = $2 for update",
                self.network.caip2,
                outgoing.key,
            )
            stored = Outgoing.from_row(row) if row else outgoing
            fees = stored.fees.bumped(current)
            if stored.transactions != outgoing.transactions or stored.state is not OutgoingState.SIGNED:
                return stored
            if fees.maximum > self.limits.maximum_fee_wei:
                return stored
            raw, transaction = await sign_transaction(signer, self.network, stored.nonce, stored.intent, fees)
            await connection.execute(
                "update evm.outgoing set raw = $3, transactions = transactions || $4::text, max_fee_wei = $5,"
                " priority_fee_wei = $6, updated_at = now() where network = $1 and key = $2",
                self.network.caip2,
                stored.key,
                raw,
                transaction,
                fees.maximum,
                fees.priority,
            )
        bumped = replace(stored, raw=raw, transactions=(*stored.transactions, transaction), fees=fees)
        await self.rpc.batch([_send_call(bumped)])
        return bumped

    async def _finish(self, outgoing: Outgoing, receipt: Receipt, *, noted: bool = True) -> Receipt:
        state = OutgoingState.SUCCEEDED if receipt.succeeded else OutgoingState.REVERTED
        if outgoing.state is state and outgoing.mined_transaction == receipt.transaction:
            return receipt
        # The chain has it already: losing this note in a crash costs one look-up, so it need not wait for the disk.
        note = self._notes.put((outgoing.key, str(state), receipt.transaction, receipt.block_number))
        if noted:
            await asyncio.shield(note)
        return receipt

    async def _write_notes(self, notes: Sequence[Note]) -> list[None]:
        columns = [list(column) for column in zip(*sorted(notes), strict=True)]
        async with self.database.connection() as connection:
            await connection.execute(_NOTE_MINED, self.network.caip2, *columns)
        return [None] * len(notes)

    async def _reject(self, outgoing: Outgoing, reason: str) -> None:
        """The node said no to bytes that nobody else has: the nonce is free again."""
        async with self.database.transaction() as connection:
            if await self._mark_rejected(connection, outgoing, reason):
                await self._nonces.give_back(connection, outgoing.sender, outgoing.nonce)

    async def _mark_rejected(self, connection: Connection, outgoing: Outgoing, reason: str) -> bool:
        status = await connection.execute(
            "update evm.outgoing set state = 'rejected', error = $3, updated_at = now()"
            " where network = $1 and key = $2 and state = 'signed' and nonce = $4",
            self.network.caip2,
            outgoing.key,
            reason,
            outgoing.nonce,
        )
        return str(status) == "UPDATE 1"


def _send_call(outgoing: Outgoing) -> Call:
    return Call("eth_sendRawTransaction", (to_hex(outgoing.raw),))


def _any(phrases: tuple[str, ...], text: str) -> bool:
    return any(phrase in text for phrase in phrases)
