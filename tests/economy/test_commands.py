"""The commands of a person at a terminal, on a running economy, also while parts of it are away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentnexus.platform.process import wait_until_ready
from tests.economy.conftest import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")
ARTICLE = ("--file", "examples/tides-article.html")
SUMMARISE = ("task", "Summarise this article", *ARTICLE, "--budget", "0.10")


async def start(town: Town, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentnexus.cli", *arguments,
        env={**os.environ, "NEXUS_HOME": str(town.economy.home)}, stdin=PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip


async def nexus(town: Town, *arguments: str, typed: str = "") -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    process = await start(town, *arguments)
    async with asyncio.timeout(150):
        out, err = await process.communicate(typed.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def frozen(pid: int | None) -> AsyncIterator[None]:
    """A part that has stopped answering but not ended."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def role(town: Town, name: str) -> int | None:
    return next(child for child in town.economy.children if child.name == name).pid


async def completed(town: Town) -> dict[str, object]:
    code, out, err = await nexus(town, *SUMMARISE, "--yes", "--json")
    assert code == 0, out + err
    state: dict[str, object] = json.loads(out)
    assert state["status"] == "completed", state
    return state


async def test_a_task_is_run_only_after_a_yes(town: Town) -> None:
    code, out, _ = await nexus(town, *SUMMARISE, typed="y\n")
    assert code == 0
    assert out.index("expected cost 0.01 USDC") < out.index("run it?") < out.index("completed")
    assert "paid in all: 0.01 USDC" in out
    for typed in ("n\n", ""):
        code, out, _ = await nexus(town, *SUMMARISE, typed=typed)
        assert code == 1
        assert "cancelled" in out
        assert "paid in all: 0.00 USDC" in out


async def test_ctrl_c_cancels_the_task_and_buys_nothing_more(town: Town) -> None:
    process = await start(town, *SUMMARISE)
    assert process.stdout is not None
    shown = b""
    async with asyncio.timeout(60):
        while b"run it?" not in shown:
            shown += await process.stdout.read(1000)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 1, err
    newest = (await town.call("GET", "/users/local/workflows", params={"limit": 1})).json()["workflows"][0]
    state = await town.ended(newest["id"])
    assert state["status"] == "cancelled"
    assert not state["receipts"]


async def test_agents_are_listed_shown_and_run(town: Town) -> None:
    code, out, _ = await nexus(town, "agents", "list")
    assert code == 0
    assert "org.agentnexus.pdf-extractor" in out and "USDC" in out
    assert "no agent matches" in (await nexus(town, "agents", "list", "xyzzyq"))[1]
    listed = json.loads((await nexus(town, "agents", "list", "--json"))[1])
    assert {agent["capability"] for agent in listed} >= {"pdf.extract", "text.summarize"}
    code, out, _ = await nexus(town, "agents", "show", "org.agentnexus.content-summarizer", "--json")
    assert json.loads(out)["id"] == "org.agentnexus.content-summarizer"
    code, _, err = await nexus(town, "agents", "show", "org.nobody")
    assert code == 1
    assert "org.nobody" in err and "what to do" in err
    text = json.dumps({"text": "The Moon causes the tides. The Sun adds a little. " * 3})
    arguments = ("agents", "run", "org.agentnexus.content-summarizer", "--input", text, "--max-price", "0.02")
    code, out, err = await nexus(town, *arguments)
    assert code == 0, err
    assert "The Moon causes the tides." in out and "settled" in out
    hired = json.loads((await nexus(town, *arguments, "--json"))[1])
    (listing,) = [agent for agent in listed if agent["id"] == "org.agentnexus.content-summarizer"]
    assert hired["receipt"]["offer"]["seller"]["ids"]["evm"] == listing["x402"]["accepts"][0]["payTo"].lower()


async def test_a_hire_pinned_to_an_offer_that_is_gone_takes_no_other(town: Town) -> None:
    text = {"text": "The Moon causes the tides. The Sun adds a little. " * 3}
    body = {"need": "text.summarize", "input": text, "max_price": "0.02", "endpoint": f"{town.economy.urls['api']}/x"}
    answer = await town.call("POST", "/api/v1/hire", json=body)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "no_offer"


async def test_offers_say_price_and_reasons(town: Town) -> None:
    code, out, _ = await nexus(town, "offers", "pdf.extract")
    assert code == 0
    assert "PDF extractor  0.02 USDC" in out
    assert "costs at most" in out
    code, out, _ = await nexus(town, "offers", "no.such.capability")
    assert code == 0
    assert "nobody sells" in out


async def test_receipts_are_checked_and_a_changed_one_is_found(town: Town, tmp_path: Path) -> None:
    state = await completed(town)
    path = tmp_path / "task.json"
    path.write_text(json.dumps(state))
    verify = ("receipt", "verify", str(path))
    rpc = ("--rpc", town.economy.chain.rpc_url)
    assert (await nexus(town, *verify, *rpc))[0] == 0
    assert (await nexus(town, *verify, "--rpc", "http://127.0.0.1:1"))[0] == 1
    receipts: list[dict[str, object]] = state["receipts"]  # type: ignore[assignment]  # JSON
    path.write_text(json.dumps({"receipt": receipts[0], "output": {}}))  # as `nexus hire --json` prints it
    assert (await nexus(town, *verify, *rpc))[0] == 0
    receipts[0]["payments"][0]["amount"] = "1"  # type: ignore[index]  # JSON
    path.write_text(json.dumps(state))
    code, out, _ = await nexus(town, *verify, *rpc, "--json")
    assert code == 1
    assert json.loads(out)[0]["valid"] is False


