"""What the ledger writes down: accounts, transfers, reservations, budgets, and the operations that change them.

Pure values. The rules that decide are in `limits` (budgets) and `book` (accounts and reservations).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import Limits

NAME_MAX_CHARS = 300
ATOMIC_MAX = 10**60
PATH_MAX_NODES = 16
OVERDRAFT_PREFIX = "external:"  # the world outside: money enters and leaves through these accounts


def check_text(value: str, name: str, *, required: bool = False) -> str:
    """`value` when the database and a log line can carry it; raises `InvalidInput` naming the field."""
    if required and not value:
        raise InvalidInput(f"{name} is missing", field=name, next_step=f"give {name}")
    if len(value) > NAME_MAX_CHARS or (value and not value.isprintable()):
        raise InvalidInput(
            f"{name} must be printable text of at most {NAME_MAX_CHARS} characters",
            field=name,
            next_step=f"shorten {name} or remove its control characters",
        )
    return value


def check_amount(amount: Money, name: str = "amount") -> Money:
    """`amount` when it is positive and of a size the columns hold."""
    if not 0 < amount.atomic <= ATOMIC_MAX:
        raise InvalidInput(f"{name} must be positive, not {amount}", field=name, next_step=f"give a positive {name}")
    return amount


def to_utc(moment: datetime) -> datetime:
    """The same moment in UTC; raises `InvalidInput` for a time without a zone."""
    if moment.tzinfo is None:
        raise InvalidInput("a time without a zone", field="time", next_step="give the time with its UTC offset")
    return moment.astimezone(UTC)


def may_overdraw(account: str) -> bool:
    """Only the outside world may owe: every other account keeps ``balance - reserved >= 0``."""
    return account.startswith(OVERDRAFT_PREFIX)


AccountKey: TypeAlias = tuple[str, str]  # account name, CAIP-19 asset id


@dataclass(slots=True)
class AccountState:
    """Running sums of one account in one asset: `balance` posted, `reserved` of it promised away."""

    name: str
    asset: Asset
    balance: int = 0
    reserved: int = 0

    @property
    def key(self) -> AccountKey:
        return self.name, self.asset.caip19

    @property
    def available(self) -> int:
        return self.balance - self.reserved

    def covers(self, amount: int) -> bool:
        return may_overdraw(self.name) or self.available >= amount


@dataclass(frozen=True, slots=True)
class Balance:
    """What one account holds in one asset: ``available + reserved == posted``."""

    account: str
    posted: Money
    reserved: Money

    @property
    def available(self) -> Money:
        return self.posted - self.reserved

    def to_json(self) -> dict[str, object]:
        return {
            "account": self.account,
            "posted": self.posted.to_json(),
            "reserved": self.reserved.to_json(),
            "available": self.available.to_json(),
        }


class ReservationState(StrEnum):
    PENDING = "pending"
    POSTED = "posted"
    VOIDED = "voided"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a reservation is about. A key comes back with the very same terms or it is a conflict.

    `task`, `tick`, `seller` and `capability` choose the counters of the limits of those names; `rail` is for metrics.
    """

    budget_id: str | None
    payer: str
    payee: str
    amount: Money
    seller: str = ""
    capability: str = ""
    task: str = ""
    tick: str = ""
    rail: str = ""

    def __post_init__(self) -> None:
        check_text(self.payer, "payer_account", required=True)
        check_text(self.payee, "payee_account", required=True)
        if self.payer == self.payee:
            raise InvalidInput(
                "payer and payee are one account", field="payee_account", next_step="name two different accounts"
            )
        for name in ("seller", "capability", "task", "tick", "rail"):
            check_text(getattr(self, name), name)
        if self.budget_id is not None:
            check_text(self.budget_id, "budget_id", required=True)
        check_amount(self.amount)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A pending transfer: ends exactly once, posted (in whole or in part) or voided.

    `returned`: of what was captured, what came back to the payer since. The rest is what budgets count as spent.
    """

    key: str
    terms: Terms
    state: ReservationState
    captured: int
    created_at: datetime
    expires_at: datetime | None = None
    auto_void: bool = False
    correlation: str = ""
    resolved_at: datetime | None = None
    reason: str = ""
    returned: int = 0

    @property
    def captured_money(self) -> Money:
        return Money(self.terms.amount.asset, self.captured)

    @property
    def spent(self) -> int:
        """Atomic units that stayed with the payee."""
        return self.captured - self.returned


class TransferKind(StrEnum):
    CAPTURE = "capture"
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    FEE = "fee"
    REFUND = "refund"
    CORRECTION = "correction"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money that moved from `debit` to `credit`; never changed afterwards. Idempotent by (kind, key).

    `reservation`: the key of the one whose payment this gave back, or took again.
    """

    id: str
    kind: TransferKind
    key: str
    debit: str
    credit: str
    amount: Money
    at: datetime
    correlation: str = ""
    memo: str = ""
    reservation: str = ""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """`Limits` of one node as plain integers of its asset, plus whom it may pay (None: anyone)."""

    per_payment: int | None = None
    per_task: int | None = None
    per_tick: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    total: int | None = None
    per_seller: int | None = None
    per_capability: int | None = None
    keep_back: int | None = None
    sellers: frozenset[str] | None = None
    capabilities: frozenset[str] | None = None

    @property
    def spendable(self) -> int | None:
        """``total - keep_back``; None without a total."""
        return None if self.total is None else self.total - (self.keep_back or 0)


