"""What is sold of an agent: a number of runs, or a period in which it may be run; and which token says so. Pure rules.

Periods are the contract's epochs: 30 days, counted from the Unix epoch, the same for everybody. So a token's id says
when it is good, and one that is bought in the middle costs the days that are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Money
from agentnexus.marketplace.listings.model import Listing
from agentnexus.rails.evm.contracts import epoch_id
from agentnexus.rails.evm.encoding import keccak

QUANTITY_MAX = 1_000
DAY = timedelta(days=1)
PERIOD_DAYS = 30
PERIOD_SECONDS = PERIOD_DAYS * 24 * 3600
SIGNING_TIME = timedelta(hours=1)  # how long the chain takes the operation, and its buyer may think about it


class Kind(StrEnum):
    RUNS = "runs"
    PERIOD = "period"


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One epoch."""

    number: int

    @classmethod
    def at(cls, moment: datetime) -> Period:
        return cls(int(moment.timestamp()) // PERIOD_SECONDS)

    @classmethod
    def on_sale(cls, now: datetime) -> Period:
        """The present one, until it could be over before it is paid."""
        return cls.at(now + SIGNING_TIME)

    @property
    def starts_at(self) -> datetime:
        return datetime.fromtimestamp(self.number * PERIOD_SECONDS, UTC)

    @property
    def ends_at(self) -> datetime:
        return self.following.starts_at

    @property
    def following(self) -> Period:
        return Period(self.number + 1)

    def part(self, whole: int, now: datetime) -> int:
        """For the days that are left of it, begun ones counted; rounded up."""
        left = self.ends_at - max(now, self.starts_at)
        days = min(-(-left // DAY), PERIOD_DAYS)
        return -(-whole * days // PERIOD_DAYS)

    def price(self, whole: Money, now: datetime) -> Money:
        """Of that part, in atomic units."""
        return Money(whole.asset, self.part(whole.atomic, now))


@dataclass(frozen=True, slots=True)
class PurchaseQuote:
    """What buying costs now.

    Args:
        price: of one run, or of the period's days that are left.
        runs_max: how often it may be run in the period; None: as often as its owner likes.
        replaces: unused runs that an upgrade to it gives back; `gives_back` the money of these.
    """

    kind: Kind
    quantity: int
    price: Money
    fee_bps: int
    transferable: bool
    runs_max: int | None = None
    period: Period | None = None
    replaces: int = 0
    gives_back: Money | None = None

    @property
    def amount(self) -> Money:
        return self.price * self.quantity

    @property
    def starts_at(self) -> datetime | None:
        return None if self.period is None else self.period.starts_at

    @property
    def ends_at(self) -> datetime | None:
        return None if self.period is None else self.period.ends_at


def quoted(
    listing: Listing, kind: Kind, quantity: int, *, period: Period, fee_bps: int, now: datetime
) -> PurchaseQuote:
    """Raises `InvalidInput` for a number that cannot be, or an agent that is not sold like this."""
    transferable = listing.manifest.pricing.transferable
    if kind is Kind.RUNS:
        if not 1 <= quantity <= QUANTITY_MAX:
            raise InvalidInput(f"buy 1 to {QUANTITY_MAX} runs", field="quantity", next_step="choose a number in it")
        return PurchaseQuote(kind, quantity, listing.price, fee_bps, transferable)
    if quantity != 1:
        raise InvalidInput("a period is bought one at a time", field="quantity", next_step="leave the quantity out")
    if listing.month_price is None:
        raise InvalidInput(
            f"{listing.manifest.title} is sold by the run", field="kind", next_step='buy it with "kind": "runs"'
        )
    price, runs = period.price(listing.month_price, now), listing.manifest.pricing.runs_per_month
    runs_max = None if runs is None else period.part(runs, now)
    return PurchaseQuote(kind, 1, price, fee_bps, transferable, runs_max, period)


def agent_class(agent_id: str, kind: Kind = Kind.RUNS, *, transferable: bool = False) -> int:
    """The number of a class of tokens: 192 bits, never 0. What cannot change of a class is in it."""
    name = f"agentnexus:{agent_id}"
    if kind is Kind.PERIOD:
        name += "#period"
    if transferable:
        name += "#transferable"
    return int.from_bytes(keccak(name.encode())[:24], "big") | 1


def token_of(agent_class_number: int, period: Period | None) -> int:
    """The token of a class for a period; without one it never ends."""
    return epoch_id(agent_class_number, 0 if period is None else period.number)


def class_of(token_id: int) -> int:
    """The class of a token."""
    return token_id >> 64
