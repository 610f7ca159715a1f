"""Balances at moments of the past, so that a statement or an `as of` of a hot account reads only what came since.

A checkpoint is the sum of all entries up to and at its moment. It is made under the account's lock, and the database
adds entries to it that a slower clock dates before it (trigger ``entry_late``), so it is exact at every instant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from agentnexus.ledger.model import AccountKey, Transfer
from agentnexus.platform.database import Database

EVERY_ENTRIES = 2000
COUNTED_MAX = 50_000

LOCK = "select from ledger.account where name = $1 and asset = $2 for no key update"
MAKE = """
with last as (select at, balance from ledger.checkpoint where account = $1 and asset = $2 order by at desc limit 1)
insert into ledger.checkpoint (account, asset, at, balance)
select $1, $2, at, coalesce((select balance from last), 0) + since
from (select at, sum(amount) over (order by at) as since, row_number() over (order by at, transfer_id) as number
      from ledger.entry
      where account = $1 and asset = $2 and at > coalesce((select at from last), '-infinity')) e
where number % $3 = 0 on conflict do nothing
"""

# The posted balance of ($1, $2) from everything up to and at $3. One statement, so one snapshot.
AS_OF = """
select coalesce(c.balance, 0) + coalesce((
    select sum(amount) from ledger.entry
    where account = $1 and asset = $2 and at > coalesce(c.at, '-infinity') and at <= $3), 0)
from (select) one left join lateral (
    select at, balance from ledger.checkpoint
    where account = $1 and asset = $2 and at <= $3 order by at desc limit 1) c on true
"""
# Lines from $3 (or the beginning) until before $4, at most $5, each with the balance after it.
STATEMENT = """
with c as (
    select at, balance from ledger.checkpoint
    where account = $1 and asset = $2 and at < $3::timestamptz order by at desc limit 1
), opening as (
    select coalesce((select balance from c), 0) + coalesce(sum(amount), 0) as balance from ledger.entry
    where account = $1 and asset = $2 and at < $3::timestamptz and at > coalesce((select at from c), '-infinity')
), lines as materialized (
    select *, sum(amount) over (order by at, transfer_id) as so_far
    from (select * from ledger.entry
          where account = $1 and asset = $2 and at >= coalesce($3::timestamptz, '-infinity')
            and at < coalesce($4::timestamptz, 'infinity')
          order by at, transfer_id limit $5::bigint) shown
)
select e.at, e.transfer_id, e.amount, e.asset, (select balance from opening) + e.so_far as balance,
       t.kind, t.correlation, t.memo, case when t.debit = e.account then t.credit else t.debit end as counterparty
from lines e join ledger.transfer t on t.id = e.transfer_id
order by e.at, e.transfer_id
"""
RULE = """
select c.account || ' ' || c.asset || ' ' || c.at as subject, e.total as expected, c.balance as found
from (select *, sum(amount) over (partition by account, asset order by at) as total from ledger.entry) e
join ledger.checkpoint c using (account, asset, at)
where e.total <> c.balance
"""


class Checkpoints:
    """Counts what this process writes, and makes a checkpoint after every `EVERY_ENTRIES` entries of an account."""

    def __init__(self, db: Database, every: int = EVERY_ENTRIES) -> None:
        self._db = db
        self._every = every
        self._entries: Counter[AccountKey] = Counter()

    def count(self, transfers: Iterable[Transfer]) -> None:
        """Entries that were committed."""
        if len(self._entries) > COUNTED_MAX:  # the hot ones will be counted again soon
            self._entries.clear()
        for transfer in transfers:
            asset = transfer.amount.asset.caip19
            self._entries[transfer.debit, asset] += 1
            self._entries[transfer.credit, asset] += 1

    @property
    def due(self) -> Sequence[AccountKey]:
        return [key for key, entries in self._entries.items() if entries >= self._every]

    async def make(self, key: AccountKey) -> None:
        """The checkpoints that an account lacks; no other process can write its entries meanwhile."""
        self._entries.pop(key, None)
        async with self._db.transaction() as connection:
            await connection.execute(LOCK, *key)
            await connection.execute(MAKE, *key, self._every)
