"""Use cases of the catalogue: list an agent from its bundle, find agents, change what may be sold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from agentnexus.core.errors import InvalidInput, NotFound
from agentnexus.core.money import Asset, Money
from agentnexus.core.ports import Clock
from agentnexus.marketplace.listings.model import (
    PAGE_DEFAULT,
    Listing,
    ListingQuery,
    ListingStatus,
    Page,
    Sort,
    price_of,
)
from agentnexus.marketplace.listings.store import ListingStore
from agentnexus.markets.x402.pricing import exact
from agentnexus.markets.x402.wire import to_json
from agentnexus.platform.database import Database
from agentnexus.runtime.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Till:
    """What agents are paid in: the asset and the EIP-712 domain its contract signs under."""

    asset: Asset
    domain_name: str
    domain_version: str
    timeout_seconds: int = 300


class Listings:
    """The catalogue of this node.

    Args:
        till: or what reads it from the chain when something is published; the rest needs no chain.
    """

    def __init__(self, database: Database, clock: Clock, till: Till | Callable[[], Awaitable[Till]]) -> None:
        self._store = ListingStore(database)
        self._clock = clock
        self._till = till

    async def publish(
        self, bundle: Bundle, seller: str, *, developer: str = "", status: ListingStatus = ListingStatus.ACTIVE
    ) -> Listing:
        """List a prepared bundle, paid to the address `seller`. The same bundle again changes nothing but the time.

        Raises `InvalidInput` when it has no price in this node's currency or its schemas are not known yet.
        """
        if bundle.input_schema is None or bundle.output_schema is None:
            raise InvalidInput(f"{bundle.name} was not prepared", next_step="prepare it in the runtime first")
        till = await self._till() if callable(self._till) else self._till
        price = price_of(bundle.manifest, till.asset)
        now = self._clock.now()
        listing = Listing(
            manifest=bundle.manifest,
            status=status,
            price=price,
            seller=seller.lower(),
            developer=developer or bundle.manifest.name.rpartition(".")[0],
            accepts=(_accepts(till, price, seller),),
            code_hash=bundle.code_hash,
            input_schema=bundle.input_schema,
            output_schema=bundle.output_schema,
            created_at=now,
            updated_at=now,
        )
        return await self._store.put(listing)

    async def list(
        self,
        query: str = "",
        category: str = "",
        *,
        max_price: Money | Decimal | None = None,
        sort: Sort | str = Sort.RELEVANCE,
        limit: int = PAGE_DEFAULT,
        cursor: str = "",
        capability: str = "",
        min_price: Money | Decimal | None = None,
    ) -> Page:
        """Active listings. Raises `InvalidInput` for an unknown sort, a page too long or a foreign cursor."""
        return await self._store.search(
            ListingQuery(
                text=query.replace("\x00", ""),
                category=category.replace("\x00", ""),
                capability=capability.replace("\x00", ""),
                min_price=_decimal(min_price),
                max_price=_decimal(max_price),
                sort=_sort(sort),
                limit=limit,
                cursor=cursor,
            )
        )

    async def get(self, agent_id: str) -> Listing:
        """A listing in any state; raises `NotFound`."""
        found = await self._store.get(agent_id.replace("\x00", ""))
        if found is None:
            raise _no_agent(agent_id)
        return found

    async def for_sale(self, agent_id: str) -> Listing:
        """An active listing; raises `NotFound` saying why it cannot be bought."""
        found = await self.get(agent_id)
        if found.status is not ListingStatus.ACTIVE:
            raise NotFound(
                f"{agent_id} is not for sale now: {found.status.value}",
                next_step="look for another agent",
                agent=agent_id,
            )
        return found

    async def all_active(self) -> tuple[Listing, ...]:
        """Every active listing, by id; for routes and announcements."""
        found: list[Listing] = []
        cursor = ""
        while True:
            page = await self._store.search(ListingQuery(sort=Sort.NEWEST, limit=100, cursor=cursor))
            found.extend(page.listings)
            cursor = page.next_cursor
            if not cursor:
                return tuple(sorted(found, key=lambda listing: listing.id))

    async def payees(self) -> Mapping[str, str]:
        """Agent id to the lower-case address it is paid to, on sale or not."""
        return dict(await self._store.payees())

    async def set_status(self, agent_id: str, status: ListingStatus) -> Listing:
        """Put on sale, pause or retire; raises `NotFound`."""
        if not await self._store.set_status(agent_id, status, self._clock.now()):
            raise _no_agent(agent_id)
        return await self.get(agent_id)

    async def categories(self) -> Mapping[str, int]:
        """Category to number of active agents, the largest first."""
        return dict(await self._store.categories())

    async def versions(self, agent_id: str) -> Sequence[dict[str, object]]:
        """``{version, codeHash, listedAt}``, newest first."""
        return [
            {"version": version, "codeHash": code_hash, "listedAt": at.isoformat()}
            for version, code_hash, at in await self._store.versions(agent_id)
        ]


def _sort(sort: Sort | str) -> Sort:
    try:
        return Sort(sort or Sort.RELEVANCE)
    except ValueError as error:
        raise InvalidInput(
            f"cannot sort by {sort!r}", next_step=f"choose one of: {', '.join(Sort)}", field="sort"
        ) from error


def _decimal(price: Money | Decimal | None) -> Decimal | None:
    return price.decimal if isinstance(price, Money) else price


def _accepts(till: Till, price: Money, seller: str) -> dict[str, object]:
    return to_json(
        exact(
            price,
            seller,
            domain_name=till.domain_name,
            domain_version=till.domain_version,
            timeout_seconds=till.timeout_seconds,
        )
    )


def _no_agent(agent_id: str) -> NotFound:
    return NotFound(f"there is no agent {agent_id}", next_step="list them: `nexus agents list`, or GET /api/v1/agents")
