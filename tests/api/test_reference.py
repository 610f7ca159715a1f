"""The page of the HTTP API: every route and field is on it, and it asks nobody else for anything."""

from __future__ import annotations

import re
from enum import StrEnum

from fastapi import FastAPI
from pydantic import BaseModel, Field

from agentnexus.api.reference import reference_page


class Speed(StrEnum):
    SLOW = "slow"
    FAST = "fast"


class Part(BaseModel):
    name: str
    parts: list[Part] = []


class Order(BaseModel):
    wish: str = Field(description="in <b>plain</b> words")
    tags: list[int] = []
    limit: int | str = 5


class Kit(BaseModel):
    parts: list[Part]
    speed: Speed = Speed.SLOW


def drawn() -> str:
    app = FastAPI(title="Shop", description="Sells.")

    @app.post("/orders/{place}", tags=["orders"])
    async def order(place: str, body: Order, quick: bool = False) -> dict[str, str]:
        """Take an order."""
        return {place: f"{body.wish} {quick}"}

    @app.post("/kits", tags=["kits"])
    async def kit(body: Kit) -> None: ...

    @app.get("/plain")
    async def plain() -> None: ...

    return bytes(reference_page(app.openapi()).body).decode()


def test_every_route_and_every_field_is_named() -> None:
    page = drawn()
    for said in ("POST /orders/{place}", "Take an order.", "<h2>orders</h2>", "GET /plain", "<h2>more</h2>"):
        assert said in page
    fields = re.findall(r"<td><code>(\w+)</code>(.*?)<td>(\w+)\s*<td>([^<]*)<td>([^<]*)", page)
    assert fields[:5] == [
        ("place", " (needed)", "path", "text", ""),
        ("quick", "", "query", "boolean", "(default False)"),
        ("wish", " (needed)", "body", "text", "in &lt;b&gt;plain&lt;/b&gt; words"),
        ("tags", "", "body", "list of integer", "(default [])"),
        ("limit", "", "body", "integer or text", "(default 5)"),
    ]


def test_objects_inside_a_body_and_choices_are_told_to_the_end() -> None:
    page = drawn()
    rows = re.findall(r"<td><code>([^<]+)</code>(?: \(needed\))?<td>body\s*<td>([^<]*)<td>", page)
    kits = rows[[name for name, _ in rows].index("parts") :]
    assert [*kits[:4], kits[-1]] == [
        ("parts", "list of object"),
        ("parts[].name", "text"),
        ("parts[].parts", "list of object"),
        ("parts[].parts[].name", "text"),
        ("speed", "one of slow, fast"),
    ]
    assert "Part" not in page


def test_it_reads_without_the_internet_and_runs_nothing() -> None:
    assert not re.search(r"(src|href)=\"?(?!/)", drawn().replace('href="/openapi.json"', ""))
    assert "<script" not in drawn()
    assert "default-src 'none'" in reference_page({}).headers["content-security-policy"]
