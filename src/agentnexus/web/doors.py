"""What the pages need from the house, in the pages' own words; `adapters/` fulfils it with the real services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from agentnexus.core.money import Asset, Money
from agentnexus.web.forms import Upload
from agentnexus.web.views.agents import AgentPage, AgentView
from agentnexus.web.views.history import HistoryPage, HistoryQuery
from agentnexus.web.views.market import Figures, MarketView, OfferView
from agentnexus.web.views.money import ApprovalsPage, BudgetPage, GrantPage, MoneyPage, ToSign
from agentnexus.web.views.prepaid import PrepaidPage
from agentnexus.web.views.purchases import (
    BuyPage,
    EntitlementsPage,
    Order,
    Owned,
    Passing,
    PassingPage,
    PurchaseView,
    UseView,
)
from agentnexus.web.views.runs import RunSummary, RunView
from agentnexus.web.views.saved import SavedPlan
from agentnexus.web.views.schedules import FiringView, ScheduleTyped, ScheduleView
from agentnexus.web.views.sign_in import ConnectPage
from agentnexus.web.views.signing import Signed
from agentnexus.web.views.wallet import OperationView, SendTyped, WalletPage
from agentnexus.web.views.webhooks import DeliveryView, TrialView, WebhookView


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task as posted: words, files, the most it may cost. `key` is the form's own: sent twice, it is one task."""

    text: str
    files: Sequence[Upload]
    max_cost: Money
    max_seconds: float = 900.0
    key: str = ""


@dataclass(frozen=True, slots=True)
class PlanEdit:
    """One step of a plan as its owner wants it: another seller (offer id), a cap (decimal text), or not at all."""

    step: str
    seller: str = ""
    cap: str = ""
    drop: bool = False


@dataclass(frozen=True, slots=True)
class AgentQuery:
    """Filters of the catalogue; empty means no limit. `sort` is one of the catalogue's own names."""

    query: str = ""
    category: str = ""
    max_price: Money | None = None
    sort: str = ""
    cursor: str = ""
    limit: int = field(default=24)


class Runs(Protocol):
    """Workflows of one user. Every method raises `NotFound` for a stranger's id."""

    async def create(self, user_id: str, task: NewTask) -> str:
        """The new workflow's id; planning has begun."""

    async def run_agent(
        self, user_id: str, agent: AgentView, value: dict[str, object], key: str, *, any_seller: bool = False
    ) -> str:
        """One run, already approved, at most for the agent's price; the new workflow's id.

        `any_seller`: of the agent's capability by whoever sells it best, and by the next one if that fails.
        """

    async def view(self, user_id: str, run_id: str) -> RunView: ...

    def follow(self, user_id: str, run_id: str) -> AsyncIterator[RunView]:
        """The view now and after every change; ends after the final state. Changes in between may be merged."""

    async def recent(self, user_id: str) -> tuple[Sequence[RunSummary], bool]:
        """The newest ones, newest first, and whether there are more."""

    async def history(self, user_id: str, query: HistoryQuery) -> HistoryPage:
        """What fits the filters, newest first, and a cursor for more."""

    async def approve(self, user_id: str, run_id: str) -> None: ...

    async def edit(self, user_id: str, run_id: str, edit: PlanEdit) -> None:
        """Change the plan before its approval; refusals say who needs a step, or what a seller asks."""

    async def cancel(self, user_id: str, run_id: str) -> None: ...

    async def result(self, user_id: str, run_id: str) -> object:
        """The whole result as JSON values; raises `NotFound` while there is none."""

    async def receipt(self, user_id: str, run_id: str, receipt_id: str) -> dict[str, object]:
        """A receipt's JSON form, as it is signed."""


class Catalogue(Protocol):
    """Agents listed on this node."""

    async def search(self, query: AgentQuery) -> AgentPage: ...

    async def agent(self, agent_id: str) -> AgentView:
        """With schemas and examples; raises `NotFound`."""


class Economy(Protocol):
    """What the markets offer, and how this node is."""

    async def offers(self, need: str) -> Sequence[OfferView]: ...

    async def markets(self) -> Sequence[MarketView]: ...

    async def figures(self) -> Figures:
        """(label, value) pairs, each true now."""


