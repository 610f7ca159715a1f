"""The money pages over sample figures: one person with parts, a signed approval, a month of payments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.core.money import Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.budgets import BudgetStatus
from agentnexus.ledger.economics import Report, Savings
from agentnexus.ledger.grants import Grant
from agentnexus.ledger.mandates import Mandate
from agentnexus.ledger.metrics import By, Point, Spending
from agentnexus.ledger.model import Reservation, ReservationState, Terms
from agentnexus.ledger.outlook import Frees
from agentnexus.web.adapters import money_views as views
from agentnexus.web.views.money import ApprovalsPage, BudgetPage, GrantPage, GrantView, MoneyPage, ToSign
from tests.web.samples import USDC

NOW = datetime(2026, 11, 21, 9, 41, tzinfo=UTC)
WALLET = "evm:0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a"
SELLER = "evm:0x9965507d1a55bcc2695c58ba16fb37d819b0a4dc"
HOSTILE = '<img src=x onerror="alert(1)">' + "x" * 120
MANDATE = Mandate(
    jti="session_1", iss=WALLET, cnf="ed25519:" + "ab" * 32, parent="user:local", constraints=(), iat=1, exp=2
)
DAYS = {day: Money(USDC, day * day * 1700 % 900_000) for day in range(0, 30, 2)}


def usdc(amount: str) -> Money:
    return USDC.parse(amount)


def status(budget_id: str, parent: str | None, limits: Limits, **fields: object) -> BudgetStatus:
    left = {name: limit for name in ("total", "per_hour", "per_day") if (limit := getattr(limits, name)) is not None}
    given: dict[str, object] = {
        "id": budget_id, "parent": parent, "owner": "local", "asset": USDC, "limits": limits, "sellers": None,
        "capabilities": None, "spent": usdc("0"), "reserved": usdc("0"), "left": left, "created_at": NOW,
        "expires_at": None, "revoked_at": None, "grant_id": None, "open": True,
    }  # fmt: skip
    return BudgetStatus(**(given | fields))  # type: ignore[arg-type]  # the fields by name


ROOT = status(
    "user:local", None,
    Limits(per_payment=usdc("1"), per_task=usdc("5"), per_hour=usdc("20"), per_day=usdc("50"), total=usdc("200")),
    spent=usdc("63.204"), reserved=usdc("0.04"),
    left={"total": usdc("136.756"), "per_hour": usdc("17.5"), "per_day": usdc("31.02")},
)  # fmt: skip
PART = status(
    "user:local/research-agent", "user:local", Limits(total=usdc("25"), per_day=usdc("2")), spent=usdc("24.1"),
    left={"total": usdc("0.9"), "per_day": usdc("0")},
)  # fmt: skip
GRANT = status(
    MANDATE.grant_id, "user:local", Limits(total=usdc("5"), per_payment=usdc("0.5")), spent=usdc("1.75"),
    left={"total": usdc("3.25")}, capabilities=frozenset({"pdf.extract", "text.summarize"}),
    grant_id=MANDATE.grant_id, expires_at=NOW + timedelta(days=2),
)  # fmt: skip
CLOSED = status("user:local/old-project", "user:local", Limits(), open=False, revoked_at=NOW)
TREE = [ROOT, PART, GRANT, CLOSED]
FREES = {"per_hour": Frees(NOW + timedelta(minutes=12), usdc("1.2")), "per_day": Frees(NOW, usdc("18.98"))}


def spending(label: str, amount: Money, count: int) -> Spending:
    return Spending(label, amount, count)


def report(hostile: bool = False) -> Report:
    days = [
        spending((NOW.date() - timedelta(days=29 - day)).isoformat(), amount, 3)
        for day, amount in DAYS.items()
        if amount
    ]
    spent = Money(USDC, sum(day.spent.atomic for day in days))
    return Report(
        spent=spending("total", spent, 45),
        earned=usdc("12.4"),
        fees=usdc("0"),
        savings=Savings(40, usdc("18"), usdc("3.2")),
        by={
            By.CAPABILITY: [
                spending(HOSTILE if hostile else "pdf.extract", usdc("3.1"), 30),
                spending("text.summarize", usdc("0.9"), 12),
            ],
            By.SELLER: [spending(SELLER, usdc("4"), 42)],
            By.RAIL: [spending("evm:eip155:31337", usdc("4"), 42), spending("", usdc("0.000001"), 1)],
            By.DAY: days,
        },
    )


def points() -> list[Point]:
    so_far, found = usdc("0"), []
    for day, amount in DAYS.items():
        so_far += amount
        label = (NOW.date() - timedelta(days=29 - day)).isoformat()
        found.append(Point(label, amount, so_far, usdc("25") - so_far))
    return found


def uses() -> list[Reservation]:
    def use(number: int, state: ReservationState, budget: str) -> Reservation:
        terms = Terms(budget, "wallet:x", "seller:y", usdc("0.25"), SELLER, "pdf.extract")
        return Reservation(
            f"k{number}",
            terms,
            state,
            250_000 if state is ReservationState.POSTED else 0,
            NOW - timedelta(hours=number),
        )

    return [
        use(1, ReservationState.PENDING, "workflow:wf_executing"),
        use(2, ReservationState.POSTED, "workflow:wf_completed"),
        use(3, ReservationState.VOIDED, MANDATE.grant_id),
    ]


@dataclass
class PreviewMoney:
    """Keeps what was asked of it. `refuse` is raised by everything that changes something."""

    changed: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    added: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    signed: list[tuple[str, str]] = field(default_factory=list)
    wallets: list[str] = field(default_factory=lambda: [WALLET])
    empty: bool = False
    hostile: bool = False
    refuse: Exception | None = None

    def _may(self) -> None:
        if self.refuse:
            raise self.refuse

    async def overview(self, user_id: str, days: int) -> MoneyPage:
        found = report(self.hostile)
        if self.empty:
            found = Report(spending("total", usdc("0"), 0), usdc("0"), usdc("0"), None, {by: [] for by in By})
        labels = views.window(NOW.date(), days)
        return MoneyPage(
            days=days, figures=views.figures(found), savings=views.savings_text(found),
            by_day=views.day_chart(found.by[By.DAY], labels),
            table=[value for value in views.day_values(found.by[By.DAY], labels) if value.number],
            shares=views.share_tables(found), tree=views.tree_views(TREE),
        )  # fmt: skip

    async def budget(self, user_id: str, budget_id: str) -> BudgetPage:
        found = next((each for each in TREE if each.id == (budget_id or ROOT.id)), None)
        if found is None:
            raise NotFound(f"no budget {budget_id}", next_step="list the budgets of its owner")
        labels = views.window(NOW.date(), 30)
        is_part = found is PART
        return BudgetPage(
            budget=views.budget_view(found, FREES if found is ROOT else {}),
            tree=views.tree_views(TREE),
            burn=views.burn_chart(points(), labels) if is_part else None,
            days=views.day_chart(report().by[By.DAY] if found is not CLOSED else [], labels),
        )

    async def change_budget(self, user_id: str, budget_id: str, limits: Mapping[str, str]) -> None:
        self._may()
        for name, text in limits.items():
            if text and not text.replace(".", "", 1).isdecimal():
                raise InvalidInput("not an amount of USDC: 'x'", field=name, next_step="write an amount such as 2.50")
        self.changed.append((budget_id, limits))

    async def add_budget(self, user_id: str, parent: str, name: str, limits: Mapping[str, str]) -> str:
        self._may()
        if not name.islower():
            raise InvalidInput("a name has small letters", field="name", next_step="call it e.g. research-agent")
        self.added.append((parent, name, limits))
        return PART.id

    async def close_budget(self, user_id: str, budget_id: str) -> None:
        self.closed.append(budget_id)

    async def approvals(self, user_id: str) -> ApprovalsPage:
        return ApprovalsPage([] if self.empty else [self._grant()], self.wallets)

    def _grant(self) -> GrantView:
        return views.grant_view(Grant(MANDATE, "0x", "local", NOW), GRANT)

    async def approval(self, user_id: str, grant_id: str) -> GrantPage:
        if grant_id != MANDATE.grant_id:
            raise NotFound(f"no approval {grant_id}", next_step="list your approvals")
        return GrantPage(self._grant(), [views.use_view(use) for use in uses()], MANDATE.model_dump_json(indent=2))

    async def draft(
        self, user_id: str, wallet: str, limits: Mapping[str, str], capabilities: Sequence[str], hours: int
    ) -> ToSign:
        if not limits["total"]:
            raise InvalidInput("the approval has no total", field="total", next_step="say how much in all")
        return ToSign("approval", wallet, "eip712", '{\n  "primaryType": "OpenPaymentMandate"\n}', "{}")

    async def approve(self, user_id: str, document: str, signature: str) -> str:
        self._may()
        self.signed.append((document, signature))
        return MANDATE.grant_id

    async def revoke(self, user_id: str, grant_id: str) -> None:
        self.closed.append(grant_id)

    async def proof(self, user_id: str, wallet: str) -> ToSign:
        if not wallet.startswith("0x"):
            raise InvalidInput("this is no address", field="wallet", next_step="copy it from the wallet")
        return ToSign("wallet", wallet, "ed25519", "AgentNexus asks you …", "{}")

    async def link(self, user_id: str, document: str, signature: str) -> None:
        self._may()
        self.signed.append((document, signature))
