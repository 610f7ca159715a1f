"""Redis as the shared level of the cache (extra ``redis``). Its absence never fails a request."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

from agentnexus.core.errors import Unavailable
from agentnexus.platform.logs import log

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREFIX = "nexus:"
ANSWER_SECONDS = 1.0
T = TypeVar("T")


class RedisLevel:
    """Implements `cache.SecondLevel`: a Redis that does not answer is a miss, logged."""

    def __init__(self, client: Redis) -> None:
        from redis.exceptions import RedisError

        self._client = client
        self._failures = (RedisError, OSError)

    @classmethod
    def connect(cls, url: str) -> RedisLevel:
        """Raises `Unavailable` when the extra is missing."""
        try:
            from redis.asyncio import Redis
        except ImportError as error:
            raise Unavailable(
                "REDIS_URL is set but the Redis client is missing", next_step="install agentnexus[redis]"
            ) from error
        return cls(Redis.from_url(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS))

    async def get(self, key: str) -> bytes | None:
        value = await self._or_none(self._client.get(PREFIX + key))
        return value if isinstance(value, bytes) else None

    async def set(self, key: str, value: bytes, ttl_seconds: float) -> None:
        await self._or_none(self._client.set(PREFIX + key, value, px=max(1, int(ttl_seconds * 1000))))

    async def delete(self, key: str) -> None:
        await self._or_none(self._client.delete(PREFIX + key))

    async def close(self) -> None:
        await self._client.aclose()

    async def _or_none(self, answer: Awaitable[T]) -> T | None:
        try:
            return await answer
        except self._failures as error:
            log.warning("redis.unavailable", error=str(error))
            return None
