"""The indexer's tables. Every change of a follower happens under its row's lock and only from the place it was read at,
so two processes that read at once cannot both write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from agentnexus.core.errors import NotFound
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.logs import log
from agentnexus.rails.evm.indexer.events import Source
from agentnexus.rails.evm.indexer.model import EventState, HandlerStatus, Head, IndexedEvent, Place, Status
from agentnexus.rails.evm.indexer.reader import REORGANISATION_BLOCKS, Span

_TELL_SEEN = """
with told as (
    update indexer.event set state = 'applied', round = round + 1
    where name = $1 and network = $2 and state = 'seen' and block_number <= $3
    returning block_hash, transaction, log_index, block_number, event, round
)
insert into indexer.change (name, network, block_hash, transaction, log_index, event, kind, round)
select $1, $2, block_hash, transaction, log_index, event, 'applied', round from told order by block_number, log_index
"""
_KEEP = """
with kept as (
    insert into indexer.event as known (name, network, block_hash, transaction, log_index, block_number, contract,
        event, arguments, state, round)
    select $1, $2, block_hash, transaction, log_index, block_number, contract, event, arguments,
        case when block_number <= $3 then 'applied' else 'seen' end, (block_number <= $3)::integer
    from unnest($4::text[], $5::text[], $6::integer[], $7::bigint[], $8::text[], $9::text[], $10::jsonb[])
        as found(block_hash, transaction, log_index, block_number, contract, event, arguments)
    on conflict (name, network, block_hash, transaction, log_index) do update
        set state = excluded.state, round = known.round + excluded.round where known.state = 'orphaned'
    returning block_hash, transaction, log_index, block_number, event, state, round
)
insert into indexer.change (name, network, block_hash, transaction, log_index, event, kind, round)
select $1, $2, block_hash, transaction, log_index, event, 'applied', round from kept where state = 'applied'
order by block_number, log_index
"""
_REVERT = """
with gone as (
    update indexer.event set state = 'orphaned'
    where name = $1 and network = $2 and state = 'applied' and block_number > $3
    returning block_hash, transaction, log_index, block_number, event, round
)
insert into indexer.change (name, network, block_hash, transaction, log_index, event, kind, round)
select $1, $2, block_hash, transaction, log_index, event, 'reverted', round from gone
order by block_number desc, log_index desc
"""
_LEAD = """
with known as (select holder from indexer.follower where name = $1 and network = $2 for update)
update indexer.follower f set holder = $3, held_until = clock_timestamp() + make_interval(secs => $4)
from known where f.name = $1 and f.network = $2
    and (f.holder in ('', $3) or f.held_until < clock_timestamp())
returning f.span_blocks, known.holder = $3 as kept
"""
_PLACES = """
select number, hash from indexer.block where name = $1 and network = $2 and number <= $3
union
select block_number, block_hash from indexer.event
where name = $1 and network = $2 and block_number <= $3 and state <> 'orphaned'
order by 1 desc limit $4
"""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows: a follower's name and its network (CAIP-2)."""

    name: str
    network: str

    @property
    def row(self) -> tuple[str, str]:
        return self.name, self.network


@dataclass(frozen=True, slots=True)
class Lead:
    """What the leader reads at once, and whether nobody else led since it last asked."""

    span_blocks: int
    kept: bool


