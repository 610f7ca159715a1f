"""The catalogue's tables: every change one statement or transaction, pages by position and not by offset."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import asyncpg

from agentnexus.core.events import Event, EventName
from agentnexus.core.money import Asset, Money
from agentnexus.marketplace.listings.model import (
    Listing,
    ListingQuery,
    ListingStatus,
    Page,
    Position,
    Statistics,
    search_text,
    trigrams,
)
from agentnexus.marketplace.listings.search import Matching, matchings, statement
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.outbox import publish
from agentnexus.sdk.manifest import Manifest


class ListingStore:
    """Listings and their versions in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, listing: Listing) -> Listing:
        """Make the listing, or its newest version; what runs were like is kept. Returns it as stored."""
        manifest = listing.manifest
        stored = manifest.model_dump(mode="json")
        words = search_text(manifest)
        async with self._database.transaction() as connection:
            before = await connection.fetchrow(
                "select code_hash, status, price_atomic, seller from marketplace.listing where id = $1 for update",
                listing.id,
            )
            row = await connection.fetchrow(
                """insert into marketplace.listing (id, version, status, title, summary, description, categories, tags,
                       capability, price_atomic, asset, asset_symbol, asset_decimals, seller, developer, accepts,
                       manifest, code_hash, input_schema, output_schema, words, trigrams, created_at, updated_at)
                   values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,
                       setweight(to_tsvector('english', $4), 'A') || setweight(to_tsvector('english', $21), 'B')
                           || setweight(to_tsvector('english', $6), 'C'),
                       $22, $23, $23)
                   on conflict (id) do update set version = excluded.version, status = excluded.status,
                       title = excluded.title, summary = excluded.summary, description = excluded.description,
                       categories = excluded.categories, tags = excluded.tags, capability = excluded.capability,
                       price_atomic = excluded.price_atomic, asset = excluded.asset,
                       asset_symbol = excluded.asset_symbol, asset_decimals = excluded.asset_decimals,
                       seller = excluded.seller, developer = excluded.developer, accepts = excluded.accepts,
                       manifest = excluded.manifest, code_hash = excluded.code_hash,
                       input_schema = excluded.input_schema, output_schema = excluded.output_schema,
                       words = excluded.words, trigrams = excluded.trigrams, updated_at = excluded.updated_at
                   returning *""",
                manifest.name, manifest.version, listing.status.value, manifest.title, manifest.summary,
                manifest.description, list(manifest.categories), list(manifest.tags), manifest.capability,
                Decimal(listing.price.atomic), listing.price.asset.caip19, listing.price.asset.symbol,
                listing.price.asset.decimals, listing.seller, listing.developer, list(listing.accepts), stored,
                listing.code_hash, listing.input_schema, listing.output_schema, words, trigrams(words),
                listing.updated_at,
            )  # fmt: skip
            await self._keep_version(connection, listing, stored)
            offered = (listing.code_hash, listing.status.value, Decimal(listing.price.atomic), listing.seller)
            if before is None or tuple(before) != offered:
                await _tell(connection, listing.id, listing.status, listing.updated_at)
        assert row is not None, "an upsert returns its row"
        return _listing(row)

    async def _keep_version(self, connection: Connection, listing: Listing, stored: dict[str, object]) -> None:
        await connection.execute(
            """insert into marketplace.version
                   (agent_id, version, code_hash, manifest, input_schema, output_schema, created_at)
               values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing""",
            listing.id, listing.manifest.version, listing.code_hash, stored, listing.input_schema,
            listing.output_schema, listing.updated_at,
        )  # fmt: skip

    async def get(self, agent_id: str) -> Listing | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow("select * from marketplace.listing where id = $1", agent_id)
        return None if row is None else _listing(row)

    async def set_status(self, agent_id: str, status: ListingStatus, now: datetime) -> bool:
        """False when there is no such listing."""
        async with self._database.transaction() as connection:
            done = await connection.execute(
                "update marketplace.listing set status = $2, updated_at = $3 where id = $1", agent_id, status.value, now
            )
            if done == "UPDATE 1":
                await _tell(connection, agent_id, status, now)
        return done == "UPDATE 1"

    async def versions(self, agent_id: str) -> list[tuple[str, str, datetime]]:
        """(version, code hash, when), newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select version, code_hash, created_at from marketplace.version where agent_id = $1
                   order by created_at desc, version desc""",
                agent_id,
            )
        return [(row["version"], row["code_hash"], row["created_at"]) for row in rows]

    async def payees(self) -> list[tuple[str, str]]:
        """(agent id, seller) of every listing in any state."""
        async with self._database.connection() as connection:
            rows = await connection.fetch("select id, seller from marketplace.listing order by id")
        return [(row["id"], row["seller"]) for row in rows]

    async def search(self, query: ListingQuery) -> Page:
        """One page of active listings in the order asked for, and how many there are in all."""
        page = Page(())
        for matching in matchings(query):
            page = await self._page(query, matching)
            if page.total:
                break
        return page

    async def _page(self, query: ListingQuery, matching: Matching) -> Page:
        search = statement(query, matching)
        async with self._database.connection() as connection:
            rows = await connection.fetch(search.sql, *search.values)
        shown = rows[: query.limit]
        following = ""
        if len(rows) > query.limit:
            following = Position(shown[-1]["value"], shown[-1]["id"], matching.value).encode()
        return Page(tuple(_listing(row) for row in shown), following, rows[0]["total"] if rows else 0)

    async def categories(self) -> list[tuple[str, int]]:
        """Categories of active listings and how many are in each, the largest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select category, count(*) as agents from marketplace.listing, unnest(categories) category
                   where status = 'active' group by category order by agents desc, category"""
            )
        return [(row["category"], row["agents"]) for row in rows]


