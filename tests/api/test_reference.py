"""The page of the HTTP API: every route and field is on it, and it asks nobody else for anything."""

from __future__ import annotations

import re

from fastapi import FastAPI
from pydantic import BaseModel, Field

from agentnexus.api.reference import reference_page


class Order(BaseModel):
    wish: str = Field(description="in <b>plain</b> words")
    tags: list[int] = []
    limit: int | str = 5


def drawn() -> str:
    app = FastAPI(title="Shop", description="Sells.")

    @app.post("/orders/{place}", tags=["orders"])
    async def order(place: str, body: Order, quick: bool = False) -> dict[str, str]:
        """Take an order."""
        return {place: f"{body.wish} {quick}"}

    @app.get("/plain")
    async def plain() -> None: ...

    return bytes(reference_page(app.openapi()).body).decode()


def test_every_route_and_every_field_is_named() -> None:
    page = drawn()
    for said in ("POST /orders/{place}", "Take an order.", "<h2>orders</h2>", "GET /plain", "<h2>more</h2>"):
        assert said in page
    fields = re.findall(r"<td><code>(\w+)</code>(.*?)<td>(\w+)\s*<td>([^<]*)<td>([^<]*)", page)
    assert fields == [
        ("place", " (needed)", "path", "text", ""),
        ("quick", "", "query", "boolean", "(default False)"),
        ("wish", " (needed)", "body", "text", "in &lt;b&gt;plain&lt;/b&gt; words"),
        ("tags", "", "body", "list of integer", "(default [])"),
        ("limit", "", "body", "integer or text", "(default 5)"),
    ]


def test_it_reads_without_the_internet_and_runs_nothing() -> None:
    assert not re.search(r"(src|href)=\"?(?!/)", drawn().replace('href="/openapi.json"', ""))
    assert "<script" not in drawn()
    assert "default-src 'none'" in reference_page({}).headers["content-security-policy"]
