"""The registry's tables. Every change is one statement or one transaction; pages are cut after sorting."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import asyncpg

from agentnexus.core.errors import Conflict, NotFound
from agentnexus.markets.x402.registry.model import (
    MIN_PRICE_USD,
    PRIOR_MEAN,
    PRIOR_RATINGS,
    Accept,
    Change,
    Query,
    Rating,
    Registration,
    Service,
)
from agentnexus.markets.x402.registry.ownership import WINDOW_SECONDS
from agentnexus.platform.database import Connection, Database

REPUTATION = f"((rating_sum + {PRIOR_RATINGS * PRIOR_MEAN}) / (rating_count + {PRIOR_RATINGS}))"
ORDER = {
    "value": f"{REPUTATION} / greatest(price_usd, {MIN_PRICE_USD}) desc",
    "price": "price_usd asc",
    "reputation": f"{REPUTATION} desc",
    "recent": "updated_at desc",
}

QUOTED = timedelta(minutes=10)  # a price that was seen is paid within this time
PRICE_AT = """
with price as (
    select amount, since, lead(since) over (order by since) as until, min(since) over () as first
      from registry.price where service_id = $1 and network = $2 and asset = $3)
select min(amount) from price
 where (since <= $4 and (until is null or until > $4 - $5::interval)) or (since = first and first > $4)
"""
NOTE_PRICES = """
insert into registry.price (service_id, network, asset, amount, since)
select $1, network, asset, amount, $5
  from unnest($2::text[], $3::text[], $4::numeric[]) as fresh(network, asset, amount)
 where amount is distinct from (
       select known.amount from registry.price known
        where (known.service_id, known.network, known.asset) = ($1, fresh.network, fresh.asset)
        order by known.since desc limit 1)
