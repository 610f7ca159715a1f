"""Who is serving which payment: the port, its values, and the in-memory adapter for tests and single processes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol
from uuid import uuid4

from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import Conflict
from agentnexus.core.ports import Clock


class SaleState(StrEnum):
    """A presented payment's life. Every state but `settled` is taken over by a repeat once its lease is over.

    running ─┬─> failed     the handler refused: nothing is settled, the payment may be used again
             ├─> delivered  the answer is stored, the money is not confirmed
             │      ├─> settled   both done: repeats get the stored answer
             │      └─> refused   the money did not come: the answer stays locked until it does
             └─> paid       a stream: money first, the answer is on its way
                    └─> settled
    """

    RUNNING = "running"
    FAILED = "failed"
    DELIVERED = "delivered"
    REFUSED = "refused"
    PAID = "paid"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An HTTP response as it is kept; header names are lower-case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request claims: the payment it spends and the work it wants.

    `client_key` is the client's own payment identifier (scoped to the payer), where it sent one.
    """

    payment_id: str
    payload_hash: str
    request_hash: str
    resource: str
    client_key: str | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """A claim, who holds it, and how far it got. `live` says whether the holder's lease still runs.

    `token` is this store's own name for the sale, which no other store can have: the money is settled under it.
    """

    claim: Claim
    state: SaleState
    owner: str
    live: bool
    age_seconds: float = 0.0  # since the last change
    response: StoredResponse | None = None
    settlement: Mapping[str, object] | None = None
    token: str = ""

    def same_work(self, claim: Claim) -> bool:
        """Whether `claim` repeats exactly this payment for exactly this request."""
        return (self.claim.payment_id, self.claim.payload_hash, self.claim.request_hash) == (
            claim.payment_id,
            claim.payload_hash,
            claim.request_hash,
        )


class Reservations(Protocol):
    """A store that decides, atomically and across processes, who serves a payment."""

    async def find(self, claim: Claim) -> Reservation | None:
        """The reservation under this payment id or client key."""

    async def reserve(self, claim: Claim, owner: str, lease_seconds: float) -> Reservation:
        """Take the payment for `owner`, or learn who has it: `result.owner == owner` means taken.

        A repeat of the same work takes over what is not settled and whose lease is over; its state stays, so that the
        new owner goes on where the last one stopped (`failed` starts again as `running`).
        """

    async def renew(self, payment_id: str, owner: str, lease_seconds: float) -> bool:
        """Keep the lease; False when someone else has taken over."""

    async def advance(
        self,
        payment_id: str,
        owner: str,
        state: SaleState,
        *,
        response: StoredResponse | None = None,
        settlement: Mapping[str, object] | None = None,
        lease_seconds: float = 0.0,
    ) -> None:
        """Move on; what is not given is kept. Raises `LeaseLost` when another has taken over."""

    async def changed(self, payment_id: str, timeout_seconds: float) -> None:
        """Return when the reservation may have changed, at the latest after the timeout."""

    async def purge(self, older_than_seconds: float) -> int:
        """Forget what has not changed for so long (never what is `delivered` or `paid`); returns how many."""


class LeaseLost(Conflict):
    """The owner was too slow: another process has taken over."""


def lost_lease(payment_id: str) -> LeaseLost:
    """The error of an owner that was too slow."""
    return LeaseLost(
        "another process took over this payment",
        next_step="ask again with the same payment; the stored answer is served",
        payment_id=payment_id,
    )


@dataclass(slots=True)
class _Row:
    reservation: Reservation
    lease_until: float
    updated_at: float


KEPT = (SaleState.DELIVERED, SaleState.PAID)  # money may be on its way: never forgotten


class MemoryReservations:
    """The same behaviour in one process; everything is lost with it."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._rows: dict[str, _Row] = {}
        self._by_client: dict[str, str] = {}
        self._condition = asyncio.Condition()

    def _view(self, row: _Row) -> Reservation:
        now = self._clock.monotonic()
        return replace(row.reservation, live=row.lease_until > now, age_seconds=now - row.updated_at)

    def _row(self, claim: Claim) -> _Row | None:
        key = claim.payment_id if claim.payment_id in self._rows else self._by_client.get(claim.client_key or "")
        return self._rows.get(key) if key else None

    async def find(self, claim: Claim) -> Reservation | None:
        row = self._row(claim)
        return self._view(row) if row else None

    async def reserve(self, claim: Claim, owner: str, lease_seconds: float) -> Reservation:
        now = self._clock.monotonic()
        row = self._row(claim)
        if row is None:
            row = _Row(
                Reservation(claim, SaleState.RUNNING, owner, live=True, token=str(uuid4())), now + lease_seconds, now
            )
            self._rows[claim.payment_id] = row
            if claim.client_key:
                self._by_client[claim.client_key] = claim.payment_id
            return self._view(row)
        held = self._view(row)
        if held.state is SaleState.SETTLED or held.live or not held.same_work(claim):
            return held
        state = SaleState.RUNNING if held.state is SaleState.FAILED else held.state
        row.reservation = replace(row.reservation, owner=owner, state=state)
        row.lease_until, row.updated_at = now + lease_seconds, now
        return self._view(row)

    async def renew(self, payment_id: str, owner: str, lease_seconds: float) -> bool:
        row = self._rows.get(payment_id)
        if row is None or row.reservation.owner != owner:
            return False
        row.lease_until = self._clock.monotonic() + lease_seconds
        return True

    async def advance(
        self,
        payment_id: str,
        owner: str,
        state: SaleState,
        *,
        response: StoredResponse | None = None,
        settlement: Mapping[str, object] | None = None,
        lease_seconds: float = 0.0,
    ) -> None:
        row = self._rows.get(payment_id)
        if row is None or row.reservation.owner != owner:
            raise lost_lease(payment_id)
        kept = row.reservation
        row.reservation = replace(
            kept, state=state, response=response or kept.response, settlement=settlement or kept.settlement
        )
        now = self._clock.monotonic()
        row.lease_until, row.updated_at = now + lease_seconds, now
        async with self._condition:
            self._condition.notify_all()

    async def changed(self, payment_id: str, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds), self._condition:
                await self._condition.wait()
        except TimeoutError:
            return

    async def purge(self, older_than_seconds: float) -> int:
        limit = self._clock.monotonic() - older_than_seconds
        old = [key for key, row in self._rows.items() if row.updated_at < limit and row.reservation.state not in KEPT]
        for key in old:
            claim = self._rows.pop(key).reservation.claim
            self._by_client.pop(claim.client_key or "", None)
        return len(old)
