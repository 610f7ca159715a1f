"""What the tests of hiring share: offers, an economy on one database, and parts that survive a killed process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from agentnexus.core.clock import SeededEntropy, SystemClock
from agentnexus.core.money import Asset, Money, Rate
from agentnexus.core.offers import Capability, Need, Offer, Party, Price, Reputation
from agentnexus.core.payments import Limits
from agentnexus.core.ports import Clock
from agentnexus.hiring.cache import OfferCache
from agentnexus.hiring.cashier import Checkpoint, Wallet, no_checkpoint
from agentnexus.hiring.gather import Gatherer
from agentnexus.hiring.hire import Hiring
from agentnexus.hiring.model import Rates
from agentnexus.hiring.repair import Repair
from agentnexus.hiring.testing import MemoryNetwork, Network, Script, ScriptedMarket, ScriptedRail
from agentnexus.ledger.books import Books
from agentnexus.platform.cache import Cache
from agentnexus.platform.database import Database
from agentnexus.platform.signing import Ed25519Signer

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
USDC = Asset("USDC", 6, "eip155:31337/erc20:0x" + "1" * 40)
EURC = Asset("EURC", 6, "eip155:31337/erc20:0x" + "2" * 40)
RATES = Rates((Rate(USDC, Decimal(1), "test", NOW, pegged=True), Rate(EURC, Decimal("1.1"), "test", NOW, pegged=True)))
WALLET = "0x" + "a" * 40
BUDGET = "user-1"
ECHO_OUTPUT: dict[str, object] = {
    "type": "object",
    "properties": {"echo": {"type": "object"}},
    "required": ["echo"],
}


def usd(amount: str) -> Money:
    return USDC.parse(amount)


def seller_key(number: int) -> str:
    return f"evm:0x{number:040x}"


def make_offer(
    number: int = 1,
    *,
    capability: str = "text.echo",
    price: str = "0.02",
    market: str = "scripted",
    **changes: object,
) -> Offer:
    """An offer of seller `number`; changes go into the offer as they are."""
    fields: dict[str, object] = {
        "id": f"{market}:{number}:{capability}",
        "market": market,
        "seller": Party(ids={"evm": f"0x{number:040x}"}, name=f"seller {number}"),
        "capability": Capability(
            name=capability,
            title=capability.replace(".", " "),
            input_schema={"type": "object"},
            output_schema=ECHO_OUTPUT,
        ),
        "title": f"{capability} by {number}",
        "price": Price(per_job=usd(price)),
        "endpoint": f"https://seller{number}.example/{capability}",
        "observed_at": NOW,
    }
    return Offer.model_validate(fields | changes)


def known(score: float, count: int = 40) -> Reputation:
    return Reputation(score=score, count=count, source="test")


NEED = Need(capability="text.echo", input={"text": "hello"})


@dataclass
class Economy:
    """One buyer with a funded wallet and budget, one market of scripted sellers."""

    database: Database
    books: Books
    rail: ScriptedRail
    market: ScriptedMarket
    gatherer: Gatherer
    hiring: Hiring
    repair: Repair
    checkpoints: list[str] = field(default_factory=list)

    @classmethod
    async def build(
        cls,
        database: Database,
        *,
        offers: Sequence[Offer] | None = None,
        scripts: Mapping[str, Script] | None = None,
        network: Network | None = None,
        delivery: object = None,
        clock: Clock | None = None,
        stop: Checkpoint = no_checkpoint,
        limits: Limits | None = None,
        paid_patience_seconds: float = 0.0,
    ) -> Economy:
        clock = clock or SystemClock()
        books = Books(database)
        await books.deposit("top-up", f"wallet:{USDC.network}:{WALLET}", usd("100"))
        await books.budgets.create(BUDGET, owner=BUDGET, asset=USDC, limits=limits or Limits(total=usd("50")))
        rail = ScriptedRail(network or MemoryNetwork(), clock)
        market = ScriptedMarket(
            "scripted",
            offers if offers is not None else [make_offer(1)],
            rail=rail,
            clock=clock,
            scripts=scripts,
            delivery=delivery,  # type: ignore[arg-type]
        )
        gatherer = Gatherer([market], OfferCache(Cache(clock=clock)), clock=clock)
        seen: list[str] = []

        def checkpoint(name: str) -> None:
            seen.append(name)
            stop(name)

        hiring = Hiring(
            gatherer=gatherer,
            books=books,
            database=database,
            wallets={rail.name: Wallet(rail, WALLET)},
            signer=Ed25519Signer.from_seed(b"\x07" * 32),
            rates=RATES,
            clock=clock,
            entropy=SeededEntropy(1),
            checkpoint=checkpoint,
            paid_patience_seconds=paid_patience_seconds,
        )
        return cls(database, books, rail, market, gatherer, hiring, Repair(hiring), seen)

    async def hire(self, need: Need = NEED, *, key: str = "k1", budget_id: str = BUDGET, **more: object) -> object:
        return await self.hiring.hire(need, budget_id=budget_id, key=key, user_id="u1", **more)  # type: ignore[arg-type]

    async def paid(self, number: int = 1) -> str:
        """What seller `number` got according to the ledger, as decimal text."""
        balance = await self.books.balance(f"seller:{seller_key(number)}", USDC)
        return f"{balance.posted.decimal.normalize():f}"

    async def collected(self) -> int:
        """Payments that the network says were collected."""
        network = self.rail.network
        assert isinstance(network, MemoryNetwork | TableNetwork)
        if isinstance(network, MemoryNetwork):
            return sum(state == "collected" for state in network.states.values())
        return await network.count("collected")

    async def assert_sound(self) -> None:
        """The books balance, nothing is left reserved, and ledger and network agree on how many payments there were."""
        report = await self.books.check()
        assert report.clean, report.findings
        async with self.database.connection() as connection:
            pending = await connection.fetchval("select count(*) from ledger.reservation where state = 'pending'")
            posted = await connection.fetchval("select count(*) from ledger.reservation where state = 'posted'")
            open_holds = await connection.fetchval("select count(*) from hiring.hold where finished_at is null")
        assert (pending, open_holds) == (0, 0)
        assert posted == await self.collected()

    async def close(self) -> None:
        await self.hiring.close()
        await self.books.close()


class TableNetwork:
    """A `Network` in a table: what a killed process did there stays done."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self) -> TableNetwork:
        async with self._database.connection() as connection:
            await connection.execute("create table if not exists public.network (key text primary key, state text)")
            await connection.execute("create table if not exists public.delivery (key text primary key, answer text)")
        return self

    async def state(self, key: str) -> str | None:
        async with self._database.connection() as connection:
            found = await connection.fetchval("select state from public.network where key = $1", key)
        return None if found is None else str(found)

    async def move(self, key: str, before: str | None, after: str) -> bool:
        async with self._database.connection() as connection:
            if before is None:
                done = await connection.execute(
                    "insert into public.network (key, state) values ($1, $2) on conflict do nothing", key, after
                )
            else:
                done = await connection.execute(
                    "update public.network set state = $3 where key = $1 and state = $2", key, before, after
                )
        return bool(done.endswith("1"))

    async def count(self, state: str) -> int:
        async with self._database.connection() as connection:
            return int(await connection.fetchval("select count(*) from public.network where state = $1", state))


class TableDelivery:
    """Sellers' answers in a table: the same payment gets the same answer after everything was killed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answer(self, key: str, make: Callable[[], object]) -> object:
        async with self._database.connection() as connection:
            known_answer = await connection.fetchval("select answer from public.delivery where key = $1", key)
            if known_answer is not None:
                return json.loads(known_answer)
            answer = make()
            await connection.execute(
                "insert into public.delivery (key, answer) values ($1, $2) on conflict do nothing",
                key,
                json.dumps(answer),
            )
        return answer