on conflict (service_id, network, asset, since) do update set amount = least(registry.price.amount, excluded.amount)
"""


class RegistryStore:
    """Services, proven payments and used signatures in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def use_signature(self, digest: bytes, now: datetime) -> None:
        """Mark a signed request as used; raises `Conflict` when it was sent before."""
        async with self._database.transaction() as connection:
            await connection.execute("delete from registry.used_signature where expires_at < $1", now)
            done = await connection.execute(
                "insert into registry.used_signature (digest, expires_at) values ($1, $2) on conflict do nothing",
                digest,
                now + timedelta(seconds=2 * WINDOW_SECONDS),
            )
        if done == "INSERT 0 0":
            raise Conflict("this signed request was already used", next_step="sign it again with the current time")

    async def register(self, identifier: str, entry: Registration, owner: str, now: datetime) -> Service:
        """New entry, or the owner's update of the same URL; raises `Conflict` when another owner holds the URL."""
        first = entry.accepts[0]
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                """insert into registry.service (id, url, name, description, category, owner, price_atomic, asset,
                       asset_symbol, asset_decimals, price_usd, pricing_model, accepts, input_schema, output_schema,
                       capabilities, tags, extra, created_at, updated_at)
                   values ($1,$2,$3,$4,$5,$6,$7,$8,$9,6,$10,$11,$12,$13,$14,$15,$16,$17,$18,$18)
                   on conflict (url) do update set name = excluded.name, description = excluded.description,
                       category = excluded.category, price_atomic = excluded.price_atomic, asset = excluded.asset,
                       asset_symbol = excluded.asset_symbol, price_usd = excluded.price_usd,
                       pricing_model = excluded.pricing_model, accepts = excluded.accepts,
                       input_schema = excluded.input_schema, output_schema = excluded.output_schema,
                       capabilities = excluded.capabilities, tags = excluded.tags, extra = excluded.extra,
                       status = 'ACTIVE', updated_at = excluded.updated_at
                     where registry.service.owner = excluded.owner
                   returning *""",
                identifier, entry.url, entry.name, entry.description, entry.category, owner, Decimal(first.amount),
                first.asset, entry.acceptedTokens[0], entry.pricePerCall, entry.pricingModel,
                [accept.model_dump(mode="json") for accept in entry.accepts], entry.inputSchema, entry.outputSchema,
                entry.capabilities, entry.tags, entry.extra, now,
            )  # fmt: skip
            if row is None:
                raise Conflict("another owner registered this address", next_step="register an address of your own")
            await _note_prices(connection, row["id"], entry.accepts, now)
        return _service(row)

    async def price_at(self, identifier: str, network: str, asset: str, at: datetime) -> int | None:
        """The least atomic price that was asked for at `at` or shortly before; None for a token it does not take.

        A payment from before the first known price is measured by that one.
        """
        async with self._database.connection() as connection:
            price = await connection.fetchval(PRICE_AT, identifier, network, asset, at, QUOTED)
        return None if price is None else int(price)

    async def clear_address(self, url: str, owner: str) -> None:
        """Remove another owner's entry, with its ratings: `owner` has proven that the address pays them."""
        async with self._database.connection() as connection:
            await connection.execute("delete from registry.service where url = $1 and owner <> $2", url, owner)

    async def get(self, identifier: str) -> Service:
        async with self._database.connection() as connection:
            row = await connection.fetchrow("select * from registry.service where id = $1", identifier)
        if row is None:
            raise NotFound("Service not found", next_step="GET /services/discover lists what there is")
        return _service(row)

    async def search(self, query: Query) -> tuple[list[Service], int]:
        """One page in the order asked for, and how many match in all."""
        clauses, values = _clauses(query)
        where = " and ".join(clauses)
        relevance = "ts_rank(words, websearch_to_tsquery('english', $1)) desc, " if query.query else ""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                f"select *, count(*) over () as matches from registry.service where {where} "  # noqa: S608 - fixed parts
                f"order by {relevance}{ORDER[query.sortBy]}, id limit {query.limit} offset {query.offset}",
                *values,
            )
        return [_service(row) for row in rows], rows[0]["matches"] if rows else 0

    async def by_owner(self, owner: str) -> list[Service]:
        async with self._database.connection() as connection:
            rows = await connection.fetch("select * from registry.service where owner = $1 order by id", owner)
        return [_service(row) for row in rows]

    async def categories(self) -> list[str]:
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "select distinct category from registry.service where status = 'ACTIVE' order by 1"
            )
        return [row["category"] for row in rows]

    async def change(self, identifier: str, change: Change, now: datetime) -> Service:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                """update registry.service set name = coalesce($2, name), description = coalesce($3, description),
                       status = coalesce($4, status), tags = coalesce($5, tags), updated_at = $6,
                       capabilities = coalesce($7, capabilities)
                    where id = $1 returning *""",
                identifier, change.name, change.description, change.status, change.tags, now, change.capabilities,
            )  # fmt: skip
        if row is None:
            raise NotFound("Service not found")
        return _service(row)

    async def mark_verified(self, identifier: str) -> Service:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "update registry.service set verified = true where id = $1 returning *", identifier
            )
        if row is None:
            raise NotFound("Service not found")
        return _service(row)

    async def move(self, old: str, new: str) -> int:
        """Entries under the address `old` go on under `new` with their ratings; how many. For a node that moved.

        What is registered under the new address already stays, and its old entry is paused.
        """
        async with self._database.transaction() as connection:
            await connection.execute(
                """update registry.service as s set status = 'PAUSED' where starts_with(s.url, $1) and exists
                       (select 1 from registry.service t where t.url = $2 || substr(s.url, length($1) + 1))""",
                old,
                new,
            )
            done = await connection.execute(
                """update registry.service set url = $2 || substr(url, length($1) + 1)
                    where starts_with(url, $1) and status <> 'PAUSED'""",
                old,
                new,
            )
        return int(done.rpartition(" ")[2])

    async def rate(self, identifier: str, rating: Rating, payer: str, now: datetime) -> Service:
        """Count a proven payment and its stars once; raises `Conflict` for a payment that was rated before."""
        async with self._database.transaction() as connection:
            done = await connection.execute(
                """insert into registry.proven_payment
                       (network, transaction, service_id, payer, success, response_ms, stars, comment, at)
                   values ($1,$2,$3,$4,$5,$6,$7,$8,$9) on conflict do nothing""",
                rating.network, rating.transaction.lower(), identifier, payer, rating.success,
                rating.responseTimeMs, rating.rating, rating.comment, now,
            )  # fmt: skip
            if done == "INSERT 0 0":
                raise Conflict("this payment has been rated", next_step="a payment counts once")
            row = await connection.fetchrow(
                """update registry.service set total_calls = total_calls + 1,
                       successful_calls = successful_calls + $2, response_ms_sum = response_ms_sum + $3,
                       rating_sum = rating_sum + $4, rating_count = rating_count + 1
                    where id = $1 returning *""",
                identifier, int(rating.success), rating.responseTimeMs or 0, rating.rating,
            )  # fmt: skip
        assert row is not None
        return _service(row)

    async def ratings(self, identifier: str, limit: int = 100) -> list[dict[str, object]]:
        """Newest first: what payers said."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select payer, stars, comment, success, response_ms, network, transaction, at
                     from registry.proven_payment where service_id = $1 order by at desc limit $2""",
                identifier,
                limit,
            )
        return [{**row, "at": row["at"].isoformat()} for row in rows]