class MoneyDoor(Protocol):
    """Budgets, figures and approvals of one user. Strangers' ids are `NotFound`; limits are decimal text by name."""

    async def overview(self, user_id: str, days: int) -> MoneyPage: ...

    async def budget(self, user_id: str, budget_id: str) -> BudgetPage:
        """`budget_id` empty: the user's own."""

    async def change_budget(self, user_id: str, budget_id: str, limits: Mapping[str, str]) -> None:
        """An empty text lifts the limit."""

    async def add_budget(self, user_id: str, parent: str, name: str, limits: Mapping[str, str]) -> str:
        """The new budget's id."""

    async def close_budget(self, user_id: str, budget_id: str) -> None: ...

    async def approvals(self, user_id: str) -> ApprovalsPage: ...

    async def approval(self, user_id: str, grant_id: str) -> GrantPage: ...

    async def draft(
        self, user_id: str, wallet: str, limits: Mapping[str, str], capabilities: Sequence[str], hours: int
    ) -> ToSign:
        """Nothing is kept until it comes back signed."""

    async def approve(self, user_id: str, document: str, signature: str) -> str:
        """The approval's id."""

    async def revoke(self, user_id: str, grant_id: str) -> None: ...

    async def proof(self, user_id: str, wallet: str) -> ToSign: ...

    async def link(self, user_id: str, document: str, signature: str) -> None: ...


class PrepaidDoor(Protocol):
    """The visitor's own prepaid account; amounts are decimal text. Everything but `page` may be refused."""

    async def page(self, user_id: str, before: int | None = None) -> PrepaidPage: ...

    async def message(self, user_id: str, wallet: str) -> ToSign:
        """What `wallet` signs to show that it is the user's; raises `InvalidInput` for what is no address."""

    async def open(self, user_id: str, wallet: str, signature: str) -> None: ...

    async def claim(self, user_id: str, signature: str) -> str:
        """What was credited. Refusals carry ``details.reason``."""

    async def withdraw(self, user_id: str, amount: str, symbol: str, key: str) -> str:
        """The transaction's signature."""


class WalletDoor(Protocol):
    """The visitor's own smart account. Everything but `page` may be refused; strangers' ids are `NotFound`."""

    async def page(self, user_id: str, before: str = "") -> WalletPage: ...

    async def create(self, user_id: str, kind: str, *, credential_id: str = "", address: str = "") -> None:
        """`kind` is ``server``, ``passkey`` (with its credential) or ``key`` (with the owner's address)."""

    async def send(self, user_id: str, typed: SendTyped) -> str:
        """The operation's id; sent twice under one key, it is one."""

    async def signed_here(self, user_id: str) -> bool:
        """Whether this node has the key, and nobody else is asked before the wallet does something."""

    async def set_guardian(self, user_id: str, guardian: str, days: str, key: str) -> str:
        """The operation's id."""

    async def allow_gas(self, user_id: str, amount: str, key: str) -> str:
        """Let the paymaster take so much USDC for the gas that it sells; the operation's id."""

    async def cancel_recovery(self, user_id: str, key: str) -> str:
        """Refuse new owners that were proposed; the operation's id."""

    async def operation(self, user_id: str, operation_id: str) -> OperationView: ...

    def follow(self, user_id: str, operation_id: str) -> AsyncIterator[OperationView]:
        """The view now and after every change; ends after the final state."""

    async def sign(self, user_id: str, operation_id: str, signed: Signed) -> None: ...

    async def discard(self, user_id: str, operation_id: str) -> None:
        """Forget what waits for a signature."""

    async def export(self, user_id: str) -> str:
        """The private key, of a wallet whose key this node keeps."""


class PurchasesDoor(Protocol):
    """Runs and months of agents that the visitor buys and uses. Strangers' ids are `NotFound`."""

    async def terms(self, user_id: str, agent: AgentView, order: Order) -> BuyPage: ...

    async def buy(self, user_id: str, agent_id: str, order: Order, key: str, at_most: Decimal | None = None) -> str:
        """The purchase's id; asked twice under one key, it is one. `at_most`: what the visitor was shown."""

    async def purchase(self, user_id: str, purchase_id: str) -> PurchaseView: ...

    def follow(self, user_id: str, purchase_id: str) -> AsyncIterator[PurchaseView]:
        """The view now and after every change; ends after the final state."""

    async def sign(self, user_id: str, purchase_id: str, signed: Signed) -> None: ...

    async def refund(self, user_id: str, purchase_id: str) -> None: ...

    async def entitlements(self, user_id: str, before: str = "") -> EntitlementsPage: ...

    async def passing(self, user_id: str, agent_id: str, passing: Passing) -> PassingPage:
        """What it means, before it is done; refused as `pass_on` would be."""

    async def pass_on(self, user_id: str, agent_id: str, passing: Passing) -> str:
        """The wallet's operation that does it, by id."""

    async def owned(self, user_id: str, agent_id: str) -> Owned:
        """Of nobody (an empty id) and while the chain does not answer: nothing."""

    async def run(self, user_id: str, agent_id: str, value: dict[str, object], key: str) -> str:
        """The use's id."""

    async def use(self, user_id: str, use_id: str) -> UseView: ...

    def follow_use(self, user_id: str, use_id: str) -> AsyncIterator[UseView]:
        """The view now and after every change; ends after the final state."""

    async def use_input(self, user_id: str, use_id: str) -> object:
        """What the run was given, where that is still known, else None."""

    async def use_result(self, user_id: str, use_id: str) -> object:
        """The whole result as JSON values; raises `NotFound` while there is none."""


