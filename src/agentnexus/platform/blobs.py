"""Files by content hash in PostgreSQL: what users upload and what jobs make."""

from __future__ import annotations

from agentnexus.core.canonical import bytes_hash
from agentnexus.core.errors import NotFound
from agentnexus.platform.database import Database


class PostgresBlobs:
    """Implements `core.ports.Blobs`. Equal bytes are stored once; a blob never changes, and what is put here lasts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, data: bytes, media_type: str = "application/octet-stream") -> str:
        """Store and return ``sha256:<hex>``; storing again is free."""
        reference = bytes_hash(data)
        async with self._database.connection() as connection:
            await connection.execute(
                "insert into platform.blob as known (reference, media_type, data) values ($1, $2, $3)"
                " on conflict (reference) do update set lasting = true where not known.lasting",
                reference,
                media_type,
                data,
            )
        return reference

    async def get(self, reference: str) -> bytes:
        return (await self.open(reference))[0]

    async def open(self, reference: str) -> tuple[bytes, str]:
        """Bytes and media type; raises `NotFound`."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "select data, media_type from platform.blob where reference = $1", reference
            )
        if row is None:
            raise NotFound(f"no file {reference}", next_step="upload it again")
        return row["data"], row["media_type"]


class MemoryBlobs:
    """The same for tests and programs without a database."""

    def __init__(self) -> None:
        self._data: dict[str, tuple[bytes, str]] = {}

    async def put(self, data: bytes, media_type: str = "application/octet-stream") -> str:
        reference = bytes_hash(data)
        self._data.setdefault(reference, (data, media_type))
        return reference

    async def get(self, reference: str) -> bytes:
        return (await self.open(reference))[0]

    async def open(self, reference: str) -> tuple[bytes, str]:
        if reference not in self._data:
            raise NotFound(f"no file {reference}", next_step="upload it again")
        return self._data[reference]