LIMIT_NAMES = tuple(Limits.model_fields)


def ceilings(
    limits: Limits, asset: Asset, sellers: frozenset[str] | None, capabilities: frozenset[str] | None
) -> Ceilings:
    """Check every limit of a budget in `asset` and turn it into integers."""
    plain: dict[str, int] = {}
    for name in LIMIT_NAMES:
        money: Money | None = getattr(limits, name)
        if money is None:
            continue
        if money.asset.caip19 != asset.caip19:
            raise InvalidInput(
                f"limit {name} is in {money.asset.caip19}, the budget in {asset.caip19}",
                field=name,
                next_step="give all limits in the budget's asset",
            )
        if not 0 <= money.atomic <= ATOMIC_MAX:
            raise InvalidInput(f"limit {name} is out of range: {money}", field=name, next_step="give a limit >= 0")
        plain[name] = money.atomic
    if "total" in plain and plain["total"] < plain.get("keep_back", 0):
        raise InvalidInput("keep_back is more than total", field="keep_back", next_step="lower keep_back")
    return Ceilings(**plain, sellers=sellers, capabilities=capabilities)


@dataclass(slots=True)
class BudgetState:
    """One node of a budget tree with its running sums. `path` runs from this node up to the root."""

    id: str
    path: tuple[str, ...]
    owner: str
    asset: Asset
    ceilings: Ceilings
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    grant_id: str | None = None
    reserved: int = 0
    spent: int = 0

    @property
    def parent(self) -> str | None:
        return self.path[1] if len(self.path) > 1 else None


@dataclass(frozen=True, slots=True)
class Reserve:
    """Set money aside: the payer's account and every budget on the path, all or nothing."""

    key: str
    terms: Terms
    expires_at: datetime | None = None
    auto_void: bool = False
    correlation: str = ""


@dataclass(frozen=True, slots=True)
class Capture:
    """Post a reservation: `amount` of it (None: all), the rest goes back."""

    key: str
    amount: Money | None = None


@dataclass(frozen=True, slots=True)
class Void:
    """Give a reservation back. `expired_at` set: only when it is still pending and had expired by then."""

    key: str
    reason: str = ""
    expired_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A transfer that is not set aside first: deposits, withdrawals, fees, refunds, corrections.

    `reservation`: the captured one that it gives something of back (to its payer) or takes it again (from its payer).
    """

    key: str
    kind: TransferKind
    debit: str
    credit: str
    amount: Money
    correlation: str = ""
    memo: str = ""
    reservation: str = ""

    def __post_init__(self) -> None:
        check_text(self.debit, "from_account", required=True)
        check_text(self.credit, "to_account", required=True)
        check_text(self.memo, "memo")
        check_text(self.correlation, "correlation")
        check_text(self.reservation, "reservation")
        check_amount(self.amount)
        if self.debit == self.credit:
            raise InvalidInput(
                "a transfer to the same account", field="to_account", next_step="name two different accounts"
            )
        if self.kind is TransferKind.CAPTURE:
            raise InvalidInput("a capture needs a reservation", field="kind", next_step="use reserve and capture")


Operation: TypeAlias = Reserve | Capture | Void | Move
Answer: TypeAlias = Reservation | Transfer


@dataclass(frozen=True, slots=True)
class Finding:
    """Something `check` found wrong: the rule, what it is about, and the two figures that should be equal."""

    rule: str
    subject: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Outcome of a check of the whole ledger. `clean` is what `nexus ledger check` exits on."""

    accounts: int
    transfers: int
    reservations: int
    budgets: int
    findings: tuple[Finding, ...] = field(default=())

    @property
    def clean(self) -> bool:
        return not self.findings

    def to_json(self) -> dict[str, object]:
        return {
            "clean": self.clean,
            "accounts": self.accounts,
            "transfers": self.transfers,
            "reservations": self.reservations,
            "budgets": self.budgets,
            "findings": [
                {"rule": f.rule, "subject": f.subject, "expected": f.expected, "found": f.found} for f in self.findings
            ],
        }
