"""The small interfaces between rooms. Each is declared once, here, and has a supported fake beside its adapters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol, runtime_checkable

from agentnexus.core.money import Asset, Money
from agentnexus.core.offers import Job, Need, Offer, Quote
from agentnexus.core.payments import Hold, Payment, PaymentRequest
from agentnexus.core.updates import Update


class Clock(Protocol):
    """Time. Tests use a clock that they move by hand."""

    def now(self) -> datetime:
        """Current time, aware, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back, for durations."""


class Ids(Protocol):
    """New identifiers, sortable by time (UUID v7 in the standard adapter)."""

    def new(self, prefix: str = "") -> str:
        """``<prefix>_<hex>``, or the bare UUID text without a prefix."""


class Entropy(Protocol):
    """Randomness. Secrets come from the operating system; replays come from a seed."""

    def random_bytes(self, count: int) -> bytes: ...

    def uniform(self) -> float:
        """0 <= x < 1."""


class Signer(Protocol):
    """Signs without ever giving its key away."""

    @property
    def public_id(self) -> str:
        """``ed25519:<hex>`` or a network address."""

    async def sign(self, message: bytes) -> bytes: ...


class Blobs(Protocol):
    """Bytes by content hash (``sha256:<hex>``). Putting the same bytes twice is one blob."""

    async def put(self, data: bytes, media_type: str = "application/octet-stream") -> str: ...

    async def get(self, reference: str) -> bytes:
        """Raises `NotFound`."""


class Market(Protocol):
    """A place where offers are found and bought, speaking the seller's own protocol."""

    @property
    def name(self) -> str: ...

    def discover(self, need: Need) -> AsyncIterator[Offer]:
        """Stream offers as they arrive; one bad offer is dropped, a dead source raises `Unavailable`."""

    async def quote(self, offer: Offer, job: Job) -> Quote:
        """A firm price; the offer's list price when the market has no quotes."""

    def buy(self, offer: Offer, job: Job, purse: Purse) -> AsyncIterator[Update]:
        """Do the job: asks `purse` for money when the protocol wants it, ends with one `Result`.

        Safe to repeat with the same job: the same payment goes out again, never a second one. Raises `SellerFailed`
        after refunding its holds, `PaymentUnknown` when money may have moved without an answer.
        """


class Purse(Protocol):
    """The only way to money, bound to one job and one budget.

    Every call is idempotent by (job, request.binding): asking again gives the first answer.
    """

    async def pay(self, request: PaymentRequest) -> Payment:
        """Reserve, send, post. Raises `BudgetExceeded`, `InsufficientFunds`, `PaymentFailed`, `PaymentUnknown`."""

    async def hold(self, request: PaymentRequest) -> Hold:
        """Reserve and set aside: an authorisation (x402) or a lock (escrow, hold invoice)."""

    async def release(self, hold: Hold, proof: dict[str, object]) -> Payment:
        """The seller was paid: check `proof` (e.g. ``{"transaction": …}``) against the network, then post."""

    async def refund(self, hold: Hold, reason: str) -> Payment:
        """Make sure the seller can never collect, then void. Returns the payment as confirmed when it already did."""

    async def lookup(self, payment: Payment) -> Payment:
        """Ask the network what became of it."""


class Rail(Protocol):
    """A payment network that can send. `key` makes a send repeatable without paying twice."""

    @property
    def name(self) -> str: ...

    async def balance(self, asset: Asset) -> Money: ...

    async def send(self, request: PaymentRequest, key: str) -> Payment: ...

    async def lookup(self, payment: Payment) -> Payment: ...

    async def fee(self, request: PaymentRequest) -> Money:
        """What the payer pays on top, in the asset it is paid in; zero where the seller's side sponsors it."""


@runtime_checkable
class Recovering(Protocol):
    """What a rail adds when it stores what it sends: a process may end between storing and sending."""

    async def recover(self) -> int:
        """Send again what was stored and nobody saw finished; how many stay open. Raises `Unavailable`."""


@runtime_checkable
class Holding(Protocol):
    """What a rail adds when it can set money aside. A hold ends exactly once."""

    async def open(self, request: PaymentRequest, key: str) -> Hold: ...

    async def settle(self, hold: Hold, proof: dict[str, object]) -> Payment:
        """Confirm on the network that the payee got exactly this; `unknown` while it cannot be told."""

    async def cancel(self, hold: Hold) -> Payment:
        """Make collecting impossible. Returns `refunded`, or `confirmed` when the payee was faster."""