async def _note_prices(connection: Connection, identifier: str, accepts: Sequence[Accept], now: datetime) -> None:
    """Remember what is asked for from now on: the least of several prices in one token."""
    prices: dict[tuple[str, str], Decimal] = {}
    for accept in accepts:
        key, amount = (accept.network, accept.asset.lower()), Decimal(accept.amount)
        prices[key] = min(amount, prices.get(key, amount))
    networks, assets = [network for network, _ in prices], [asset for _, asset in prices]
    await connection.execute(NOTE_PRICES, identifier, networks, assets, list(prices.values()), now)


def _clauses(query: Query) -> tuple[list[str], list[object]]:
    clauses, values = ["status = 'ACTIVE'"], list[object]()

    def add(clause: str, value: object) -> None:
        values.append(value)
        clauses.append(clause.format(f"${len(values)}"))

    if query.query:  # first, because the ranking refers to it as $1
        add("words @@ websearch_to_tsquery('english', {})", query.query)
    if query.category:
        add("category = {}", query.category)
    if query.capability:
        add("{} = any(capabilities)", query.capability)
    if query.maxPrice is not None:
        add("price_usd <= {}", query.maxPrice)
    if query.minReputation:
        add(f"{REPUTATION} * 2000 >= {{}}", query.minReputation)
    if query.minUptime:
        add("(total_calls = 0 or 100.0 * successful_calls / total_calls >= {})", query.minUptime)
    if query.tags:
        add("tags && {}", query.tags)
    if query.network:
        add("accepts @> {}", [{"network": query.network}])
    return clauses, values


def _service(row: asyncpg.Record) -> Service:
    registration = Registration.model_construct(
        url=row["url"],
        name=row["name"],
        description=row["description"],
        category=row["category"],
        ownerWalletAddress=row["owner"],
        pricePerCall=row["price_usd"],
        pricingModel=row["pricing_model"],
        acceptedTokens=[row["asset_symbol"]],
        accepts=[Accept.model_validate(accept) for accept in row["accepts"]],
        inputSchema=row["input_schema"],
        outputSchema=row["output_schema"],
        capabilities=list(row["capabilities"]),
        tags=list(row["tags"]),
        extra=row["extra"],
    )
    return Service(
        id=row["id"],
        registration=registration,
        owner=row["owner"],
        status=row["status"],
        verified=row["verified"],
        total_calls=row["total_calls"],
        successful_calls=row["successful_calls"],
        response_ms_sum=row["response_ms_sum"],
        rating_sum=row["rating_sum"],
        rating_count=row["rating_count"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
