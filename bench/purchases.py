"""How long buying runs takes on a local chain through the real services: from the request to the right to run.

Run: python -m bench.purchases [count]; prints JSON. Needs `npm ci`; starts its own chain and database. The API's part
and the worker's run in this one process, and the buyers' wallets are of the kind that the node signs for. A purchase
is asked for and waited for, one at a time: allowed and its money set aside, one sponsored user operation (approve,
deposit, mint) built, signed, mined and noted, and the right read back. `stages` say where the time goes: medians and
shares of the whole.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import median

from pydantic import SecretStr

from agentnexus.bootstrap.gas import follow_contracts, open_indexer
from agentnexus.bootstrap.ground import Ground, open_chain
from agentnexus.bootstrap.purchasing import Purchasing, follow_deals, keep_purchases, open_purchasing
from agentnexus.bootstrap.stock import till_of
from agentnexus.bootstrap.wallets import open_wallets
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.devnet.contracts import deploy_contracts
from agentnexus.ledger.books import Books
from agentnexus.marketplace.listings.service import Listings
from agentnexus.marketplace.purchases.acts import Acts
from agentnexus.marketplace.purchases.model import Act, Purchase
from agentnexus.marketplace.purchases.ports import Payer
from agentnexus.platform.database import Database
from agentnexus.platform.logs import configure_logs
from agentnexus.platform.settings import Settings
from agentnexus.platform.wakeups import Wakeups
from agentnexus.rails.evm.contracts import Call
from agentnexus.rails.evm.paymaster.accounts import GasAccounts
from agentnexus.runtime.bundle import read_bundle
from agentnexus.wallets.model import Answer, Operation, SigningRequest, Wallet, WalletKind
from bench.ground import measure_on_chain

AGENT = Path("agents/content-summarizer")
BUYERS = 4  # each has a budget, and a share of the gas that is paid for
RUNS = 2
PURSE_ATOMIC = 10**9
WAIT_SECONDS = 30.0
ACTS = {
    Act.VALIDATE: "checked, money set aside",
    Act.PREPARE: "terms and voucher",
    Act.WATCH: "deal read",
    Act.ENTITLE: "right read",
}
BUILT, MINED, KEPT = "operation built, sponsored, signed, handed over", "mined and noted", "kept and told"
Stages = defaultdict[str, float]


@dataclass(frozen=True)
class Watch:
    """Seconds of the purchase under way, by stage; a stage inside another is taken out of it."""

    stages: Stages = field(default_factory=lambda: defaultdict(float))

    @asynccontextmanager
    async def during(self, stage: str, inside: str = "") -> AsyncIterator[None]:
        started = time.perf_counter()
        yield
        taken = time.perf_counter() - started
        self.stages[stage] += taken
        if inside:
            self.stages[inside] -= taken


@dataclass(frozen=True)
class TimedPayer:
    """The wallets, looked at."""

    wallets: Payer
    watch: Watch

    async def of(self, user_id: str) -> Wallet:
        return await self.wallets.of(user_id)

    async def begin(self, user_id: str, calls: Sequence[Call], *, key: str, purpose: str, title: str) -> Operation:
        async with self.watch.during(BUILT, ACTS[Act.PREPARE]):
            return await self.wallets.begin(user_id, calls, key=key, purpose=purpose, title=title)

    async def signing_request(self, user_id: str, operation_id: str) -> SigningRequest:
        return await self.wallets.signing_request(user_id, operation_id)

    async def sign(self, user_id: str, operation_id: str, answer: Answer) -> Operation:
        return await self.wallets.sign(user_id, operation_id, answer)

    async def operation(self, operation_id: str, user_id: str | None = None) -> Operation:
        return await self.wallets.operation(operation_id, user_id)

    async def settle(self, operation_id: str, *, timeout_seconds: float = 30) -> Operation:
        async with self.watch.during(MINED, ACTS[Act.WATCH]):
            return await self.wallets.settle(operation_id, timeout_seconds=timeout_seconds)


@dataclass(frozen=True)
class TimedActs(Acts):
    """The acts, looked at."""

    watch: Watch = field(default_factory=Watch)

    @classmethod
    def around(cls, acts: Acts) -> TimedActs:
        watch = Watch()
        parts = {each.name: getattr(acts, each.name) for each in fields(acts)}
        return cls(**{**parts, "wallets": TimedPayer(acts.wallets, watch)}, watch=watch)

    async def perform(self, purchase: Purchase) -> Purchase:
        async with self.watch.during(ACTS.get(purchase.act(), "other")):
            return await super().perform(purchase)


@dataclass
class Shop:
    """A node that sells runs of one agent to buyers with money; `watch` sees what it does."""

    chain: DevelopmentChain
    purchasing: Purchasing
    agent_id: str
    watch: Watch
    bought: int = 0

    async def buy(self, buyer: str) -> tuple[float, Stages]:
        """Seconds from the request to the right, in all and by stage."""
        self.bought += 1
        self.watch.stages.clear()
        started = time.perf_counter()
        purchase = await self.purchasing.purchases.begin(buyer, self.agent_id, RUNS, f"bench-{self.bought}")
        while not purchase.state.final:
            purchase = await self.purchasing.purchases.get(buyer, purchase.id, wait_seconds=WAIT_SECONDS)
        taken = time.perf_counter() - started
        assert purchase.state == "completed", purchase.error
        stages = self.watch.stages.copy()
        stages[KEPT] = taken - sum(stages.values())
        return taken, stages


@asynccontextmanager
async def open_shop(chain: DevelopmentChain, database: Database, home: Path) -> AsyncIterator[Shop]:
    """The parts of the API process and of the worker, as they wire them."""
    manifest = await deploy_contracts(chain)
    manifest.save(home)
    settings = Settings(
        home=home,
        evm_rpc_url=chain.rpc_url,
        usdc_address=chain.usdc.reference,
        relayer_key=SecretStr(chain.accounts["relayer"].private_key),
    )
    ground = Ground(settings, database)
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(open_chain(ground))
        books = await stack.enter_async_context(Books(database))
        wakeups = await stack.enter_async_context(Wakeups(database))
        wallets = await stack.enter_async_context(open_wallets(ground, ours, books))
        purchasing = await stack.enter_async_context(open_purchasing(ground, ours, books, wakeups, wallets=wallets))
        assert wallets is not None
        assert purchasing is not None
        schemas: dict[str, object] = {"type": "object"}
        bundle = replace(read_bundle(AGENT), input_schema=schemas, output_schema=schemas)
        listings = Listings(database, ground.clock, till_of(ours))
        listing = await listings.publish(bundle, chain.accounts["seller-1"].address)
        for number in range(BUYERS):
            wallet = await wallets.create(f"buyer-{number}", WalletKind.SERVER)
            await chain.mint(wallet.address, PURSE_ATOMIC)
        indexer = open_indexer(ground, ours, manifest)
        follow_deals(purchasing, indexer)
        acts = TimedActs.around(purchasing.purchases.acts)
        purchasing.purchases.acts = acts
        async with asyncio.TaskGroup() as group:
            worker = [
                group.create_task(follow_contracts(ground, ours, books, manifest, indexer)),
                group.create_task(keep_purchases(purchasing, ground)),
                group.create_task(wallets.keep()),
            ]
            gas = GasAccounts(books, chain.network, manifest.address("Paymaster"))
            while not (await books.balance(gas.deposit, gas.coin)).available.atomic:
                await asyncio.sleep(0.05)  # until the worker has seen what the paymaster has
            yield Shop(chain, purchasing, listing.id, acts.watch)
            for task in worker:
                task.cancel()


async def run(chain: DevelopmentChain, database: Database, count: int) -> Mapping[str, object]:
    with tempfile.TemporaryDirectory(prefix="nexus-bench-") as home:
        async with open_shop(chain, database, Path(home)) as shop:
            first = [await shop.buy(f"buyer-{number}") for number in range(BUYERS)]
            later = [await shop.buy(f"buyer-{number % BUYERS}") for number in range(count)]
    return {
        "purchase": walls(later),
        "first purchase of an account, which makes it": walls(first),
        "stages": shares([stages for _, stages in later]),
    }


def walls(bought: Sequence[tuple[float, Stages]]) -> dict[str, float]:
    taken = sorted(seconds for seconds, _ in bought)
    return {
        "count": len(taken),
        "p50_ms": round(median(taken) * 1e3, 1),
        "p95_ms": round(taken[int(len(taken) * 0.95)] * 1e3, 1),
        "most_ms": round(taken[-1] * 1e3, 1),
    }


def shares(stages: Sequence[Stages]) -> dict[str, dict[str, float]]:
    """Median of each stage, and its part of all time."""
    whole = sum(sum(each.values()) for each in stages)
    return {
        name: {
            "p50_ms": round(median(each[name] for each in stages) * 1e3, 1),
            "share": round(sum(each[name] for each in stages) / whole, 3),
        }
        for name in (ACTS[Act.VALIDATE], ACTS[Act.PREPARE], BUILT, MINED, ACTS[Act.WATCH], ACTS[Act.ENTITLE], KEPT)
    }


if __name__ == "__main__":
    configure_logs("WARNING")  # to standard error: what is printed is the result alone
    measure_on_chain(run, int(sys.argv[1]) if len(sys.argv) > 1 else 60)
