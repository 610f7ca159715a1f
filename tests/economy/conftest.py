"""A whole economy for the tests of this folder: real processes, real chain, its own home."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from agentnexus.devnet.economy import Economy, Plan, run_economy, write_description

ENDED = {"completed", "failed", "cancelled"}


@dataclass
class Town:
    """An economy and a client of its API that waits for a killed API to come back."""

    economy: Economy
    client: httpx.AsyncClient

    async def call(self, method: str, path: str, **kwargs: object) -> httpx.Response:
        async with asyncio.timeout(120):
            while True:
                try:
                    answer = await self.client.request(method, path, **kwargs)  # type: ignore[arg-type]  # passed on
                except httpx.TransportError:
                    await asyncio.sleep(0.1)  # the API is being restarted; there is nothing else to wait on
                    continue
                return answer

    async def upload(self, path: Path, media_type: str) -> dict[str, object]:
        answer = await self.call("POST", "/files", files={"file": (path.name, path.read_bytes(), media_type)})
        assert answer.status_code == 201, answer.text
        reference: dict[str, object] = answer.json()["file"]
        return reference

    async def create(self, text: str, *, key: str = "", budget: str = "0.20", **body: object) -> str:
        answer = await self.call(
            "POST",
            "/workflows/create",
            json={"input": text, "maxCost": budget, "autoApprove": True, **body},
            headers={"Idempotency-Key": key} if key else {},
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["workflow"]["id"])

    async def ended(self, workflow: str, timeout_seconds: float = 150) -> dict[str, object]:
        return await self.until(workflow, ENDED, timeout_seconds)

    async def until(self, workflow: str, statuses: set[str], timeout_seconds: float = 150) -> dict[str, object]:
        async with asyncio.timeout(timeout_seconds):
            while True:
                state: dict[str, object] = (await self.call("GET", f"/workflows/{workflow}/task")).json()
                if state.get("status") in statuses:
                    return state
                await asyncio.sleep(0.2)  # polls another process through its public API

    async def run(self, text: str, **body: object) -> dict[str, object]:
        return await self.ended(await self.create(text, **body))  # type: ignore[arg-type]  # passed on


@pytest.fixture(scope="session")
def economy_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path("/tmp") / f"nexus-town-{tmp_path_factory.getbasetemp().name}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def town(economy_home: Path) -> AsyncIterator[Town]:
    shutil.rmtree(economy_home, ignore_errors=True)
    plan = Plan(
        home=economy_home,
        workers=2,
        fixed_ports=False,
        environment={"NEXUS_REQUESTS_PER_MINUTE": "1000000", "NEXUS_LOG_LEVEL": "WARNING"},
    )
    async with run_economy(plan) as economy:
        write_description(economy, economy_home / "devnet.json")
        headers = {"Authorization": f"Bearer {economy.token}"}
        async with httpx.AsyncClient(base_url=economy.urls["api"], headers=headers, timeout=60) as client:
            yield Town(economy, client)
    shutil.rmtree(economy_home, ignore_errors=True)
