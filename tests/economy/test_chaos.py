"""kill -9 of workers, API and facilitator at random moments while a hundred workflows run."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from agentnexus.rails.evm.encoding import topic
from tests.economy.conftest import Town

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.chaos, pytest.mark.timeout(900)]
WORKFLOWS = 100
SEED = 20_261_120
TEXTS = (
    "The Moon causes the tides of the oceans. The Sun adds to them. Spring tides come at new and full moon. {n}.",
    "Solar power grew fast in 2023. Wind power passed one thousand gigawatts. Hydropower gave most electricity. {n}.",
)
BOTH = "Summarise the note and analyse the table"
TABLE = b"region,sales\nnorth,12\nsouth,17\neast,9\n"


async def test_every_workflow_ends_and_no_step_is_paid_twice(town: Town) -> None:
    random_moments = random.Random(SEED)
    first_block = await town.economy.chain.rpc.read_int("eth_blockNumber")
    stop = asyncio.Event()
    killer = asyncio.create_task(_kill_at_random(town, random_moments, stop))
    workflows = await _create_all(town)
    states = [await town.ended(workflow, 600) for workflow in workflows]
    stop.set()
    kills = await killer

    assert {name.split("-")[0] for name in kills} >= {"worker", "api", "facilitator"}, kills
    outcomes = Counter(str(state["status"]) for state in states)
    assert set(outcomes) <= {"completed", "failed"}, outcomes
    assert outcomes["completed"] >= WORKFLOWS * 3 // 4, outcomes
    paid = [payment for state in states for payment in _confirmed(state)]
    assert sum(len(_steps(state)) for state in states) > WORKFLOWS  # some have steps side by side
    assert len({payment["transaction"] for payment in paid}) == len(paid)
    for state in states:
        planned = Counter(str(step["capability"]) for step in _steps(state))
        assert _paid_for(state) <= planned, _story(state)
        assert (state["status"] == "completed") == (_paid_for(state) == planned), _story(state)
    assert await _authorizations_used(town, first_block) == len(paid)
    await _books_balance(town)


async def _create_all(town: Town) -> list[str]:
    async def upload(name: str, media_type: str, data: bytes) -> object:
        answer = await town.call("POST", "/files", files={"file": (name, data, media_type)})
        return answer.json()["file"]

    async def one(number: int) -> str:
        """Every fourth has steps side by side: what was paid for one must outlive whatever happens to the other."""
        text = TEXTS[number % len(TEXTS)].format(n=number).encode()
        files = [await upload(f"note-{number}.txt", "text/plain", text)]
        if number % 4 == 0:
            files.append(await upload(f"sales-{number}.csv", "text/csv", TABLE))
            return await town.create(BOTH, key=f"chaos-{number}", files=files)
        return await town.create("Summarise this text", key=f"chaos-{number}", files=files)

    made: list[str] = []
    for number in range(WORKFLOWS):
        made.append(await one(number))
        await asyncio.sleep(0.05)  # spreads the arrivals over the kills; nothing is asserted about it
    return made


async def _kill_at_random(town: Town, random_moments: random.Random, stop: asyncio.Event) -> list[str]:
    killed: list[str] = []
    first = ["worker", "api", "facilitator"]  # each of them at least once; then as chance has it
    while not stop.is_set() and len(killed) < 25:
        try:
            async with asyncio.timeout(random_moments.uniform(0.5, 3.0)):
                await stop.wait()
        except TimeoutError:
            kind = first[len(killed)] if len(killed) < len(first) else ""
            mortal = [c for c in town.economy.children if c.name != "registry" and c.name.startswith(kind)]
            victim = random_moments.choice(mortal)
            if victim.pid is not None:
                os.kill(victim.pid, signal.SIGKILL)
                killed.append(victim.name)
    return killed


def _story(state: dict[str, object]) -> str:
    """Every attempt with its error and payments: what to read when a step was paid more than once."""
    receipts: list[dict[str, object]] = state["receipts"]  # type: ignore[assignment]  # JSON
    names = ("job_id", "status", "started_at", "finished_at", "error", "payments")
    return json.dumps([{name: receipt[name] for name in names} for receipt in receipts], indent=1)


def _confirmed(state: dict[str, object]) -> list[dict[str, object]]:
    receipts: list[dict[str, list[dict[str, object]]]] = state["receipts"]  # type: ignore[assignment]  # JSON
    return [payment for receipt in receipts for payment in receipt["payments"] if payment["state"] == "confirmed"]


def _paid_for(state: dict[str, object]) -> Counter[str]:
    """How often each capability was paid for."""
    receipts: list[Any] = state["receipts"]  # type: ignore[assignment]  # JSON
    return Counter(
        str(receipt["offer"]["capability"]["name"])
        for receipt in receipts
        for payment in receipt["payments"]
        if payment["state"] == "confirmed"
    )


def _steps(state: dict[str, object]) -> list[dict[str, object]]:
    plan: dict[str, list[dict[str, object]]] = state["plan"] or {"steps": []}  # type: ignore[assignment]  # JSON
    return plan["steps"]


async def _authorizations_used(town: Town, first_block: int) -> int:
    """Payments that left the buyer's wallet since then, by the token's own events."""
    chain = town.economy.chain
    buyer = chain.accounts["buyer"].address
    logs = await chain.rpc.call(
        "eth_getLogs",
        {
            "fromBlock": hex(first_block + 1),
            "toBlock": "latest",
            "address": chain.usdc.reference,
            "topics": [topic("AuthorizationUsed(address,bytes32)"), "0x" + "0" * 24 + buyer[2:]],
        },
    )
    assert isinstance(logs, list)
    return len(logs)


async def _books_balance(town: Town) -> None:
    def check() -> dict[str, object]:
        done = subprocess.run(
            [sys.executable, "-m", "agentnexus.cli", "ledger", "check", "--json"],
            env={**os.environ, "NEXUS_HOME": str(town.economy.home)},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        report: dict[str, object] = json.loads(done.stdout)
        return report

    async with asyncio.timeout(120):
        # Holds of failed hires are finished by repair some seconds later: until then they are "on their way".
        while True:
            report = await asyncio.to_thread(check)
            wallets: list[str] = report["wallets"]  # type: ignore[assignment]  # JSON
            if report["good"] and all("agrees" in line for line in wallets):
                return
            assert report["good"], report
            await asyncio.sleep(1)