async def count_run(connection: Connection, agent_id: str, *, succeeded: bool) -> None:
    """Add a finished run to its listing, in the transaction that finishes it."""
    await connection.execute(
        """update marketplace.listing set runs = runs + 1, succeeded = succeeded + $2,
                (average_ms, p95_ms) = (
                    select avg(duration_ms)::integer,
                           percentile_cont(0.95) within group (order by duration_ms)::integer
                    from (select duration_ms from marketplace.execution
                          where agent_id = $1 and finished_at is not null and status = 'completed'
                          order by finished_at desc limit 200) recent)
            where id = $1""",
        agent_id,
        int(succeeded),
    )


def _listing(row: asyncpg.Record) -> Listing:
    asset = Asset(row["asset_symbol"], row["asset_decimals"], row["asset"])
    return Listing(
        manifest=Manifest.model_validate(row["manifest"]),
        status=ListingStatus(row["status"]),
        price=Money(asset, int(row["price_atomic"])),
        seller=row["seller"],
        developer=row["developer"],
        accepts=tuple(row["accepts"]),
        code_hash=row["code_hash"],
        input_schema=row["input_schema"],
        output_schema=row["output_schema"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        statistics=Statistics(
            runs=row["runs"],
            succeeded=row["succeeded"],
            average_ms=row["average_ms"],
            p95_ms=row["p95_ms"],
            rating_sum=row["rating_sum"],
            ratings=row["rating_count"],
        ),
    )


async def _tell(connection: Connection, agent_id: str, status: ListingStatus, now: datetime) -> None:
    """What buyers see has changed. The listing's row is locked, so its events are numbered one after the other."""
    subject = f"listing:{agent_id}"
    last: int = await connection.fetchval(
        "select coalesce(max(sequence), 0) from platform.outbox where subject = $1", subject
    )
    data: dict[str, object] = {"agent": agent_id, "status": status.value}
    event = Event(name=EventName.LISTING_CHANGED, subject=subject, sequence=last + 1, at=now, data=data)
    await publish(connection, [event])
