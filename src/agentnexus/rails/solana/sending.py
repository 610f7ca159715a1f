"""Sending on Solana: signed once per key for ever, written down before it leaves, sent again as the same bytes.

A transaction lives as long as its blockhash, about a minute. It is called failed only when the chain says so, or when
the finalised chain is past its last block and does not have it. What is not known is not decided.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

import asyncpg
from solders.hash import Hash
from solders.instruction import Instruction
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import Conflict, PaymentFailed, PaymentUnknown
from agentnexus.core.ports import Clock
from agentnexus.platform.database import Database
from agentnexus.rails.solana.cluster import Cluster, Commitment, LatestBlockhash
from agentnexus.rails.solana.errors import ClusterUnavailable, NodeError, WrongNetwork
from agentnexus.rails.solana.networks import Network
from agentnexus.rails.solana.priority import FeeLimits, PriorityFees
from agentnexus.rails.solana.programs import compute_unit_limit, compute_unit_price
from agentnexus.rails.solana.rpc import SolanaRpc
from agentnexus.rails.solana.signer import SolanaSigner, require_network

# The same payment twice in one block would be one transaction: limit and price, which cost next to nothing, differ.
_LIMIT_VARIANTS, PRICE_VARIANTS = 4_096, 256
_SIGN_TRIES = 16
_UNITS_MARGIN_NUMERATOR, _UNITS_MARGIN_DENOMINATOR = 6, 5
_UNITS_FOR_SIMULATION = 400_000
_UNITS_SPARE = 2_000
# Another node than the one that told us the height may be some blocks behind or ahead.
_MARGIN_BLOCKS = 32
_MARGIN_SLOTS = 64
_PAGE = 1_000


class OutgoingState(StrEnum):
    SIGNED = "signed"  # stored, perhaps sent: may be on the chain any time
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # on the chain with an error: it cost its fee and moved nothing
    EXPIRED = "expired"  # can never be on the chain


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A transaction of ours."""

    key: str
    intent: str
    payer: str
    signature: str
    wire: bytes
    last_valid_block_height: int
    opened_slot: int
    state: OutgoingState
    slot: int | None = None
    error: str | None = None

    @property
    def refused(self) -> bool:
        """Nothing was signed, and nothing ever will be under this key."""
        return not self.wire

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Self:
        return cls(
            key=row["key"],
            intent=row["intent"],
            payer=row["payer"],
            signature=row["signature"],
            wire=row["wire"],
            last_valid_block_height=row["last_valid_block_height"],
            opened_slot=row["opened_slot"],
            state=OutgoingState(row["state"]),
            slot=row["slot"],
            error=row["error"],
        )


