"""kill -9 of the API and of every worker while purchases stand at each of their steps: all end, and nobody pays twice.

A trigger of this test's own holds each purchase up just before one of its rows is written; then everything is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest

from agentnexus.core.clock import SystemEntropy
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Database
from tests.economy.conftest import Town

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.chaos, pytest.mark.timeout(300)]
AGENT = "org.agentnexus.content-summarizer"
LOCK = 42_424_242
STEPS = ("initiated", "validating", "reviewed", "sent", "confirmed", "entitled")
BACK = ("ended", "refunding")  # in this order: the latter holds the right to the agent while it stands
HOLD_UP = f"""
create function marketplace.hold_up() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock({LOCK});
    return new;
end $$;
create trigger hold_up before insert or update on marketplace.purchase for each row
    when (new.key in ('kill-' || coalesce(nullif(new.step, ''), new.state), 'back-' || new.step))
    execute function marketplace.hold_up();
"""
GO_ON = "drop trigger hold_up on marketplace.purchase; drop function marketplace.hold_up()"
WAITING = "select count(*) from pg_locks where locktype = 'advisory' and not granted and objid = $1"


async def somebody(town: Town) -> dict[str, str]:
    """Headers of a person of this test's own, so that no other test meets their wallet."""
    database = await Database.open(town.economy.database_url, max_size=1)
    token = await Tokens(database, SystemEntropy()).issue("killed-at-every-step")
    await database.close()
    return {"Authorization": f"Bearer {token}"}


async def ended(town: Town, who: dict[str, str], purchase_id: str, *states: str) -> dict[str, object]:
    while True:
        answer = await town.call("GET", f"/api/v1/purchases/{purchase_id}?wait=5", headers=who)
        found: dict[str, object] = answer.json()["data"]
        if found["state"] in states and found["step"] in ("entitled", "ended"):
            return found


@asynccontextmanager
async def held_up(connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[None]:
    await connection.execute("select pg_advisory_lock($1)", LOCK)
    await connection.execute(HOLD_UP)
    yield
    await connection.execute("select pg_advisory_unlock($1)", LOCK)
    await connection.execute(GO_ON)


async def stands(connection: asyncpg.Connection[asyncpg.Record], count: int) -> None:
    """Wait until so many purchases are about to be written."""
    async with asyncio.timeout(60):
        while await connection.fetchval(WAITING, LOCK) < count:
            await asyncio.sleep(0.02)


def kill_all(town: Town) -> None:
    victims = [each for each in town.economy.children if each.name.startswith(("api", "worker"))]
    assert len(victims) >= 3
    for each in victims:
        if each.pid is not None:
            os.kill(each.pid, signal.SIGKILL)


async def killed(
    town: Town, who: dict[str, str], connection: asyncpg.Connection[asyncpg.Record], calls: list[tuple[str, str]]
) -> None:
    """Send the calls (path, key), have each stand at its step, and kill everything."""
    asked: list[asyncio.Task[httpx.Response]] = []
    async with held_up(connection):
        for path, key in calls:
            body = {"quantity": 2} if path.endswith("/purchase") else {}
            posted = town.client.post(path, json=body, headers={**who, "Idempotency-Key": key})
            asked.append(asyncio.create_task(posted))
            await stands(connection, len(asked))
        kill_all(town)
        answers = await asyncio.gather(*asked, return_exceptions=True)
    for each in answers:
        assert isinstance(each, httpx.TransportError) or (isinstance(each, httpx.Response) and each.status_code == 202)


async def test_purchases_that_are_killed_at_every_step_end_and_are_paid_once(town: Town) -> None:
    who = await somebody(town)
    wallet = (await town.call("POST", "/api/v1/wallet", json={"kind": "server"}, headers=who)).json()["data"]
    chain = town.economy.chain
    await chain.mint(wallet["address"], 1_000_000)
    before = await chain.usdc_of(wallet["address"])
    buy = f"/api/v1/agents/{AGENT}/purchase"
    connection = await asyncpg.connect(town.economy.database_url)
    try:
        await killed(town, who, connection, [(buy, f"kill-{step}") for step in STEPS])
        bought = []
        for step in STEPS:
            headers = {**who, "Idempotency-Key": f"kill-{step}"}
            answer = await town.call("POST", buy, json={"quantity": 2}, headers=headers)
            assert answer.status_code == 202, answer.text
            bought.append(await ended(town, who, answer.json()["data"]["id"], "completed"))
        assert len({str(each["deal_id"]) for each in bought}) == len(STEPS)
        price = 10_000
        assert await chain.usdc_of(wallet["address"]) == before - len(STEPS) * 2 * price

        again = [f"/api/v1/purchases/{each['id']}/refund" for each in bought[:2]]
        for each, step in zip(bought, BACK, strict=False):
            await connection.execute(
                "update marketplace.purchase set key = $2 where id = $1", each["id"], f"back-{step}"
            )
        await killed(town, who, connection, [(path, "") for path in again])
        for each in bought:
            await town.call("POST", f"/api/v1/purchases/{each['id']}/refund", headers=who)
            await ended(town, who, str(each["id"]), "refunded")
    finally:
        await connection.close()
    assert await chain.usdc_of(wallet["address"]) == before
