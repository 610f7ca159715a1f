"""What happened, for whoever shows it: indexed events by contract, kind, transaction and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentnexus.platform.database import Database
from agentnexus.rails.evm.indexer.events import Argument
from agentnexus.rails.evm.indexer.model import IndexedEvent, Place
from agentnexus.rails.evm.indexer.store import event_of

EVENTS_MAX = 500
_FIND = """
select * from indexer.event
where name = $1 and network = $2 and state <> 'orphaned' and ($3::text is null or contract = $3)
    and ($4::text is null or event = $4) and ($5::text is null or transaction = $5)
    and arguments @> $6 and (block_number, log_index) > ($7, $8)
order by block_number, log_index limit $9
"""
_TOTAL = """
select b.number, b.hash, coalesce((
    select sum((e.arguments ->> $4)::numeric) from indexer.event e
    where e.name = $1 and e.network = $2 and e.event = $3 and e.state <> 'orphaned'
        and e.arguments @> $5 and e.block_number <= b.number), 0) as amount
from indexer.block b where b.name = $1 and b.network = $2 order by b.number desc limit 1
"""


async def find_events(
    database: Database,
    name: str,
    network: str,
    *,
    contract: str | None = None,
    event: str | None = None,
    transaction: str | None = None,
    arguments: Mapping[str, Argument] | None = None,
    after: tuple[int, int] = (-1, -1),
    limit: int = EVENTS_MAX,
) -> list[IndexedEvent]:
    """Events that are on the chain as far as we know, in its order, those not final yet (`SEEN`) among them.

    Args:
        name: of the indexer.
        arguments: values that an event must have.
        after: block number and log index of the last one of the page before.
    """
    async with database.connection() as connection:
        rows = await connection.fetch(
            _FIND, name, network, contract, event, transaction, dict(arguments or {}), *after, min(limit, EVENTS_MAX)
        )
    return [event_of(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Total:
    """A sum over events, all of the chain up to `place`."""

    place: Place
    amount: int


async def total(
    database: Database, name: str, network: str, *, event: str, argument: str, where: Mapping[str, Argument]
) -> Total | None:
    """The sum of an integer argument over the events that have these values; None while nothing has been read."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_TOTAL, name, network, event, argument, dict(where))
    return Total(Place(row["number"], row["hash"]), int(row["amount"])) if row else None