class TransactionSender:
    """All sending on one cluster, for any number of signers and processes.

    `open` is the usual door: it checks that the node is on the cluster it should be.

    Args:
        commitment: from when on a transaction counts as done.
        resend_seconds: how long to wait before the same bytes are sent again.
        poll_seconds: between two looks at a transaction.
    """

    def __init__(
        self,
        database: Database,
        rpc: SolanaRpc,
        network: Network,
        *,
        clock: Clock | None = None,
        limits: FeeLimits | None = None,
        commitment: Commitment = Commitment.CONFIRMED,
        resend_seconds: float = 2.0,
        poll_seconds: float | None = None,
    ) -> None:
        self.database = database
        self.rpc = rpc
        self.network = network
        self.clock = clock or SystemClock()
        self.cluster = Cluster(rpc)
        self.fees = PriorityFees(rpc, self.clock, limits or FeeLimits())
        self.commitment = commitment
        self._resend = resend_seconds
        self._poll = poll_seconds or network.slot_seconds / 2

    @classmethod
    async def open(
        cls,
        database: Database,
        rpc: SolanaRpc,
        network: Network,
        *,
        clock: Clock | None = None,
        limits: FeeLimits | None = None,
        commitment: Commitment = Commitment.CONFIRMED,
    ) -> Self:
        """A sender on a node that is really on the network; raises `WrongNetwork` or `Unavailable`."""
        await check_cluster(rpc, network)
        return cls(database, rpc, network, clock=clock, limits=limits, commitment=commitment)

    async def stage(
        self, key: str, intent: str, instructions: Sequence[Instruction], signers: Sequence[SolanaSigner]
    ) -> Outgoing:
        """Try, sign and write down; nothing is sent. The first signer pays the network's fee.

        What another process stored under the key meanwhile is the answer: compare it with `require_intent`. Raises
        `PaymentFailed` when the cluster says that it would not go through.
        """
        for signer in signers:
            require_network(signer, self.network)
        return await self._sign(key, intent, instructions, signers)

    async def refuse(self, key: str, intent: str, payer: str, reason: str) -> Outgoing:
        """Write down that nothing is ever sent under a key. What another process stored meanwhile is the answer.

        Without this note a call that runs beside a refused one could still send what its caller gave up.
        """
        async with self.database.connection() as connection:
            await connection.execute(
                "insert into solana.outgoing (network, key, intent, payer, signature, wire, blockhash,"
                " last_valid_block_height, opened_slot, state, error)"
                " values ($1, $2, $3, $4, $5, '', '', 0, 0, 'expired', $6) on conflict do nothing",
                self.network.caip2,
                key,
                intent,
                payer,
                f"none:{self.network.caip2}:{key}",
                reason,
            )
        found = await self.find(key)
        assert found is not None  # written above or there before; never deleted
        return found

    async def find(self, key: str) -> Outgoing | None:
        async with self.database.connection() as connection:
            row = await connection.fetchrow(
                "select * from solana.outgoing where network = $1 and key = $2", self.network.caip2, key
            )
        return Outgoing.from_row(row) if row else None

    async def deliver(self, outgoing: Outgoing, *, timeout_seconds: float = 60.0) -> Outgoing:
        """Send what `stage` stored (again, if need be) until its fate is known, and write that down.

        Raises `PaymentUnknown` when time is up first.
        """
        if outgoing.state is not OutgoingState.SIGNED:
            return outgoing
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._finish(await self._push(outgoing))
        except TimeoutError:
            raise PaymentUnknown(
                "the transaction is sent and not confirmed yet",
                next_step="look the payment up again later; do not pay a second time before that",
                transaction=outgoing.signature,
            ) from None

    async def key_of(self, signature: str) -> str | None:
        """The key under which this node made a transaction; None when it did not."""
        async with self.database.connection() as connection:
            key: str | None = await connection.fetchval(
                "select key from solana.outgoing where signature = $1", signature
            )
        return key

    async def recover(self, payer: str, *, timeout_seconds: float = 5.0) -> list[Outgoing]:
        """Send again what this payer stored and nobody saw finished; call it when a process starts.

        Returns what is still open after that.
        """
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "select * from solana.outgoing where network = $1 and payer = $2 and state = 'signed'"
                " order by created_at",
                self.network.caip2,
                payer,
            )
        open_ones = []
        for outgoing in map(Outgoing.from_row, rows):
            try:
                await self.deliver(outgoing, timeout_seconds=timeout_seconds)
            except PaymentUnknown:
                open_ones.append(outgoing)
        return open_ones

    async def _sign(
        self, key: str, intent: str, instructions: Sequence[Instruction], signers: Sequence[SolanaSigner]
    ) -> Outgoing:
        addresses = [Pubkey.from_string(signer.public_id) for signer in signers]
        latest, price, units = await asyncio.gather(
            self.cluster.latest_blockhash(), self.fees.price(instructions), self._units(instructions, addresses)
        )
        for attempt in range(_SIGN_TRIES):
            variant = int.from_bytes(hashlib.sha256(f"{key}\n{attempt}".encode()).digest()[:4], "big")
            budget = [
                compute_unit_limit(units + variant % _LIMIT_VARIANTS),
                compute_unit_price(price + variant // _LIMIT_VARIANTS % PRICE_VARIANTS),
            ]
            message = MessageV0.try_compile(addresses[0], [*budget, *instructions], [], latest.blockhash)
            signed = await _signed(message, signers)
            if stored := await self._store(key, intent, signed, latest) or await self.find(key):
                return stored
        raise PaymentFailed("too many equal payments in one block", next_step="try again in a second")

    async def _units(self, instructions: Sequence[Instruction], addresses: Sequence[Pubkey]) -> int:
        """Compute units with some to spare, by trying it. Raises `PaymentFailed` when it would not go through."""
        budget = [compute_unit_limit(_UNITS_FOR_SIMULATION)]
        message = MessageV0.try_compile(addresses[0], [*budget, *instructions], [], Hash.default())
        unsigned = [Signature.default()] * message.header.num_required_signatures
        trial = bytes(VersionedTransaction.populate(message, unsigned))
        simulation = await self.cluster.simulate(trial, check_signatures=False, own_blockhash=False)
        if simulation.error is not None:
            raise PaymentFailed(
                f"the cluster says that the payment would fail: {simulation.error}",
                next_step="see that the wallet has the tokens, and its fee payer some SOL for fees and rent",
                reason=simulation.error,
            )
        return simulation.units * _UNITS_MARGIN_NUMERATOR // _UNITS_MARGIN_DENOMINATOR + _UNITS_SPARE

    async def _store(
        self, key: str, intent: str, transaction: VersionedTransaction, latest: LatestBlockhash
    ) -> Outgoing | None:
        """None when the key, or this very transaction, is there already."""
        message = transaction.message
        async with self.database.connection() as connection:
            row = await connection.fetchrow(
                "insert into solana.outgoing (network, key, intent, payer, signature, wire, blockhash,"
                " last_valid_block_height, opened_slot, state)"
                " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'signed') on conflict do nothing returning *",
                self.network.caip2,
                key,
                intent,
                str(message.account_keys[0]),
                str(transaction.signatures[0]),
                bytes(transaction),
                str(message.recent_blockhash),
                latest.last_valid_block_height,
                latest.slot,
            )
        return Outgoing.from_row(row) if row else None

    async def _push(self, outgoing: Outgoing) -> Outgoing:
        """Send, look, send again; ends when the fate is known."""
        last_sent = float("-inf")
        while True:
            if self.clock.monotonic() - last_sent >= self._resend:
                await self._send(outgoing)
                last_sent = self.clock.monotonic()
            with suppress(ClusterUnavailable, NodeError):
                if ended := await self._look(outgoing):
                    return ended
            await asyncio.sleep(self._poll)

    async def _send(self, outgoing: Outgoing) -> None:
        """No answer of a node is a fate: a lost one may have been taken, a refused one may have got through before."""
        with suppress(ClusterUnavailable, NodeError):
            await self.cluster.send(outgoing.wire, preflight=False)

    async def _look(self, outgoing: Outgoing) -> Outgoing | None:
        """The error first: clusters call a failed transaction confirmed as well."""
        status = await self.cluster.status(outgoing.signature)
        if status is None and await self._is_past(outgoing):
            # Nodes keep only the last minutes at hand; searching further is dear, so it waits until now.
            status = await self.cluster.status(outgoing.signature, search=True)
            if status is None and not await self._is_listed(outgoing):
                return replace(outgoing, state=OutgoingState.EXPIRED, error="the blockhash expired")
        if status is None or not status.reached(self.commitment):
            return None
        state = OutgoingState.SUCCEEDED if status.error is None else OutgoingState.FAILED
        return replace(outgoing, state=state, slot=status.slot, error=status.error)

    async def _is_past(self, outgoing: Outgoing) -> bool:
        """Whether the finalised chain is past the last block that could have held it."""
        height = await self.cluster.block_height(Commitment.FINALIZED)
        return height > outgoing.last_valid_block_height + _MARGIN_BLOCKS

    async def _is_listed(self, outgoing: Outgoing) -> bool:
        """Whether it is among the payer's final transactions, by a node that has seen as much as we know of.

        Asked as well, since "unknown signature" is also what a node says that lags behind or has forgotten.
        """
        slot = await self.cluster.slot(Commitment.FINALIZED)
        before: str | None = None
        while True:
            page = await self.cluster.mentions(
                Pubkey.from_string(outgoing.payer),
                before=before,
                commitment=Commitment.FINALIZED,
                minimum_slot=slot,
                limit=_PAGE,
            )
            if any(each.signature == outgoing.signature for each in page):
                return True
            if len(page) < _PAGE or page[-1].slot < outgoing.opened_slot - _MARGIN_SLOTS:
                return False
            before = page[-1].signature

    async def _finish(self, outgoing: Outgoing) -> Outgoing:
        """The chain has it already: losing this note in a crash costs one look-up, so it need not wait for the disk."""
        async with self.database.connection() as connection:
            await connection.execute(
                "update solana.outgoing set state = $3, slot = $4, error = $5, updated_at = now()"
                " where network = $1 and key = $2 and state = 'signed'"
                " and set_config('synchronous_commit', 'off', true) = 'off'",
                self.network.caip2,
                outgoing.key,
                outgoing.state,
                outgoing.slot,
                outgoing.error,
            )
        return outgoing


def require_intent(outgoing: Outgoing, intent: str) -> None:
    """Raises `Conflict` when a key was used for another payment."""
    if outgoing.intent != intent:
        raise Conflict("this key was used for another payment", next_step="use one key per payment")


async def check_cluster(rpc: SolanaRpc, network: Network) -> None:
    """Raises `WrongNetwork` unless the node is on this cluster, by its genesis hash."""
    genesis = await rpc.call("getGenesisHash")
    if genesis != network.genesis_hash:
        raise WrongNetwork(
            f"the node is not on {network.caip2}",
            next_step="point the rail at a node of this network",
            genesis=str(genesis)[:100],
            network=network.caip2,
        )


async def _signed(message: MessageV0, signers: Sequence[SolanaSigner]) -> VersionedTransaction:
    """All signatures, in the order in which the message wants them."""
    raw = to_bytes_versioned(message)
    made = {signer.public_id: Signature.from_bytes(await signer.sign(raw)) for signer in signers}
    wanted = message.account_keys[: message.header.num_required_signatures]
    return VersionedTransaction.populate(message, [made[str(key)] for key in wanted])