class SavedPlans(Protocol):
    """Plans the visitor keeps; refusals are `NotFound`, `Conflict`, `InvalidInput`."""

    async def all(self, user_id: str) -> Sequence[SavedPlan]: ...

    async def save(self, user_id: str, run_id: str, name: str) -> None: ...

    async def run(self, user_id: str, saved_id: str, values: Mapping[str, str], files: Sequence[Upload]) -> str:
        """The new task's id."""

    async def delete(self, user_id: str, saved_id: str) -> None: ...


class SchedulesDoor(Protocol):
    """Tasks of the visitor that begin by themselves. Strangers' ids are `NotFound`."""

    async def all(self, user_id: str) -> Sequence[ScheduleView]: ...

    async def one(self, user_id: str, schedule_id: str) -> tuple[ScheduleView, Sequence[FiringView]]:
        """With its last due times, newest first."""

    async def create(self, user_id: str, typed: ScheduleTyped, files: Sequence[Upload]) -> str:
        """The new schedule's id; `InvalidInput` says in ``details.field`` what cannot be."""

    async def change(self, user_id: str, schedule_id: str, typed: ScheduleTyped) -> None:
        """Its name and rhythm only."""

    async def pause(self, user_id: str, schedule_id: str, *, paused: bool) -> None: ...

    async def delete(self, user_id: str, schedule_id: str) -> None: ...


class WebhooksDoor(Protocol):
    """Addresses of the visitor that are told of events. Strangers' ids are `NotFound`."""

    async def all(self, user_id: str) -> Sequence[WebhookView]: ...

    async def one(self, user_id: str, webhook_id: str, state: str) -> tuple[WebhookView, Sequence[DeliveryView]]:
        """With its last deliveries, newest first; `state` empty: all of them."""

    async def create(self, user_id: str, url: str, events: Sequence[str], signature: str) -> WebhookView:
        """With its secret."""

    async def switch(self, user_id: str, webhook_id: str, *, enabled: bool) -> None: ...

    async def rotate(self, user_id: str, webhook_id: str) -> WebhookView:
        """With its new secret."""

    async def delete(self, user_id: str, webhook_id: str) -> None: ...

    async def again(self, user_id: str, webhook_id: str, run_id: str, sequence: int) -> None: ...

    async def test(self, user_id: str, webhook_id: str) -> TrialView:
        """One message now."""


class SignInDoor(Protocol):
    """Who visits, and how that changes. Refusals are `NotAllowed`, `InvalidInput`, `RateLimited`, `Unavailable`."""

    async def page(self, request: Request) -> ConnectPage: ...

    async def send_code(self, request: Request, email: str) -> str:
        """What the code is given back with."""

    async def enter(self, request: Request, response: Response, challenge: str, code: str) -> None:
        """Sign the browser in that gets `response`."""

    async def leave(self, request: Request, response: Response) -> None:
        """Sign it out."""

    async def remove_passkey(self, request: Request, passkey_id: str) -> None:
        """Of the visitor's own; `SignInAgain` as below."""

    async def end_device(self, request: Request, device_id: str) -> None:
        """Sign one of the visitor's browsers or programs out."""

    async def end_devices(self, request: Request, response: Response) -> None:
        """Sign the visitor out everywhere, here too."""

    async def require_recent(self, request: Request) -> None:
        """For what a stolen session must not do. Raises `SignInAgain` unless the visitor has just signed in."""


@dataclass(frozen=True, slots=True)
class Doors:
    """All of the above. `user` says who asks; `asset` is what amounts typed into pages are in."""

    runs: Runs
    catalogue: Catalogue
    economy: Economy
    money: MoneyDoor
    prepaid: PrepaidDoor
    wallet: WalletDoor
    purchases: PurchasesDoor
    saved: SavedPlans
    schedules: SchedulesDoor
    webhooks: WebhooksDoor
    sign_in: SignInDoor
    user: Callable[[Request], Awaitable[str]]
    asset: Asset