class IndexerStore:
    """The rows of one follower."""

    def __init__(self, database: Database, scope: Scope, holder: str) -> None:
        self._database = database
        self._scope = scope.row
        self._holder = holder

    async def enrol(self, span_blocks: int) -> None:
        """Make sure the follower has its row."""
        async with self._database.connection() as connection:
            await connection.execute(
                "insert into indexer.follower (name, network, span_blocks) values ($1, $2, $3) on conflict do nothing",
                *self._scope,
                span_blocks,
            )

    async def lead(self, lease_seconds: float) -> Lead | None:
        """Take or keep the lead; None when another holds it."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_LEAD, *self._scope, self._holder, lease_seconds)
            return Lead(row["span_blocks"], row["kept"]) if row else None

    async def resign(self) -> None:
        """Let somebody else lead at once."""
        async with self._database.connection() as connection:
            await connection.execute(
                "update indexer.follower set holder = '', held_until = '-infinity'"
                " where name = $1 and network = $2 and holder = $3",
                *self._scope,
                self._holder,
            )

    async def place(self) -> Place | None:
        """How far it has read; None before the first time."""
        async with self._database.connection() as connection:
            return await self._top(connection)

    async def begin(self, place: Place) -> None:
        """The first place ever; a second call changes nothing."""
        async with self._database.transaction() as connection:
            start = await connection.fetchval(
                "update indexer.follower set start_number = $3"
                " where name = $1 and network = $2 and start_number is null returning start_number",
                *self._scope,
                place.number,
            )
            if start is not None:
                await self._put_block(connection, place)

    async def start(self) -> int:
        """The number of the block before the first that is read."""
        async with self._database.connection() as connection:
            number: int = await connection.fetchval(
                "select start_number from indexer.follower where name = $1 and network = $2", *self._scope
            )
            return number

    async def read_to(self, sources: Mapping[str, int]) -> dict[str, int]:
        """How far each source has been read; a new one begins at the number given."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "insert into indexer.source (name, network, source, read_to)"
                " select $1, $2, * from unnest($3::text[], $4::bigint[]) on conflict do nothing",
                *self._scope,
                list(sources),
                list(sources.values()),
            )
            rows = await connection.fetch(
                "select source, read_to from indexer.source where name = $1 and network = $2 and source = any($3)",
                *self._scope,
                list(sources),
            )
            return {row["source"]: row["read_to"] for row in rows}

    async def remembered(self, upto: int, count: int) -> list[Place]:
        """Blocks we know at or below a number, newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_PLACES, *self._scope, upto, count)
            return [Place(row["number"], row["hash"]) for row in rows]

    async def put(
        self, span: Span, sources: Sequence[Source], head: Head, *, backfill: bool, span_blocks: int
    ) -> int | None:
        """Keep what a span has and tell of what is final by now; how many events, or None when overtaken.

        Args:
            backfill: the span lies below the place, which stays where it is.
        """
        async with self._database.transaction() as connection:
            top = await self._locked_top(connection)
            if top is None or (not backfill and top != span.before):
                return None
            await connection.execute(_TELL_SEEN, *self._scope, head.final)
            columns = _columns(span, sources)
            if columns[0]:
                await connection.execute(_KEEP, *self._scope, head.final, *columns)
            if not backfill:
                await self._advance(connection, span.last, head, span_blocks)
            await connection.execute(
                "update indexer.source set read_to = greatest(read_to, $3)"
                " where name = $1 and network = $2 and source = any($4)",
                *self._scope,
                span.last.number,
                [each.key for each in sources],
            )
            return len(columns[0])

    async def followed(self, top: Place, head: Head) -> bool:
        """Nothing new: tell of what became final meanwhile, and note that everything up to the head is here."""
        async with self._database.transaction() as connection:
            if await self._locked_top(connection) != top:
                return False
            await connection.execute(_TELL_SEEN, *self._scope, head.final)
            await connection.execute(
                "update indexer.follower set head_number = $3, followed_at = $4 where name = $1 and network = $2",
                *self._scope,
                head.number,
                head.asked_at,
            )
            return True

    async def rewind(self, top: Place, fork: Place) -> bool:
        """Take back everything above `fork`. False when another process was faster."""
        async with self._database.transaction() as connection:
            if await self._locked_top(connection) != top:
                return False
            scope = (*self._scope, fork.number)
            await connection.execute(_REVERT, *scope)
            # One that was told before and came back is in the changes, which refer to it.
            await connection.execute(
                "update indexer.event set state = 'orphaned'"
                " where name = $1 and network = $2 and block_number > $3 and state = 'seen' and round > 0",
                *scope,
            )
            for statement in (
                "delete from indexer.event where name = $1 and network = $2 and block_number > $3 and state = 'seen'",
                "delete from indexer.block where name = $1 and network = $2 and number > $3",
                "update indexer.source set read_to = least(read_to, $3) where name = $1 and network = $2",
            ):
                await connection.execute(statement, *scope)
            await self._put_block(connection, fork)
            return True

    async def status(self) -> Status:
        """Raises `NotFound` for an indexer that never ran."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "select *, (select count(*) from indexer.event e where e.name = f.name and e.network = f.network"
                " and e.state <> 'orphaned') as events from indexer.follower f where name = $1 and network = $2",
                *self._scope,
            )
            if row is None:
                raise NotFound(f"no indexer {self._scope[0]} has run on {self._scope[1]}", next_step="start a worker")
            top = await self._top(connection)
            handlers = await connection.fetch(
                "select handler, failures, last_error, (select count(*) from indexer.change c where c.name = h.name"
                " and c.network = h.network and c.position > h.position) as waiting"
                " from indexer.handler h where name = $1 and network = $2 order by handler",
                *self._scope,
            )
        return Status(
            name=self._scope[0],
            network=self._scope[1],
            place=-1 if top is None else top.number,
            head=-1 if row["head_number"] is None else row["head_number"],
            followed_at=row["followed_at"],
            holder=row["holder"],
            events=row["events"],
            handlers=tuple(
                HandlerStatus(each["handler"], each["waiting"], each["failures"], each["last_error"])
                for each in handlers
            ),
        )

    async def _top(self, connection: Connection) -> Place | None:
        row = await connection.fetchrow(
            "select number, hash from indexer.block where name = $1 and network = $2 order by number desc limit 1",
            *self._scope,
        )
        return Place(row["number"], row["hash"]) if row else None

    async def _locked_top(self, connection: Connection) -> Place | None:
        """The place, with the follower's row locked; None when somebody else leads by now."""
        holder = await connection.fetchval(
            "select holder from indexer.follower where name = $1 and network = $2 for update", *self._scope
        )
        return await self._top(connection) if holder == self._holder else None

    async def _advance(self, connection: Connection, last: Place, head: Head, span_blocks: int) -> None:
        await self._put_block(connection, last)
        await connection.execute(
            "delete from indexer.block where name = $1 and network = $2 and number < $3",
            *self._scope,
            last.number - REORGANISATION_BLOCKS,
        )
        await connection.execute(
            "update indexer.follower set span_blocks = $3, head_number = $4,"
            " followed_at = coalesce($5, followed_at) where name = $1 and network = $2",
            *self._scope,
            span_blocks,
            head.number,
            head.asked_at if last.number >= head.number else None,
        )

    async def _put_block(self, connection: Connection, place: Place) -> None:
        await connection.execute(
            "insert into indexer.block (name, network, number, hash) values ($1, $2, $3, $4)"
            " on conflict (name, network, number) do update set hash = excluded.hash",
            *self._scope,
            place.number,
            place.hash,
        )


def event_of(row: asyncpg.Record) -> IndexedEvent:
    """A row of ``indexer.event``."""
    return IndexedEvent(
        contract=row["contract"],
        event=row["event"],
        arguments=row["arguments"],
        transaction=row["transaction"],
        log_index=row["log_index"],
        block=Place(row["block_number"], row["block_hash"]),
        state=EventState(row["state"]),
    )


def _columns(span: Span, sources: Sequence[Source]) -> tuple[list[object], ...]:
    """The events of a span, column by column; what does not read as its event is left out, and said."""
    by_topic = {(each.contract, each.event.topic): each for each in sources}
    columns: tuple[list[object], ...] = ([], [], [], [], [], [], [])
    for each in span.logs:
        source = by_topic[each.contract, each.topics[0]]
        arguments = source.read(each)
        if arguments is None:
            log.warning("indexer.unreadable", contract=each.contract, transaction=each.transaction, index=each.index)
            continue
        place = (each.block_hash, each.transaction, each.index, each.block_number)
        row = (*place, each.contract, source.event.name, arguments)
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns
