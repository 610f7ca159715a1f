"""Somebody without keys or coin at a terminal of a running economy: an account, runs bought, used and given back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal

import pytest

from tests.economy.conftest import Town
from tests.economy.test_commands import nexus

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]
AGENT = "org.agentnexus.content-summarizer"
TEXT = json.dumps({"text": "The Rance station opened in 1966. It works until today. It has 24 turbines."})


async def told(town: Town, *arguments: str) -> dict[str, object]:
    code, out, err = await nexus(town, *arguments, "--json")
    assert code == 0, out + err
    answer: dict[str, object] = json.loads(out)
    return answer


async def listed(town: Town, *arguments: str) -> Sequence[dict[str, object]]:
    code, out, err = await nexus(town, *arguments, "--json")
    assert code == 0, out + err
    answer: list[dict[str, object]] = json.loads(out)
    return answer


async def usdc(town: Town, address: str) -> Decimal:
    return Decimal(await town.economy.chain.usdc_of(address)) / 10**6


async def test_runs_are_bought_without_gas_one_is_used_and_the_rest_comes_back(town: Town) -> None:
    address = str((await told(town, "wallet", "create"))["address"])
    assert (await told(town, "wallet", "create"))["address"] == address
    assert (await nexus(town, "wallet", "top-up", "1"))[1].startswith(f"{address} holds 1")

    bought = await told(town, "agents", "buy", AGENT, "--runs", "3", "--budget", "0.05", "--key", "morning")
    assert (bought["state"], bought["amount"]) == ("completed", "0.03")
    again = await told(town, "agents", "buy", AGENT, "--runs", "3", "--budget", "0.05", "--key", "morning")
    assert again["id"] == bought["id"]
    assert await usdc(town, address) == Decimal("0.97")
    assert await town.economy.chain.rpc.call("eth_getBalance", address, "latest") == "0x0"

    code, out, _ = await nexus(town, "agents", "execute", AGENT, "--input", TEXT)
    assert code == 0
    assert "Rance" in out
    (right,) = await listed(town, "entitlements")
    assert right["runs_left"] == 2

    code, out, err = await nexus(town, "purchase", "refund", str(bought["id"]))
    assert (code, "back in your wallet" in out) == (0, True), err
    assert await usdc(town, address) == Decimal("0.99")
    code, _, err = await nexus(town, "agents", "execute", AGENT, "--input", TEXT)
    assert code == 1
    assert "buy" in err
    code, out, err = await nexus(town, "ledger", "check")
    assert code == 0, out + err


async def test_what_the_budget_does_not_cover_is_not_bought(town: Town) -> None:
    code, _, err = await nexus(town, "agents", "buy", AGENT, "--runs", "3", "--budget", "0.02")
    assert code == 3
    assert "0.03" in err
