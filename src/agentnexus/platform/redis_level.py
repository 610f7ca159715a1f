"""Redis as the shared level of the cache (extra ``redis``). Its absence never fails a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentnexus.core.errors import Unavailable
from agentnexus.platform.logs import log

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREFIX = "nexus:"


class RedisLevel:
    """Implements `cache.SecondLevel`."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    @classmethod
    def connect(cls, url: str) -> RedisLevel:
        """Raises `Unavailable` when the extra is missing."""
        try:
            from redis.asyncio import Redis
        except ImportError as error:
            raise Unavailable(
                "REDIS_URL is set but the Redis client is missing", next_step="install agentnexus[redis]"
            ) from error
        return cls(Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1))

    async def get(self, key: str) -> bytes | None:
        from redis.exceptions import RedisError

        try:
            value = await self._client.get(PREFIX + key)
        except (RedisError, OSError) as error:
            log.warning("redis.unavailable", error=str(error))
            return None
        return value if isinstance(value, bytes) else None

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        from redis.exceptions import RedisError

        try:
            await self._client.set(PREFIX + key, value, px=int(ttl_seconds * 1000))
        except (RedisError, OSError) as error:
            log.warning("redis.unavailable", error=str(error))

    async def delete(self, key: str) -> None:
        await self._client.delete(PREFIX + key)

    async def close(self) -> None:
        await self._client.aclose()
