"""Uploads: a quota that racing uploads cannot pass, and bytes that go when nobody needs them."""

from __future__ import annotations

import asyncio

import pytest

from agentnexus.core.canonical import bytes_hash
from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import LimitExceeded, NotFound, RateLimited
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.database import Database
from agentnexus.platform.uploads import UploadLimits, Uploads

DAY = 86_400.0
LIMITS = UploadLimits(bytes_kept=100, files_per_hour=6, unused_kept=DAY, used_kept=30 * DAY)
TEXT = "text/plain"


@pytest.fixture
def uploads(database: Database, clock: ManualClock) -> Uploads:
    return Uploads(database, clock, LIMITS)


async def test_a_file_is_kept_under_its_hash_and_listed(uploads: Uploads, database: Database) -> None:
    reference = await uploads.keep("u1", b"hello", TEXT)
    assert reference == bytes_hash(b"hello")
    assert await PostgresBlobs(database).open(reference) == (b"hello", TEXT)
    (file,) = await uploads.of("u1")
    assert (file["blob"], file["media_type"], file["size_bytes"], file["used_at"]) == (reference, TEXT, 5, None)
    assert await uploads.of("u2") == []


async def test_bytes_beyond_the_quota_are_refused_with_what_to_do(uploads: Uploads, database: Database) -> None:
    first = await uploads.keep("u1", b"a" * 60, TEXT)
    with pytest.raises(LimitExceeded) as refused:
        await uploads.keep("u1", b"b" * 41, TEXT)
    assert (refused.value.details["kept_bytes"], refused.value.details["limit_bytes"]) == (60, 100)
    for words in ("DELETE /files", "24 hours", "30 days"):
        assert words in refused.value.next_step
    with pytest.raises(NotFound):
        await PostgresBlobs(database).get(bytes_hash(b"b" * 41))
    await uploads.keep("u1", b"a" * 60, TEXT)  # the same again takes no more room
    await uploads.keep("u2", b"b" * 41, TEXT)  # another user has a quota of their own
    await uploads.forget("u1", first)
    await uploads.keep("u1", b"b" * 41, TEXT)


async def test_files_beyond_the_hours_number_wait_for_the_next_hour(uploads: Uploads, clock: ManualClock) -> None:
    for number in range(6):
        await uploads.keep("u1", bytes([number]), TEXT)
    clock.advance(600)
    with pytest.raises(RateLimited) as refused:
        await uploads.keep("u1", b"one more", TEXT)
    assert refused.value.details["retry_after_seconds"] == 3000
    assert "3000 s" in refused.value.next_step
    clock.advance(3000)
    await uploads.keep("u1", b"one more", TEXT)


async def test_racing_uploads_never_pass_a_limit(database: Database, clock: ManualClock) -> None:
    processes = [Uploads(database, clock, LIMITS) for _ in range(3)]

    async def send(number: int, size: int, user: str) -> bool:
        try:
            await processes[number % 3].keep(user, bytes([number]) * size, TEXT)
        except (LimitExceeded, RateLimited):
            return False
        return True

    assert sum(await asyncio.gather(*(send(number, 30, "bytes") for number in range(12)))) == 3
    assert sum(await asyncio.gather(*(send(number, 1, "files") for number in range(12)))) == 6


async def test_an_unused_file_is_forgotten_after_a_day_and_a_used_one_after_thirty(
    uploads: Uploads, database: Database, clock: ManualClock
) -> None:
    unused, used = [await uploads.keep("u1", text, TEXT) for text in (b"unused", b"used")]
    await uploads.use("u1", [used])
    await uploads.use("u1", [])
    assert await uploads.purge() == 0
    clock.advance(DAY + 1)
    assert await uploads.purge() == 1
    blobs = PostgresBlobs(database)
    with pytest.raises(NotFound, match="no file"):
        await blobs.get(unused)
    assert await blobs.get(used) == b"used"
    clock.advance(20 * DAY)
    await uploads.use("u1", [used])  # again: its time begins anew
    clock.advance(20 * DAY)
    assert await uploads.purge() == 0
    clock.advance(10 * DAY + 1)
    assert await uploads.purge() == 1
    assert await uploads.of("u1") == []


async def test_sending_a_file_again_begins_its_time_anew(uploads: Uploads, clock: ManualClock) -> None:
    await uploads.keep("u1", b"again", TEXT)
    clock.advance(DAY - 10)
    await uploads.keep("u1", b"again", TEXT)
    clock.advance(20)
    assert await uploads.purge() == 0
    assert len(await uploads.of("u1")) == 1


async def test_a_used_file_that_is_sent_again_is_kept_from_then_on(uploads: Uploads, clock: ManualClock) -> None:
    reference = await uploads.keep("u1", b"again", TEXT)
    await uploads.use("u1", [reference])
    clock.advance(30 * DAY - 10)
    await uploads.keep("u1", b"again", TEXT)
    clock.advance(20)
    assert await uploads.purge() == 0


async def test_bytes_that_another_user_sent_stay_for_them(
    uploads: Uploads, database: Database, clock: ManualClock
) -> None:
    reference = await uploads.keep("u1", b"shared", TEXT)
    assert await uploads.keep("u2", b"shared", TEXT) == reference
    await uploads.use("u2", [reference])
    await uploads.use("u3", [reference])  # who has not sent it has no say
    clock.advance(2 * DAY)
    assert await uploads.purge() == 0
    assert (await uploads.of("u1"), len(await uploads.of("u2"))) == ([], 1)
    assert await PostgresBlobs(database).get(reference) == b"shared"


@pytest.mark.parametrize("before", [True, False])
async def test_bytes_that_are_also_a_result_last(
    uploads: Uploads, database: Database, clock: ManualClock, before: bool
) -> None:
    """Else uploading what an agent made, and letting it go, would take the result with it."""
    blobs = PostgresBlobs(database)
    if before:
        await blobs.put(b"result")
    reference = await uploads.keep("u1", b"result", TEXT)
    if not before:
        await blobs.put(b"result")
    clock.advance(2 * DAY)
    assert await uploads.purge() == 0
    await uploads.keep("u1", b"result", TEXT)
    await uploads.forget("u1", reference)
    assert await uploads.purge() == 0
    assert await blobs.get(reference) == b"result"


async def test_only_ones_own_files_can_be_forgotten(uploads: Uploads) -> None:
    reference = await uploads.keep("u1", b"mine", TEXT)
    for user, name in (("u2", reference), ("u1", "sha256:" + "0" * 64)):
        with pytest.raises(NotFound):
            await uploads.forget(user, name)
    await uploads.forget("u1", reference)
    assert await uploads.purge() == 1


async def test_a_file_that_comes_while_its_bytes_are_purged_is_kept(
    uploads: Uploads, database: Database, clock: ManualClock
) -> None:
    for round_number in range(10):
        reference = await uploads.keep("u1", b"race", TEXT)
        await uploads.forget("u1", reference)
        clock.advance(3600)
        await asyncio.gather(uploads.purge(), uploads.keep("u2", b"race", TEXT), uploads.purge())
        assert await PostgresBlobs(database).get(reference) == b"race", round_number
        await uploads.forget("u2", reference)
    assert await uploads.purge() in (0, 1)


async def test_hours_that_are_over_are_forgotten(uploads: Uploads, database: Database, clock: ManualClock) -> None:
    await uploads.keep("u1", b"x", TEXT)
    clock.advance(2 * DAY)
    await uploads.purge()
    async with database.connection() as connection:
        assert await connection.fetchval("select count(*) from platform.upload_hour") == 0
