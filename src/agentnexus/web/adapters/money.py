"""`MoneyDoor` over the ledger: budgets, figures, approvals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

from pydantic import ValidationError

from agentnexus.api.wallet_forms import signature_text, wallet_id
from agentnexus.core.errors import InvalidInput
from agentnexus.core.payments import Limits
from agentnexus.core.ports import Clock, Ids
from agentnexus.ledger.economics import Economics
from agentnexus.ledger.grants import Grants
from agentnexus.ledger.mandates import Mandate, Permission, WalletLink
from agentnexus.ledger.metrics import By, Scoped
from agentnexus.ledger.outlook import Outlook
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.ledger.wallet_signatures import Document, to_sign
from agentnexus.web.adapters.money_views import (
    budget_view,
    burn_chart,
    day_chart,
    day_values,
    figures,
    grant_view,
    permission_lines,
    savings_text,
    share_tables,
    tree_views,
    use_view,
    window,
)
from agentnexus.web.views.money import ApprovalsPage, BudgetPage, GrantPage, MoneyPage, ToSign

Kind = TypeVar("Kind", Mandate, WalletLink)
USES_SHOWN = 200
BURN_DAYS = 30


class HouseMoney:
    """One person's money at a time; the ledger's own checks say whose is whose."""

    def __init__(
        self,
        budgets: PersonalBudgets,
        economics: Economics,
        grants: Grants,
        *,
        outlook: Outlook,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._budgets = budgets
        self._economics = economics
        self._grants = grants
        self._outlook = outlook
        self._clock = clock
        self._ids = ids

    async def overview(self, user_id: str, days: int) -> MoneyPage:
        """The last `days` days, today included."""
        now = self._clock.now()
        labels = window(now.date(), days)
        since = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)
        scope = Scoped(self._economics.asset, owner=user_id, since=since)
        earning = [f"seller:{each.wallet}" for each in await self._grants.approvers.of(user_id)]
        report = await self._economics.report(scope, user_id, earning)
        return MoneyPage(
            days=days,
            figures=figures(report),
            savings=savings_text(report),
            by_day=day_chart(report.by[By.DAY], labels),
            table=[value for value in day_values(report.by[By.DAY], labels) if value.number],
            shares=share_tables(report),
            tree=tree_views(await self._budgets.tree(user_id)),
        )

    async def budget(self, user_id: str, budget_id: str) -> BudgetPage:
        tree = await self._budgets.tree(user_id)
        status = await self._budgets.part(user_id, budget_id) if budget_id else tree[0]
        now = self._clock.now()
        labels = window(now.date(), BURN_DAYS)
        since = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=BURN_DAYS - 1)
        scope = Scoped(self._economics.asset, budget_id=status.id, since=since)
        points = await self._economics.metrics.burn_down(status.id, scope)
        spending = await self._economics.metrics.spending(scope, By.DAY)
        views = tree_views(tree)
        depth = next((view.depth for view in views if view.id == status.id), 0)
        return BudgetPage(
            budget=budget_view(status, await self._outlook.frees(status), depth),
            tree=views,
            burn=burn_chart(points, labels),
            days=day_chart(spending, labels),
        )

    async def change_budget(self, user_id: str, budget_id: str, limits: Mapping[str, str]) -> None:
        changes = {name: text or None for name, text in limits.items()}
        await self._budgets.change(user_id, changes, budget_id)

    async def add_budget(self, user_id: str, parent: str, name: str, limits: Mapping[str, str]) -> str:
        made = await self._budgets.add(
            user_id, name, {limit: text for limit, text in limits.items() if text}, parent=parent
        )
        return made.id

    async def close_budget(self, user_id: str, budget_id: str) -> None:
        await self._budgets.close(user_id, budget_id)

    async def approvals(self, user_id: str) -> ApprovalsPage:
        grants = [grant_view(grant, status) for grant, status in await self._grants.list(user_id)]
        return ApprovalsPage(grants, [each.wallet for each in await self._grants.approvers.of(user_id)])

    async def approval(self, user_id: str, grant_id: str) -> GrantPage:
        grant = await self._grants.get(grant_id, user_id)
        view = grant_view(grant, await self._grants.status(grant_id))
        uses = [use_view(use) for use in await self._grants.uses(grant_id, USES_SHOWN)]
        return GrantPage(view, uses, _pretty(grant.mandate.model_dump(mode="json")))

    async def draft(
        self, user_id: str, wallet: str, limits: Mapping[str, str], capabilities: Sequence[str], hours: int
    ) -> ToSign:
        amounts = {name: self._grants.asset.parse(text) for name, text in limits.items() if text}
        names = frozenset(capabilities) if capabilities else None
        permission = Permission(Limits(**amounts), None, names)
        parent = (await self._budgets.current(user_id)).id
        mandate = self._grants.draft(wallet_id(wallet), parent, permission, hours * 3600, self._ids.new("session"))
        return self._shown("approval", mandate, permission_lines(permission))

    async def approve(self, user_id: str, document: str, signature: str) -> str:
        mandate = _read(Mandate, document)
        status = await self._grants.approve(mandate, signature_text(mandate.iss, signature), owner=user_id)
        return status.id

    async def revoke(self, user_id: str, grant_id: str) -> None:
        await self._grants.revoke(grant_id, user_id)

    async def proof(self, user_id: str, wallet: str) -> ToSign:
        return self._shown("wallet", self._grants.approvers.proof(user_id, wallet_id(wallet)))

    async def link(self, user_id: str, document: str, signature: str) -> None:
        proof = _read(WalletLink, document)
        if proof.owner != user_id:
            raise InvalidInput("this proof is for somebody else", field="document", next_step="ask for one of yours")
        await self._grants.approvers.link(proof, signature_text(proof.iss, signature))

    def _shown(self, kind: str, document: Document, limits: Sequence[tuple[str, str]] = ()) -> ToSign:
        shown = to_sign(document, self._grants.asset.network)
        payload = shown.get("message") or _pretty(shown["typed_data"])
        return ToSign(kind, document.iss, str(shown["scheme"]), str(payload), document.model_dump_json(), limits)


def _read(kind: type[Kind], document: str) -> Kind:
    try:
        return kind.model_validate_json(document)
    except ValidationError as error:
        raise InvalidInput(
            "the document came back changed", field="document", next_step="start again from the form"
        ) from error


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
