"""What users upload: counted against a quota of their own, and forgotten when nobody needs it any more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agentnexus.core.canonical import bytes_hash
from agentnexus.core.errors import LimitExceeded, NotFound, RateLimited
from agentnexus.core.ports import Clock
from agentnexus.platform.database import Connection, Database

MIB = 1024 * 1024
PURGE_BATCH = 500
HOUR = timedelta(hours=1)
# Two uploads of one user never pass the quota together, whatever the processes.
LOCK_USER = "select pg_advisory_xact_lock(hashtextextended('upload:' || $1, 0))"
COUNT = """insert into platform.upload_hour as h (user_id, hour, files) values ($1, $2, 1)
    on conflict (user_id, hour) do update set files = h.files + 1 returning files"""
# The row is locked even where nothing changes: a purge cannot take the blob before its upload is written.
KEEP_BLOB = """insert into platform.blob as known (reference, media_type, data, lasting) values ($1, $2, $3, false)
    on conflict (reference) do update set media_type = known.media_type"""
KEEP_UPLOAD = """insert into platform.upload (user_id, reference, size_bytes, created_at) values ($1, $2, $3, $4)
    on conflict (user_id, reference) do update set created_at = excluded.created_at"""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Per user; times in seconds since a file was uploaded, or since a task last named it."""

    bytes_kept: int = 2048 * MIB
    files_per_hour: int = 2000
    unused_kept: float = 86_400.0
    used_kept: float = 30 * 86_400.0


class Uploads:
    """Uploaded files as blobs, each under the users who sent it."""

    def __init__(self, database: Database, clock: Clock, limits: UploadLimits | None = None) -> None:
        self._database = database
        self._clock = clock
        self._limits = limits or UploadLimits()

    async def keep(self, user_id: str, data: bytes, media_type: str) -> str:
        """Store and return ``sha256:<hex>``; raises `RateLimited` or `LimitExceeded` and keeps nothing then."""
        reference, now = bytes_hash(data), self._clock.now()
        async with self._database.transaction() as connection:
            await connection.execute(LOCK_USER, user_id)
            await self._count(connection, user_id, now)
            kept: int = await connection.fetchval(
                "select coalesce(sum(size_bytes), 0)::bigint from platform.upload"
                " where user_id = $1 and reference <> $2",
                user_id,
                reference,
            )
            if kept + len(data) > self._limits.bytes_kept:
                raise self._full(kept, len(data))
            await connection.execute(KEEP_BLOB, reference, media_type, data)
            await connection.execute(KEEP_UPLOAD, user_id, reference, len(data), now)
        return reference

    async def use(self, user_id: str, references: Sequence[str]) -> None:
        """A task of the user names these files: they are kept for longer."""
        if not references:
            return
        async with self._database.connection() as connection:
            await connection.execute(
                "update platform.upload set used_at = $3 where user_id = $1 and reference = any($2)",
                user_id,
                list(references),
                self._clock.now(),
            )

    async def require(self, user_id: str, references: Sequence[str]) -> None:
        """Raises `NotFound` for a file that the user has not sent: its address alone opens none."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                "select reference from platform.upload where user_id = $1 and reference = any($2)",
                user_id,
                list(references),
            )
        if missing := set(references) - {row["reference"] for row in rows}:
            raise NotFound(
                f"you have uploaded no file {min(missing)[:80]}",
                next_step="send it to POST /files first",
                field="files",
            )

    async def forget(self, user_id: str, reference: str) -> None:
        """Give the space back at once; raises `NotFound`. The bytes go when nobody else has sent them."""
        async with self._database.connection() as connection:
            done = await connection.execute(
                "delete from platform.upload where user_id = $1 and reference = $2", user_id, reference
            )
        if done == "DELETE 0":
            raise NotFound(f"you have uploaded no file {reference[:80]}", next_step="GET /files lists your files")

    async def of(self, user_id: str) -> list[dict[str, object]]:
        """The user's files, newest first: ``blob``, ``size_bytes``, ``created_at``, ``used_at``."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select u.reference as blob, b.media_type, u.size_bytes, u.created_at, u.used_at
                     from platform.upload u join platform.blob b using (reference)
                    where u.user_id = $1 order by u.created_at desc, u.reference""",
                user_id,
            )
        return [
            {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
            for row in rows
        ]

    async def purge(self) -> int:
        """Forget what was not used for its time, then the bytes that nobody needs; returns how many files."""
        now = self._clock.now()
        unused, used = (now - timedelta(seconds=s) for s in (self._limits.unused_kept, self._limits.used_kept))
        async with self._database.connection() as connection:
            await connection.execute(
                "delete from platform.upload where coalesce(used_at, created_at) < $1"
                " and case when used_at is null then created_at < $1 else greatest(used_at, created_at) < $2 end",
                unused,
                used,
            )
            await connection.execute("delete from platform.upload_hour where hour < $1", now - timedelta(days=1))
        gone = 0
        while batch := await self._purge_blobs():
            gone += batch
        return gone

    async def _purge_blobs(self) -> int:
        """One batch. Locked first and looked at again: an upload of the same bytes may have come in between."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                """select reference from platform.blob b where not lasting
                      and not exists (select 1 from platform.upload u where u.reference = b.reference)
                    limit $1 for update skip locked""",
                PURGE_BATCH,
            )
            done = await connection.execute(
                """delete from platform.blob b where reference = any($1) and not lasting
                      and not exists (select 1 from platform.upload u where u.reference = b.reference)""",
                [row["reference"] for row in rows],
            )
        return int(done.rpartition(" ")[2])

    async def _count(self, connection: Connection, user_id: str, now: datetime) -> None:
        hour = now.replace(minute=0, second=0, microsecond=0)
        files: int = await connection.fetchval(COUNT, user_id, hour)
        if files > self._limits.files_per_hour:
            wait = math.ceil((hour + HOUR - now).total_seconds())
            raise RateLimited(
                f"you may upload {self._limits.files_per_hour} files an hour",
                next_step=f"wait {wait} s; a file that you have sent before need not be sent again",
                retry_after_seconds=wait,
            )

    def _full(self, kept: int, size: int) -> LimitExceeded:
        hours, days = self._limits.unused_kept / 3600, self._limits.used_kept / 86_400
        return LimitExceeded(
            f"your files take {kept / MIB:.1f} MiB; {size / MIB:.1f} MiB more would pass"
            f" {self._limits.bytes_kept / MIB:.0f} MiB",
            next_step="delete some (GET /files lists them, DELETE /files/{blob}), or wait: unused files are forgotten"
            f" after {hours:.0f} hours, used ones after {days:.0f} days",
            limit="upload_bytes",
            kept_bytes=kept,
            limit_bytes=self._limits.bytes_kept,
        )
