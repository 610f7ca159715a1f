"""May a plan go ahead under a grant without asking anybody? Pure: a budget in, yes or a reason out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agentnexus.core.money import Money, total
from agentnexus.ledger.budgets import BudgetStatus


@dataclass(frozen=True, slots=True)
class Charge:
    """One payment that is planned; `amount` is None while nobody has named a price."""

    capability: str
    seller: str
    amount: Money | None


@dataclass(frozen=True, slots=True)
class Approval:
    """The grant that was asked, and why it does not allow the plan (empty: it does)."""

    grant_id: str
    objection: str = ""

    @property
    def given(self) -> bool:
        return bool(self.grant_id) and not self.objection


def state_of(status: BudgetStatus) -> str:
    """``open``, ``revoked`` or ``expired``."""
    if status.open:
        return "open"
    return "revoked" if status.revoked_at is not None else "expired"


def objection(status: BudgetStatus, charges: Sequence[Charge]) -> str:
    """Why the grant's budget would not take all of the charges; empty when it would."""
    return next(_objections(status, charges), "")


def _objections(status: BudgetStatus, charges: Sequence[Charge]) -> Iterator[str]:
    if not status.open:
        yield f"the approval is {state_of(status)}"
    most = status.limits.per_payment
    amounts: list[Money] = []
    for charge in charges:
        if charge.amount is None:
            yield f"{charge.capability} has no price yet"
            continue
        if charge.amount.asset.caip19 != status.asset.caip19:
            yield f"{charge.capability} costs {charge.amount.asset.symbol}, the approval is for {status.asset.symbol}"
            continue
        if status.capabilities is not None and charge.capability not in status.capabilities:
            yield f"the approval does not name {charge.capability}"
        if status.sellers is not None and charge.seller not in status.sellers:
            yield f"the approval does not name the seller {charge.seller}"
        if most is not None and charge.amount > most:
            yield f"{charge.capability} costs {charge.amount}, the approval allows {most} per payment"
        amounts.append(charge.amount)
    whole = total(amounts, status.asset)
    for name, left in status.left.items():
        if whole > left:
            yield f"the plan costs {whole}, {left} is left of the approval's {name} limit"
