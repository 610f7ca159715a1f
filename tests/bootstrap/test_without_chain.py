"""The API while its chain is frozen or away: it starts, says what is missing, and sells once the chain is back."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from agentnexus.bootstrap.authoring import make_agent
from agentnexus.bootstrap.ground import open_chain, open_ground
from agentnexus.core.errors import Unavailable
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.devnet.economy import SELLERS
from agentnexus.platform.process import free_port, wait_until_ready
from agentnexus.platform.settings import Settings
from agentnexus.rails.evm.checked import CheckedRpc
from agentnexus.rails.evm.errors import ChainUnavailable, WrongNetwork
from agentnexus.rails.evm.networks import network_by_id

AGENT = "org.example.counter"
PATIENCE_SECONDS = 60


def variables(chain: DevelopmentChain, database_url: str, home: Path, port: int) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("NEXUS_", "DATABASE_URL"))}
    return clean | {
        "NEXUS_HOME": str(home),
        "NEXUS_DATABASE_URL": database_url,
        "NEXUS_EVM_RPC_URL": chain.rpc_url,
        "NEXUS_USDC_ADDRESS": chain.usdc.reference,
        "NEXUS_BUYER_KEY": chain.accounts["buyer"].private_key,
        "NEXUS_RELAYER_KEY": chain.accounts["relayer"].private_key,
        "NEXUS_SELLER_KEYS": ",".join(chain.accounts[name].private_key for name in SELLERS),
        "NEXUS_FACILITATOR_URL": "http://127.0.0.1:1",
        "NEXUS_REGISTRY_URL": "http://127.0.0.1:1",
        "NEXUS_API_URL": f"http://127.0.0.1:{port}",
        "NEXUS_AGENTS_DIR": str(home / "agents"),
        "NEXUS_UNSAFE_LOCAL": "1",
    }


@asynccontextmanager
async def serving(chain: DevelopmentChain, database_url: str, home: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A `nexus serve` of its own, as soon as it answers."""
    port = free_port()
    if not (home / "agents").exists():
        make_agent(home / "agents" / "counter")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentnexus.cli", "serve", "--port", str(port),
        env=variables(chain, database_url, home, port), stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL,
    )  # fmt: skip
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:

            async def answers() -> bool:
                assert process.returncode is None, "it ended"
                try:
                    return (await http.get("/health")).status_code == 200
                except httpx.TransportError:
                    return False

            await wait_until_ready(answers, what="nexus serve", timeout_seconds=PATIENCE_SECONDS)
            yield http
    finally:
        process.terminate()
        await process.wait()


async def chain_state(http: httpx.AsyncClient) -> tuple[str, str]:
    """(of the whole node, of its chain)."""
    report = (await http.get("/health/deep")).json()
    return report["status"], report["checks"]["chain"]["status"]


async def offered(http: httpx.AsyncClient) -> int:
    """The status of an unpaid call to the agent: 402 when it is on sale."""
    return (await http.post(f"/x402/agents/{AGENT}", json={"text": "a b"})).status_code


async def until_sold(http: httpx.AsyncClient) -> None:
    async def sold() -> bool:
        return await offered(http) == 402

    await wait_until_ready(sold, what="the agent's price", timeout_seconds=PATIENCE_SECONDS)


async def test_it_starts_degraded_on_a_frozen_chain_and_heals_when_the_chain_goes_on(
    own_chain: DevelopmentChain, database_url: str, tmp_path: Path
) -> None:
    assert own_chain.pid is not None
    os.kill(own_chain.pid, signal.SIGSTOP)
    try:
        async with serving(own_chain, database_url, tmp_path) as http:
            assert (await http.get("/ready")).status_code == 200
            assert await chain_state(http) == ("degraded", "unhealthy")
            assert await offered(http) != 402  # it has never been told what money is here
            os.kill(own_chain.pid, signal.SIGCONT)
            await until_sold(http)
            assert (await chain_state(http))[1] == "healthy"
    finally:
        os.kill(own_chain.pid, signal.SIGCONT)


async def test_what_was_on_sale_before_is_offered_while_the_chain_is_away(
    own_chain: DevelopmentChain, database_url: str, tmp_path: Path
) -> None:
    async with serving(own_chain, database_url, tmp_path) as http:
        await until_sold(http)
    await own_chain.kill()
    async with serving(own_chain, database_url, tmp_path) as http:
        assert await offered(http) == 402
        assert await chain_state(http) == ("degraded", "unhealthy")
        await own_chain.start()

        async def healthy() -> bool:
            return (await chain_state(http))[1] == "healthy"

        await wait_until_ready(healthy, what="the chain's health", timeout_seconds=PATIENCE_SECONDS)


async def test_a_chain_that_is_needed_is_still_an_error_at_the_start(
    chain: DevelopmentChain, database_url: str
) -> None:
    settings = Settings.model_validate(
        {"database_url": database_url, "evm_rpc_url": "http://127.0.0.1:1", "usdc_address": chain.usdc.reference}
    )
    async with open_ground(settings) as ground:
        with pytest.raises(Unavailable):
            async with open_chain(ground):
                pytest.fail("opened")
        async with open_chain(ground, required=False) as opened:
            with pytest.raises(ChainUnavailable):
                await opened.sender.fees()


async def test_a_node_that_comes_later_and_is_on_another_chain_is_asked_nothing(chain: DevelopmentChain) -> None:
    async with CheckedRpc(chain.rpc_url, network_by_id(8453)) as rpc:
        for _ in range(2):
            with pytest.raises(WrongNetwork, match="not 8453"):
                await rpc.call("eth_blockNumber")


async def test_the_check_is_made_once_for_all_who_ask_at_once(chain: DevelopmentChain) -> None:
    async with CheckedRpc(chain.rpc_url, chain.network) as rpc:
        assert len(set(await asyncio.gather(*(rpc.chain_id() for _ in range(5))))) == 1
        await rpc.check()
