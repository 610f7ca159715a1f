"""Calls to Restate: handlers through its ingress, deployments and queries through its admin door."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter

from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.platform.neighbour import NeighbourTransport

Answer = TypeVar("Answer")
CALL_SECONDS = 30.0


class Ingress:
    """``async with Ingress(url, admin_url) as ingress``. All calls raise `Unavailable` when Restate does not answer."""

    def __init__(self, url: str, admin_url: str) -> None:
        self._url = url.rstrip("/")
        self._admin_url = admin_url.rstrip("/")
        self._client = httpx.AsyncClient(transport=NeighbourTransport())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def call(
        self,
        service: str,
        handler: str,
        argument: BaseModel | None,
        answers: TypeAdapter[Answer],
        *,
        key: str | None = None,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Answer:
        """Run a handler to its end."""
        path = f"{service}/{handler}" if key is None else f"{service}/{quote(key, safe='')}/{handler}"
        body = b"" if argument is None else argument.model_dump_json().encode()
        answer = await self._post(f"{self._url}/{path}", body, timeout_seconds)
        return answers.validate_json(answer.content or b"null")

    async def register(self, endpoint_url: str) -> None:
        """Tell Restate where the handlers are; known endpoints are looked at again."""
        body = _Deployment(uri=endpoint_url).model_dump_json().encode()
        await self._post(f"{self._admin_url}/deployments", body, CALL_SECONDS)

    async def entries(self, service: str, entry: str, keys_begin: str, holds: str = "") -> dict[str, str]:
        """One state entry of all objects whose key begins so (and whose value holds a text), by object key."""
        rows = await self._query(
            ("select service_key, value_utf8 from state where service_name = {} and key = {}", service, entry),
            (" and service_key like {} and value_utf8 like {}", f"{keys_begin}%", f"%{holds}%"),
        )
        return {str(row["service_key"]): str(row["value_utf8"]) for row in rows}

    async def open_calls(self, service: str) -> int:
        """How many calls of a service are not done yet."""
        (row,) = await self._query(
            ("select count(*) as calls from sys_invocation_status where target_service_name = {}", service),
            (" and status not in ('completed', 'free')",),
        )
        return int(row["calls"] or 0)

    async def _query(self, *parts: tuple[str, *tuple[str, ...]]) -> Sequence[dict[str, str | int | None]]:
        """Each part is text and the values of its ``{}``, which are quoted: the admin door takes no parameters."""
        sql = "".join(text.format(*(_quoted(value) for value in values)) for text, *values in parts)
        answer = await self._post(
            f"{self._admin_url}/query", _Query(query=sql).model_dump_json().encode(), CALL_SECONDS
        )
        return _ROWS.validate_json(answer.content).rows

    async def _post(self, url: str, body: bytes, timeout_seconds: float) -> httpx.Response:
        headers = {"content-type": "application/json", "accept": "application/json"} if body else {}
        try:
            answer = await self._client.post(url, content=body, headers=headers, timeout=timeout_seconds)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"Restate does not answer: {error}", next_step="check that restate-server runs at NEXUS_RESTATE_URL"
            ) from error
        if answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            raise InvalidInput("too large for Restate's ingress", next_step="keep large values in blobs")
        if answer.is_error:
            raise Unavailable(
                f"Restate answered {answer.status_code}: {answer.text[:300]}", next_step="see the log of restate-server"
            )
        return answer


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


class _Deployment(BaseModel):
    uri: str
    use_http_11: bool = True
    force: bool = True


class _Query(BaseModel):
    query: str


class _Rows(BaseModel):
    rows: list[dict[str, str | int | None]]


_ROWS = TypeAdapter(_Rows)
