"""Whose gas a facilitator pays: which payees, from what amount on, and how much in an hour for each payer and in all.

Settling is free for those who ask, so without these limits anybody may spend the operator's gas on payments that are
none of our business.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from agentnexus.core.ports import Clock
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.wire import WireError
from agentnexus.platform.database import Database

GAS_PER_PAYMENT = 300_000
TOTAL = ""
KEPT_HOURS = 24
CHARGE = """insert into x402.sponsored_gas as spent (network, scope, hour, gas)
    select $1, $2, $3, $4::bigint where set_config('synchronous_commit', 'off', true) = 'off' and $4 <= $5::bigint
    on conflict (network, scope, hour) do update set gas = spent.gas + excluded.gas
    where spent.gas + excluded.gas <= $5 returning true"""


@dataclass(frozen=True, slots=True)
class SponsorLimits:
    """None: no limit. Addresses are lower-case, amounts atomic, gas in units; an hour is a full one of the clock."""

    payees: frozenset[str] | None = None
    minimum: int = 0
    gas_per_payment: int = GAS_PER_PAYMENT
    gas_per_payer_hour: int | None = None
    gas_per_hour: int | None = None

    def check(self, payee: str, amount: int) -> None:
        """Raises `WireError` for a payment that is not sponsored whoever makes it and whenever."""
        if self.payees is not None and payee.lower() not in self.payees:
            raise WireError(
                f"payments to {payee} are not settled here; ask its operator to add it to NEXUS_SPONSORED_PAYEES",
                reason=Reason.PAYEE_NOT_SPONSORED,
            )
        if amount < self.minimum:
            raise WireError(
                f"a payment of {amount} is less than the {self.minimum} atomic units that are worth their gas here",
                reason=Reason.AMOUNT_NOT_SPONSORED,
            )

    def check_gas(self, gas: int) -> None:
        """Raises `WireError` for a payment that costs too much by itself."""
        if gas > self.gas_per_payment:
            message = f"settling needs {gas} gas, at most {self.gas_per_payment} is sponsored"
            raise WireError(message, reason=Reason.FEE_CAP_EXCEEDED)


class Sponsor:
    """The limits, and what of them is used up: one sum per payer and hour in PostgreSQL, whatever the processes."""

    def __init__(self, database: Database, clock: Clock, limits: SponsorLimits) -> None:
        self.limits = limits
        self._database = database
        self._clock = clock

    async def would_admit(self, network: str, payer: str, gas: int) -> None:
        """Raises the `WireError` that `admit` would raise now."""
        self.limits.check_gas(gas)
        scopes = self._scopes(payer)
        if not scopes:
            return
        hour = _hour(self._clock.now())
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "select scope, gas from x402.sponsored_gas where network = $1 and hour = $2 and scope = any($3)",
                network,
                hour,
                [scope for scope, _ in scopes],
            )
        spent = {row["scope"]: row["gas"] for row in rows}
        for scope, limit in scopes:
            if spent.get(scope, 0) + gas > limit:
                raise _used_up(scope, limit, hour)

    async def admit(self, network: str, payer: str, gas: int) -> None:
        """Take the gas out of both budgets or out of none; raises `WireError` with the one that is used up."""
        self.limits.check_gas(gas)
        scopes = self._scopes(payer)
        if not scopes:
            return
        hour = _hour(self._clock.now())
        async with self._database.transaction() as connection:
            for scope, limit in scopes:  # the total last: its row is everybody's, and is held for one statement only
                if not await connection.fetchval(CHARGE, network, scope, hour, gas, limit):
                    raise _used_up(scope, limit, hour)

    async def purge(self) -> int:
        """Forget hours that are long over; returns how many sums."""
        before = self._clock.now() - timedelta(hours=KEPT_HOURS)
        async with self._database.connection() as connection:
            done = await connection.execute("delete from x402.sponsored_gas where hour < $1", before)
        return int(done.rpartition(" ")[2])

    def _scopes(self, payer: str) -> list[tuple[str, int]]:
        limits = ((payer, self.limits.gas_per_payer_hour), (TOTAL, self.limits.gas_per_hour))
        return [(scope, limit) for scope, limit in limits if limit is not None]


def _hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0)


def _used_up(scope: str, limit: int, hour: datetime) -> WireError:
    whose = f"of {scope} " if scope else ""
    again = (hour + timedelta(hours=1)).isoformat()
    reason = Reason.PAYER_FEE_BUDGET_EXCEEDED if scope else Reason.FEE_BUDGET_EXCEEDED
    return WireError(
        f"the {limit} gas {whose}that are sponsored in an hour are used up; again from {again}", reason=reason
    )
