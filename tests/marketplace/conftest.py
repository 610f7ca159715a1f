"""A small node: a catalogue with a trial agent, run in the real sandbox on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentnexus.core.clock import SystemClock, TimeOrderedIds
from agentnexus.core.money import Asset
from agentnexus.marketplace.executions.service import Executions
from agentnexus.marketplace.listings.model import Listing
from agentnexus.marketplace.listings.service import Listings, Till
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.signer import LocalSigner
from agentnexus.runtime.bundle import Bundle
from agentnexus.runtime.local import probe
from agentnexus.runtime.local.sandbox import LocalSandbox
from agentnexus.runtime.port import Runtime
from agentnexus.runtime.unsafe import UnsafeLocal

TRIAL = Path(__file__).parent / "trial"
NETWORK = "eip155:31337"
TOKEN = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
USDC = Asset("USDC", 6, f"{NETWORK}/erc20:{TOKEN}")
SELLER = LocalSigner(b"\x07" * 32, NetworkKind.LOCAL)
TRIAL_ID = "org.agentnexus.trial"


@dataclass
class Node:
    """What one process of a node holds."""

    database: Database
    listings: Listings
    executions: Executions
    runtime: Runtime
    bundle: Bundle
    listing: Listing
    wakeups: Wakeups
    blobs: PostgresBlobs

    def another_process(self) -> Executions:
        """Executions as a second process on the same database would have them."""
        return executions_of(self.database, self.listings, self.runtime, self.bundle, self.wakeups)


def executions_of(
    database: Database, listings: Listings, runtime: Runtime, bundle: Bundle, wakeups: Wakeups
) -> Executions:
    return Executions(
        database,
        listings,
        runtime,
        bundles={bundle.name: bundle},
        blobs=PostgresBlobs(database),
        wakeups=wakeups,
        clock=SystemClock(),
        ids=TimeOrderedIds(),
    )


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """The sandbox; on a host that cannot isolate, the same without isolation."""
    isolates = all(check.present for check in probe.checks())
    async with LocalSandbox() if isolates else UnsafeLocal() as opened:
        yield opened


@pytest.fixture
def till() -> Till:
    return Till(USDC, "USD Coin", "2")


@pytest.fixture
def listings(database: Database, till: Till) -> Listings:
    return Listings(database, SystemClock(), till)


@pytest.fixture
async def wakeups(database: Database) -> AsyncIterator[Wakeups]:
    async with Wakeups(database) as opened:
        yield opened


@pytest.fixture
async def node(database: Database, listings: Listings, runtime: Runtime, wakeups: Wakeups) -> Node:
    bundle = await runtime.prepare(TRIAL)
    listing = await listings.publish(bundle, SELLER.public_id, developer="Harbour works")
    executions = executions_of(database, listings, runtime, bundle, wakeups)
    return Node(database, listings, executions, runtime, bundle, listing, wakeups, PostgresBlobs(database))
