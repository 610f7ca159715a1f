"""Who holds how many tokens of which purchase. On the chain tokens of an agent are all alike; here each of them is of
the purchase that pays for its run, also when it was passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import asyncpg

from agentnexus.platform.database import Connection

_HELD = """
select h.purchase_id, h.wallet, h.count, p.kind = 'runs' as counts_runs,
       count(u.id) filter (where u.state = 'completed' and theirs) as completed,
       count(u.id) filter (where u.state = 'running' and theirs) as running,
       count(u.id) filter (where u.state = 'completed' and u.settled_at is null and theirs) as unsettled,
       count(u.id) as spent
  from marketplace.holding h join marketplace.purchase p on p.id = h.purchase_id
  left join marketplace.use u on u.purchase_id = h.purchase_id and u.state <> 'failed'
  cross join lateral (select u.wallet = h.wallet or p.kind = 'period') of_use (theirs)
"""
_GROUPED = " group by h.purchase_id, h.wallet, h.count, p.kind, p.created_at, p.state, p.step"


@dataclass(frozen=True, slots=True)
class Held:
    """Tokens of a purchase that a wallet got, and the runs it made on them; of a period, the runs everybody made on it.

    Args:
        count: tokens, used ones counted.
        unsettled: of the completed runs, those whose token is not burnt yet.
        spent: runs on the purchase that succeeded or are under way, by everybody.
    """

    purchase_id: str
    wallet: str
    count: int
    counts_runs: bool
    completed: int
    running: int
    unsettled: int
    spent: int = 0

    @property
    def under_way(self) -> int:
        return self.running + self.unsettled

    @property
    def unused(self) -> int:
        """Tokens that neither a run has used up nor one is using. A period's token is not used up by runs."""
        return self.count - self.completed - self.running if self.counts_runs else self.count

    @property
    def unburnt(self) -> int:
        """Tokens that should be there still, were nothing under way."""
        return self.count - self.completed if self.counts_runs else self.count


@dataclass(frozen=True, slots=True)
class Passed:
    """Tokens that went from one wallet to another."""

    giver: str
    receiver: str
    token_id: int
    count: int


async def hold(connection: Connection, purchase_id: str, wallet: str, count: int) -> None:
    """More of a purchase's tokens are a wallet's."""
    await connection.execute(
        """insert into marketplace.holding (purchase_id, wallet, count) values ($1, $2, $3)
           on conflict (purchase_id, wallet) do update set count = marketplace.holding.count + $3""",
        purchase_id, wallet, count,
    )  # fmt: skip


async def held_of(connection: Connection, wallets: Sequence[str], agent_id: str) -> Sequence[Held]:
    """Of an agent by a user's wallets."""
    rows = await connection.fetch(
        _HELD + " where h.wallet = any($1::text[]) and p.agent_id = $2" + _GROUPED, list(wallets), agent_id
    )
    return [_held(row) for row in rows]


async def held_in(connection: Connection, purchase_ids: Sequence[str]) -> Sequence[Held]:
    """Of purchases, by everybody."""
    rows = await connection.fetch(
        _HELD + " where h.purchase_id = any($1::text[])" + _GROUPED + " order by h.purchase_id, h.wallet",
        list(purchase_ids),
    )
    return [_held(row) for row in rows]


async def pass_on(connection: Connection, change: str, passed: Passed) -> None:
    """The chain's event `change` moved tokens: those of the oldest purchases go first.

    Tokens without a purchase, and those whose run is under way, take nothing with them: no run was paid for by them.
    """
    # Whoever begins a run holds the right as well: a token cannot be used and passed on.
    await _lock(connection, passed.giver, passed.token_id)
    rows = await connection.fetch(
        _HELD
        + " where h.wallet = $1 and p.token_id = $2 and p.state not in ('failed', 'refunded')"
        + _GROUPED
        + " order by p.state = 'completed' desc, p.step = 'refunding', p.created_at, h.purchase_id",
        passed.giver, Decimal(passed.token_id),
    )  # fmt: skip
    count = passed.count
    for held in (_held(row) for row in rows):
        part = min(held.unused, count)
        if part <= 0:
            continue
        count -= part
        await _take(connection, held.purchase_id, passed.giver, part)
        await hold(connection, held.purchase_id, passed.receiver, part)
        await connection.execute(
            """insert into marketplace.passing (change, purchase_id, giver, receiver, count)
               values ($1, $2, $3, $4, $5)""",
            change, held.purchase_id, passed.giver, passed.receiver, part,
        )  # fmt: skip


async def take_back(connection: Connection, change: str) -> None:
    """The block of an event was dropped."""
    rows = await connection.fetch(
        """delete from marketplace.passing b using marketplace.purchase p where b.change = $1 and p.id = b.purchase_id
           returning b.purchase_id, b.giver, b.receiver, b.count, p.token_id""",
        change,
    )
    for row in rows:
        await _lock(connection, row["receiver"], int(row["token_id"]))
        await _take(connection, row["purchase_id"], row["receiver"], row["count"])
        await hold(connection, row["purchase_id"], row["giver"], row["count"])


async def _lock(connection: Connection, wallet: str, token_id: int) -> None:
    await connection.execute(
        "select from marketplace.entitlement where wallet = $1 and token_id = $2 order by user_id for update",
        wallet, Decimal(token_id),
    )  # fmt: skip


async def _take(connection: Connection, purchase_id: str, wallet: str, count: int) -> None:
    await connection.execute(
        "update marketplace.holding set count = greatest(count - $3, 0) where purchase_id = $1 and wallet = $2",
        purchase_id, wallet, count,
    )  # fmt: skip


def _held(row: asyncpg.Record) -> Held:
    return Held(**dict(row))
