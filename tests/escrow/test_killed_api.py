"""API processes killed (SIGKILL) in the middle of a claim and of a withdrawal, on the real development chain."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from agentnexus.bootstrap.ground import Ground
from agentnexus.bootstrap.treasury import open_treasury
from agentnexus.core.clock import ManualClock, SystemClock
from agentnexus.escrow.service import Escrow
from agentnexus.ledger.books import Books
from agentnexus.platform.database import Database
from agentnexus.platform.settings import Settings
from tests.escrow.site import Site, User, open_site

pytestmark = pytest.mark.chaos


@pytest.fixture
async def site(database: Database, database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(database, database_url, tmp_path) as opened:
        yield opened
        async with Books(database) as books:
            report = await books.check()
            assert report.clean, report.findings


async def later(site: Site) -> tuple[int, int]:
    """What upkeep does a minute later in another process: claims and withdrawals that it finished."""
    settings = Settings(
        solana_rpc_url=site.chain.rpc_url, treasury_keypair=Path(site.environment["NEXUS_TREASURY_KEYPAIR"])
    )
    clock = ManualClock(SystemClock().now() + timedelta(minutes=1))
    async with (
        Books(site.database) as books,
        open_treasury(Ground(settings, site.database, clock=clock), timedelta(days=7)) as treasury,
    ):
        escrow = Escrow(site.database, books, treasury, clock)

        async def never(_reference: str) -> bool:
            return False

        claims = await escrow.finish_claims()
        withdrawals, _ = await escrow.repair(never)
        (line, _) = await escrow.reconcile()
        assert line.agrees, line
        return claims, withdrawals


async def dies(site: Site, user: User, point: str, what: str, **kwargs: object) -> None:
    """A second process takes the request and is dead before it answers."""
    process = await site.start(point)
    with pytest.raises(httpx.TransportError):
        await user.ask("POST", what, api=len(site.urls) - 1, **kwargs)
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("point", ["claimed", "posted"])
@pytest.mark.parametrize("mended_by", ["the user", "upkeep"])
async def test_a_claim_cut_off_is_credited_once(site: Site, point: str, mended_by: str) -> None:
    await site.start()
    async with site.user("ann") as ann:
        await ann.open()
        signature = await ann.pay(2_000_000)
        await dies(site, ann, point, "deposit", json={"signature": signature})
        assert await ann.available() == (2.0 if point == "posted" else 0.0)
        if mended_by == "the user":
            assert (await ann.ask("POST", "deposit", json={"signature": signature})).status_code == 200
            assert await later(site) == (0, 0)
        else:
            assert await later(site) == (1, 0)
            assert await later(site) == (0, 0)
        assert await ann.available() == 2.0
        assert (await ann.ask("POST", "deposit", json={"signature": signature})).status_code == 409
        history = (await ann.ask("GET", "history")).json()
        assert [(line["kind"], line["signature"]) for line in history["history"]] == [("deposit", signature)]


async def test_nobody_else_gets_a_deposit_whose_claim_was_cut_off(site: Site) -> None:
    await site.start()
    async with site.user("ann") as ann, site.user("bob") as bob:
        await ann.open()
        await bob.open()
        signature = await ann.pay(2_000_000)
        await dies(site, ann, "claimed", "deposit", json={"signature": signature})
        refused = await bob.ask("POST", "deposit", json={"signature": signature})
        assert (refused.status_code, await bob.available()) == (400, 0.0)
        assert await later(site) == (1, 0)
        assert (await ann.available(), await bob.available()) == (2.0, 0.0)


@pytest.mark.parametrize("point", ["reserved", "sent"])
@pytest.mark.parametrize("mended_by", ["the user", "upkeep"])
async def test_a_withdrawal_cut_off_is_sent_once(site: Site, point: str, mended_by: str) -> None:
    await site.start()
    async with site.user("ann") as ann:
        await ann.funded(2_000_000)
        before = await ann.tokens()
        body = {"json": {"amount": 1.5}, "headers": {"Idempotency-Key": "w1"}}
        await dies(site, ann, point, "withdraw", **body)
        assert await ann.available() == 0.5  # set aside: it cannot be spent a second time meanwhile
        assert await ann.tokens() == before + (1_500_000 if point == "sent" else 0)
        if mended_by == "upkeep":
            assert await later(site) == (0, 1)
        done = await ann.ask("POST", "withdraw", **body)
        assert done.status_code == 200, done.text
        assert await later(site) == (0, 0)
        assert (await ann.available(), await ann.tokens()) == (0.5, before + 1_500_000)
        history = (await ann.ask("GET", "history")).json()["history"]
        assert [line["kind"] for line in history] == ["withdrawal", "deposit"]
        assert history[0]["signature"] == done.json()["signature"]