async def test_a_statement_of_the_wallet_ends_at_its_balance(town: Town) -> None:
    wallet = json.loads((await nexus(town, "wallet", "--json"))[1])
    account = f"wallet:{wallet['network']}:{wallet['address']}"
    code, out, _ = await nexus(town, "ledger", "statement", account, "--format", "json")
    assert code == 0
    assert json.loads(out)["lines"]
    code, _, err = await nexus(town, "ledger", "statement", "wallet:nowhere")
    assert code == 1
    assert "no account" in err


async def test_with_the_registry_away_the_own_catalogue_still_sells(town: Town) -> None:
    async with frozen(role(town, "registry")):
        state = await completed(town)
        health = (await town.call("GET", "/health/deep")).json()
    assert health["status"] == "degraded"
    assert {name for name, check in health["checks"].items() if check["status"] != "healthy"} == {"registry"}
    assert state["cost"]["atomic"] == "10000"  # type: ignore[index, call-overload]  # JSON


async def test_a_facilitator_that_dies_is_waited_for(town: Town) -> None:
    pid = role(town, "facilitator")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await completed(town)


async def test_an_api_that_dies_under_a_task_is_reconnected_to(town: Town) -> None:
    process = await start(town, *SUMMARISE)
    assert process.stdin is not None and process.stdout is not None
    shown = b""
    async with asyncio.timeout(120):
        while b"run it?" not in shown:
            shown += await process.stdout.read(1000)
        pid = role(town, "api")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        process.stdin.write(b"y\n")
        out, err = await process.communicate()
    assert process.returncode == 0, out + err
    assert b"completed" in out
    await _api_is_back(town)


async def test_a_chain_that_stands_still_delays_a_task_and_loses_nothing(town: Town) -> None:
    async with frozen(town.economy.chain.pid):
        process = await start(town, *SUMMARISE, "--yes", "--json")
        await _asked_to_pay(town)
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    state = json.loads(out)
    paid = [payment for receipt in state["receipts"] for payment in receipt["payments"]]
    assert (state["status"] == "completed") == any(payment["state"] == "confirmed" for payment in paid), err
    code, out, _ = await nexus(town, "ledger", "check", "--json")
    assert code == 0, out


async def _api_is_back(town: Town) -> None:
    assert (await town.call("GET", "/ready")).status_code == 200


async def _asked_to_pay(town: Town) -> None:
    """Until the newest workflow has a step under way."""

    async def under_way() -> bool:
        newest = (await town.call("GET", "/users/local/workflows", params={"limit": 1})).json()["workflows"][0]
        state = (await town.call("GET", f"/workflows/{newest['id']}/task")).json()
        return any(step["status"] == "running" for step in state["steps"])

    await wait_until_ready(under_way, what="a step under way", timeout_seconds=60)


async def test_a_seller_is_rated_at_the_registry_with_the_payment_as_proof(town: Town) -> None:
    text = json.dumps({"text": "The Moon causes the tides. The Sun adds a little. " * 3})
    code, out, err = await nexus(
        town, "hire", "text.summarize", "--input", text, "--max-price", "0.02", "--policy", "best", "--json"
    )
    assert code == 0, err
    receipt = json.loads(out)["receipt"]
    code, out, err = await nexus(town, "receipt", "rate", receipt["id"], "--stars", "5", "--comment", "to the point")
    assert code == 0, err
    assert out == f"5 of 5 for {receipt['id']}, at the registry as well\n"
    code, out, err = await nexus(town, "receipt", "rate", receipt["id"], "--stars", "4")
    assert code == 0, err
    assert "4 of 5" in out and "not at the registry: " in out and "has been rated" in out
    registry, seller = town.economy.urls["registry"], receipt["offer"]["seller"]["ids"]["evm"]
    listed = (await town.client.get(f"{registry}/services/owner/{seller}")).json()
    assert [entry["totalRatings"] for entry in listed if entry["url"] == receipt["offer"]["endpoint"]] == [1]


async def test_a_blocked_seller_is_on_nobodys_list_of_offers_until_it_is_cleared(town: Town) -> None:
    (first, *_) = json.loads((await nexus(town, "offers", "pdf.extract", "--json"))[1])
    seller = first["seller"]
    assert "is never hired" in (await nexus(town, "prefer", seller, "--block"))[1]
    assert seller in (await nexus(town, "prefer"))[1]
    assert seller not in (await nexus(town, "offers", "pdf.extract"))[1]
    assert "on none of your lists" in (await nexus(town, "prefer", seller, "--clear"))[1]
    assert seller in (await nexus(town, "offers", "pdf.extract", "--market", first["offer"]["market"]))[1]
