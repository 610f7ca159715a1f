"""The economy of one person, agent or task in one report: spent, earned, net, fees, and what it would cost elsewhere.

Savings are counted against prices that the owner entered; without any they are unknown, which is not zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset, Money, Parity, total
from agentnexus.ledger.metrics import By, Metrics, Scoped, Spending
from agentnexus.ledger.model import check_text
from agentnexus.ledger.rows import Assets
from agentnexus.platform.database import Database

SHOWN_BY = (By.CAPABILITY, By.SELLER, By.RAIL, By.DAY)
PRICES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Savings:
    """`hosted` is what the `calls` that have a hosted price would have cost there, `paid` what they did."""

    calls: int
    hosted: Money
    paid: Money

    @property
    def saved(self) -> Money:
        return self.hosted - self.paid

    def to_json(self) -> dict[str, object]:
        return {
            "calls": self.calls,
            "hosted": self.hosted.to_json(),
            "paid": self.paid.to_json(),
            "saved": self.saved.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """`savings` is None while no price of what was bought is known. `by` has the largest first, days in order."""

    spent: Spending
    earned: Money
    fees: Money
    savings: Savings | None
    by: Mapping[By, Sequence[Spending]]

    @property
    def net(self) -> Money:
        return self.earned - self.spent.spent - self.fees

    def to_json(self) -> dict[str, object]:
        return {
            "spent": self.spent.spent.to_json(),
            "earned": self.earned.to_json(),
            "net": self.net.to_json(),
            "count": self.spent.count,
            "average": self.spent.average.to_json(),
            "fees": self.fees.to_json(),
            "savings": None if self.savings is None else self.savings.to_json(),
            "by": {str(by): [group.to_json() for group in groups] for by, groups in self.by.items()},
        }


class Economics:
    """Reads the books; keeps only the owners' hosted prices."""

    def __init__(self, db: Database, asset: Asset, parity: Parity | None = None) -> None:
        self.metrics = Metrics(db, parity)
        self.asset = asset
        self._db = db

    async def report(self, scope: Scoped, owner: str = "", earning: Sequence[str] = ()) -> Report:
        """Everything about the payments in `scope`.

        Args:
            owner: whose hosted prices to compare with.
            earning: accounts whose income counts as earned, in the scope's window.
        """
        whole, groups = await self.metrics.summary(scope, SHOWN_BY)
        found = dict(groups)
        found[By.DAY] = sorted(found[By.DAY], key=lambda day: day.label)
        earned = [await self.metrics.earned(account, scope) for account in earning]
        return Report(
            spent=whole,
            earned=total(earned, scope.asset),
            fees=await self.metrics.paid_fees(scope),
            savings=_savings(found[By.CAPABILITY], await self.prices(owner), scope.asset),
            by=found,
        )

    async def prices(self, owner: str) -> Mapping[str, Money]:
        """What one call costs at a hosted service, by capability, as the owner entered it."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(
                "select capability, price from ledger.hosted_price where owner = $1 and asset = $2 order by capability",
                *(owner, self.asset.caip19),
            )
        return {row["capability"]: Money(self.asset, int(row["price"])) for row in rows}

    async def set_prices(self, owner: str, prices: Mapping[str, str | None]) -> Mapping[str, Money]:
        """Set prices (decimal text) or forget them (None). Raises `InvalidInput`; then nothing has changed."""
        wanted = {check_text(name, "capability", required=True): text for name, text in prices.items()}
        amounts = {name: self._price(name, text) for name, text in wanted.items() if text is not None}
        asset = await Assets().settle(self._db, self.asset)
        async with self._db.transaction() as connection:
            await connection.execute(
                "delete from ledger.hosted_price where owner = $1 and asset = $2 and capability = any($3)",
                *(owner, asset.caip19, list(wanted)),
            )
            await connection.execute(
                "insert into ledger.hosted_price (owner, asset, capability, price)"
                " select $1, $2, * from unnest($3::text[], $4::numeric[])"
                " on conflict (owner, capability, asset) do update set price = excluded.price",
                *(owner, asset.caip19, list(amounts), [price.atomic for price in amounts.values()]),
            )
            kept = await connection.fetchval("select count(*) from ledger.hosted_price where owner = $1", owner)
            if kept > PRICES_MAX:
                raise InvalidInput(
                    f"more than {PRICES_MAX} prices", field="prices", next_step="forget some with null first"
                )
        return await self.prices(owner)

    def _price(self, name: str, text: str) -> Money:
        price = self.asset.parse(text)
        if price.atomic < 0:
            raise InvalidInput(f"the price of {name} is below zero", field=name, next_step="give what one call costs")
        return price


def _savings(bought: Sequence[Spending], prices: Mapping[str, Money], asset: Asset) -> Savings | None:
    compared = [group for group in bought if group.label in prices]
    if not compared:
        return None
    return Savings(
        calls=sum(group.count for group in compared),
        hosted=total([prices[group.label] * group.count for group in compared], asset),
        paid=total([group.spent for group in compared], asset),
    )
