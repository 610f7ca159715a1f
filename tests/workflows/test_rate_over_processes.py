"""A hundred requests a minute are a hundred however many processes serve them, over HTTP and at the default setting."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest

from agentnexus.core.clock import SystemEntropy
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Database

from .test_chaos import ROOT

RATE, ASKED = 100, 160


@pytest.fixture
async def addresses(database_url: str) -> AsyncIterator[list[str]]:
    """Where two processes answer."""
    processes: list[Process] = []
    try:
        for _ in range(2):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.workflows.api_process", database_url, cwd=ROOT, stdout=PIPE,
            )  # fmt: skip
            processes.append(process)
        found = []
        for process in processes:
            assert process.stdout is not None
            found.append((await process.stdout.readline()).decode().strip())
        yield found
    finally:
        for process in processes:
            process.kill()
            await process.communicate()


async def test_two_processes_let_a_hundred_requests_through_and_tell_the_rest_when_to_come_back(
    database: Database, addresses: list[str]
) -> None:
    assert all(address.startswith("http://") for address in addresses)
    tokens = Tokens(database, SystemEntropy())
    async with AsyncExitStack() as stack:

        async def client(address: str, user: str) -> httpx.AsyncClient:
            headers = {"Authorization": f"Bearer {await tokens.issue(user)}"}
            return await stack.enter_async_context(httpx.AsyncClient(base_url=address, headers=headers, timeout=50))

        eve = [await client(address, "eve") for address in addresses]
        ann = [await client(address, "ann") for address in addresses]
        async with asyncio.timeout(50):  # within the minute that counts: else more than a hundred would be right
            answers = await asyncio.gather(
                *(eve[number % 2].get("/users/eve/workflows") for number in range(ASKED)),
                *(each.get("/users/ann/workflows") for each in ann),
            )
        of_eve, of_ann = answers[:ASKED], answers[ASKED:]
        assert Counter(answer.status_code for answer in of_eve) == {200: RATE, 429: ASKED - RATE}
        assert {answer.status_code for answer in of_ann} == {200}  # one caller's flood is nobody else's
        for refused in (answer for answer in of_eve if answer.status_code == 429):
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
            assert refused.json()["code"] == "rate_limited"
            assert refused.json()["next_step"]
        by_process = [Counter(a.status_code for a in of_eve[first::2]) for first in (0, 1)]
        assert all(each[200] for each in by_process)  # both served some
