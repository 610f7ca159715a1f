"""Money as the pages show it: budgets with their meters, figures, charts, approvals and their uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agentnexus.web.charts import Columns, Stairs, Value
from agentnexus.web.views.runs import State


@dataclass(frozen=True, slots=True)
class Meter:
    """One limit: how much of it is used (0..100), what is left, and when more comes back."""

    name: str
    label: str
    limit: str
    typed: str  # the limit as it stands in the form
    used: int | None = None
    left: str = ""
    frees: str = ""


@dataclass(frozen=True, slots=True)
class BudgetView:
    """`depth` counts from the person's own budget; `changeable` is false for what a wallet signed or is closed."""

    id: str
    label: str
    depth: int
    state: State
    spent: str
    reserved: str
    meters: Sequence[Meter]
    changeable: bool
    is_grant: bool
    is_root: bool
    only: Sequence[str] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class BudgetPage:
    """One budget, the tree it stands in, and how it burns down."""

    budget: BudgetView
    tree: Sequence[BudgetView]
    burn: Stairs | None
    days: Columns


@dataclass(frozen=True, slots=True)
class Share:
    """A label's part of what was spent, with a bar of 0..100."""

    label: str
    spent: str
    count: int
    average: str
    bar: int


@dataclass(frozen=True, slots=True)
class MoneyPage:
    """The economy of one person over `days`; `shares` by (title, rows)."""

    days: int
    figures: Sequence[tuple[str, str]]
    savings: str
    by_day: Columns
    table: Sequence[Value]
    shares: Sequence[tuple[str, Sequence[Share]]]
    tree: Sequence[BudgetView]


@dataclass(frozen=True, slots=True)
class GrantView:
    """An approval in the list."""

    id: str
    wallet: str
    state: State
    total: str
    left: str
    used: int
    expires_at: datetime
    limits: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class UseView:
    """A payment under an approval; `run_id` leads to its task, when it was for one."""

    at: datetime
    state: State
    amount: str
    capability: str
    seller: str
    run_id: str


@dataclass(frozen=True, slots=True)
class GrantPage:
    grant: GrantView
    uses: Sequence[UseView]
    document: str


@dataclass(frozen=True, slots=True)
class ToSign:
    """What a wallet is asked to sign: `payload` is EIP-712 JSON or a message, as `scheme` says.

    `document` goes back unchanged with the signature; `kind` (``approval`` or ``wallet``) is for the page's words.
    """

    kind: str
    wallet: str
    scheme: str
    payload: str
    document: str
    limits: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class ApprovalsPage:
    """`wallets` are those that may approve."""

    grants: Sequence[GrantView]
    wallets: Sequence[str]
