"""Hires outside workflows by people with a prepaid account: the most is set aside first, what was paid is charged."""

from __future__ import annotations

from agentnexus.core.errors import NexusError, PaymentUnknown
from agentnexus.core.money import Money, total
from agentnexus.core.offers import Need
from agentnexus.core.payments import Limits
from agentnexus.escrow.funds import PrepaidFunds
from agentnexus.hiring.choose import Policy
from agentnexus.hiring.hire import Hiring
from agentnexus.hiring.holds import PAID
from agentnexus.hiring.jobs import HireRow
from agentnexus.hiring.model import Hired
from agentnexus.ledger.budgets import BudgetsDoor
from agentnexus.ledger.personal import WORKFLOW

REFERENCE = "hire:"
CHARGE = "hire"


class PrepaidHires:
    """Without it a hire would be paid from the node's wallet, and its buyer's account stayed as it is."""

    def __init__(self, hiring: Hiring, funds: PrepaidFunds, budgets: BudgetsDoor) -> None:
        self._hiring = hiring
        self._funds = funds
        self._budgets = budgets

    async def hire(
        self,
        need: Need,
        most: Money,
        *,
        parent: str,
        key: str,
        user_id: str,
        only: str = "",
        policy: Policy = Policy.BALANCED,
    ) -> Hired:
        """`Hiring.hire` that may spend `most` in all its attempts; who has no account hires under `parent` as ever.

        Raises `InsufficientFunds` before anybody is asked, and what `Hiring.hire` raises. After `PaymentUnknown` the
        money stays set aside until the same call, or upkeep, finds out.
        """
        if not await self._funds.keeps(user_id):
            return await self._hiring.hire(need, budget_id=parent, key=key, user_id=user_id, only=only, policy=policy)
        reference, budget_id = f"{REFERENCE}{key}", f"{WORKFLOW}{REFERENCE}{key}"
        known = await self._hiring.store.load(key)
        if known is None or known.state == "running":
            await self._funds.reserve(user_id, reference, most)
        await self._budgets.create(budget_id, parent=parent, owner=user_id, limits=Limits(total=most))
        try:
            hired = await self._hiring.hire(
                need, budget_id=budget_id, key=key, user_id=user_id, only=only, policy=policy
            )
        except PaymentUnknown:
            raise
        except NexusError:
            await self.settled(reference)
            raise
        await self.settled(reference)
        return hired

    async def settled(self, reference: str) -> bool:
        """Charge what sellers got and give the rest back, once the hire has ended; False until then."""
        row = await self._hiring.store.load(reference.removeprefix(REFERENCE))
        if row is not None and row.state == "running":
            return False
        if await self._funds.is_open(reference):
            if row is not None and (paid := _paid(row, self._funds.priced_in.zero())):
                await self._funds.capture(reference, CHARGE, paid, _transaction(row))
            await self._funds.release(reference)
        return True


def _transaction(row: HireRow) -> str:
    """The payment's that was settled; "" where there was none."""
    payments = (payment for receipt in row.receipts for payment in receipt.payments)
    return next((each.transaction for each in payments if each.state in PAID and each.transaction), "")


def _paid(row: HireRow, zero: Money) -> Money:
    """What stayed with sellers, of all attempts, in the asset of `zero` or counted in it."""
    payments = (payment for receipt in row.receipts for payment in receipt.payments)
    return total(
        (Money(zero.asset, each.worth(zero.asset.caip19)) for each in payments if each.state in PAID),
        zero.asset,
    )
