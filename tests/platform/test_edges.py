"""Blobs, outbox, wake-ups, signing keys and the HTTP edge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx
import pytest
from fastapi import FastAPI, Request

from agentnexus.core.errors import BudgetExceeded, NotAllowed, NotFound, Unavailable
from agentnexus.core.events import Event, EventName
from agentnexus.platform.blobs import MemoryBlobs, PostgresBlobs
from agentnexus.platform.database import Database
from agentnexus.platform.http import BodyLimit, RequestContext, install_error_handlers, run_checks
from agentnexus.platform.outbox import OutboxReader, prune, publish
from agentnexus.platform.signing import Ed25519Signer, verify_ed25519, verify_ed25519_now
from agentnexus.platform.wakeups import Wakeups


@pytest.mark.parametrize("kind", ["memory", "postgres"])
async def test_blobs_are_found_by_their_content(kind: str, database: Database) -> None:
    blobs = MemoryBlobs() if kind == "memory" else PostgresBlobs(database)
    reference = await blobs.put(b"\x00\xff", "image/png")
    assert await blobs.put(b"\x00\xff", "text/plain") == reference
    assert await blobs.open(reference) == (b"\x00\xff", "image/png")
    with pytest.raises(NotFound):
        await blobs.get("sha256:" + "0" * 64)


def _event(sequence: int, subject: str = "wf_1") -> Event:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Event(name=EventName.STEP_STARTED, subject=subject, sequence=sequence, at=now, data={"n": sequence})


async def test_events_of_a_rolled_back_transaction_never_leave(database: Database) -> None:
    with pytest.raises(RuntimeError):
        async with database.transaction() as connection:
            await publish(connection, [_event(1)])
            raise RuntimeError
    seen: list[Event] = []

    async def handle(event: Event) -> None:
        seen.append(event)

    assert await OutboxReader(database, "r").drain(handle) == 0


async def test_a_reader_never_jumps_over_a_slow_writer(database: Database) -> None:
    seen: list[int] = []

    async def handle(event: Event) -> None:
        seen.append(event.sequence)

    reader = OutboxReader(database, "r")
    async with database.transaction() as slow:
        await publish(slow, [_event(1)])
        async with database.transaction() as fast:
            await publish(fast, [_event(2)])
        await reader.drain(handle)
        assert seen == []
    await reader.drain(handle)
    assert seen == [1, 2]


async def test_a_handler_that_fails_gets_its_event_again(database: Database) -> None:
    async with database.transaction() as connection:
        await publish(connection, [_event(1), _event(2)])
    seen: list[int] = []

    async def failing(event: Event) -> None:
        if event.sequence == 2:
            raise Unavailable("subscriber down")
        seen.append(event.sequence)

    with pytest.raises(Unavailable):
        await OutboxReader(database, "r").drain(failing)

    async def working(event: Event) -> None:
        seen.append(event.sequence)

    await OutboxReader(database, "r").drain(working)
    assert seen == [1, 2]


async def test_old_events_are_forgotten_once_every_reader_has_passed_them(database: Database) -> None:
    async def nothing(_event: Event) -> None:
        return

    async with database.transaction() as connection:
        await publish(connection, [_event(1), _event(2)])
    reader = OutboxReader(database, "slow")
    await reader.drain(nothing)
    async with database.transaction() as connection:
        await publish(connection, [_event(3)])
        await connection.execute("update platform.outbox set at = now() - interval '2 days'")
    async with database.transaction() as connection:
        await publish(connection, [_event(4)])
        assert await prune(database, 86_400) == 2
    async with database.connection() as connection:
        left = await connection.fetch("select sequence from platform.outbox order by sequence")
    assert [row["sequence"] for row in left] == [3, 4]
    await reader.drain(nothing)
    async with database.connection() as connection:
        await connection.execute("update platform.outbox set at = now() where sequence = 4")
    assert await prune(database, 86_400) == 1


async def test_a_wakeup_reaches_another_process_connection(database: Database, database_url: str) -> None:
    other_database = await Database.open(database_url)
    async with Wakeups(database) as here, Wakeups(other_database) as there:
        waiting = asyncio.create_task(there.wait("topic", 20))
        await asyncio.sleep(0)
        here.notify("topic")
        assert await waiting
        assert not await there.wait("nobody", 0.001)
    await other_database.close()


async def test_the_listener_comes_back_after_its_connection_was_killed(database: Database) -> None:
    async with Wakeups(database) as wakeups:
        async with database.connection() as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%'"
            )
        other = await Database.open(database.url)
        async with Wakeups(other) as sender:
            woken = False
            while not woken:
                waiting = asyncio.create_task(wakeups.wait("t", 0.2))
                await asyncio.sleep(0)
                sender.notify("t")
                woken = await waiting
        await other.close()


async def test_a_signature_proves_its_message_and_nothing_else(tmp_path: Path) -> None:
    signer = Ed25519Signer.load_or_create(tmp_path / "key.pem")
    signature = await signer.sign(b"m")
    assert await verify_ed25519(signer.public_id, b"m", signature)
    assert not verify_ed25519_now(signer.public_id, b"n", signature)
    assert not verify_ed25519_now("ed25519:zz", b"m", signature)
    assert not verify_ed25519_now("rsa:00", b"m", signature)
    again = Ed25519Signer.load_or_create(tmp_path / "key.pem")
    assert again.public_id == signer.public_id


def test_a_key_readable_by_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    Ed25519Signer.load_or_create(path)
    path.chmod(0o644)
    with pytest.raises(NotAllowed, match="readable by others"):
        Ed25519Signer.load_or_create(path)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/over")
    async def over() -> None:
        raise BudgetExceeded("over the hourly limit", next_step="wait", limit="per_hour")

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError

    @app.get("/kept/{text}")
    async def kept(text: str) -> None:
        raise asyncpg.CharacterNotInRepertoireError(text)

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    transport = httpx.ASGITransport(RequestContext(BodyLimit(app, 1024)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as opened:
        yield opened


@pytest.mark.parametrize("path", ["/kept/a", "/kept/%00", "/%00"])
async def test_what_cannot_be_stored_is_the_senders_to_mend(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_input"
    assert answer.json()["error"]["next_step"]
    assert answer.headers["x-request-id"]


async def test_an_expected_error_has_its_code_status_and_advice(client: httpx.AsyncClient) -> None:
    answer = await client.get("/over")
    assert answer.status_code == 402
    assert answer.json() == {
        "success": False,
        "error": {
            "code": "budget_exceeded",
            "message": "over the hourly limit",
            "next_step": "wait",
            "details": {"limit": "per_hour"},
        },
    }


async def test_a_bug_says_nothing_of_the_inside_but_gives_the_request_id(client: httpx.AsyncClient) -> None:
    answer = await client.get("/bug", headers={"X-Request-ID": "abc-1"})
    assert answer.status_code == 500
    assert answer.json()["error"]["details"] == {"request_id": "abc-1"}
    assert "ZeroDivision" not in answer.text
    assert (
        (await client.get("/none", headers={"X-Request-ID": "bad id\x01"})).headers["x-request-id"].startswith("req_")
    )


async def test_a_body_over_the_limit_is_refused_declared_or_not(client: httpx.AsyncClient) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x" * 512

    assert (await client.post("/echo", content=b"x" * 1024)).json() == 1024
    assert (await client.post("/echo", content=b"x" * 1025)).status_code == 413
    undeclared = await client.post("/echo", content=stream())
    assert undeclared.status_code == 413
    assert undeclared.json()["error"]["code"] == "limit_exceeded"


async def test_health_is_degraded_when_one_part_fails_and_unhealthy_when_all_do() -> None:
    async def good() -> None: ...

    async def bad() -> None:
        raise Unavailable("chain down")

    overall, checks = await run_checks({"database": good, "chain": bad})
    assert overall == "degraded"
    assert checks["chain"]["details"] == "chain down"  # type: ignore[index]  # a JSON tree
    assert (await run_checks({"chain": bad}))[0] == "unhealthy"
    assert (await run_checks({"database": good}))[0] == "healthy"


async def test_a_part_that_never_answers_is_unhealthy_after_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentnexus.platform.http.CHECK_SECONDS", 0.01)

    async def good() -> None: ...

    async def frozen() -> None:
        await asyncio.Event().wait()

    overall, checks = await run_checks({"first": frozen, "second": good})
    assert overall == "degraded"
    assert checks["first"]["details"] == "no answer in 0.01 s"  # type: ignore[index]  # a JSON tree
    assert checks["second"]["status"] == "healthy"  # type: ignore[index]  # a JSON tree
