"""The development chain: deterministic, quick to start, keeps its state, and goes away with its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from agentnexus.core.errors import Unavailable
from agentnexus.devnet import chain as chain_module
from agentnexus.devnet.accounts import ACCOUNT_NAMES, development_accounts
from agentnexus.devnet.chain import START_BALANCE_USDC, DevelopmentChain, find_anvil, usdc_address
from agentnexus.platform.process import wait_until_ready
from agentnexus.rails.evm.encoding import selector, string


async def test_named_accounts_hold_ether_and_usdc(chain: DevelopmentChain) -> None:
    for name in ("buyer", "seller-1", "alice"):
        assert await chain.usdc_of(chain.accounts[name].address) == START_BALANCE_USDC
    assert await chain.usdc_of(chain.accounts["outsider"].address) == 0
    for account in chain.accounts.values():
        assert await chain.rpc.read_int("eth_getBalance", account.address, "latest") > 10**18


async def test_usdc_is_where_every_development_chain_has_it(chain: DevelopmentChain) -> None:
    name = await chain.rpc.read_contract(usdc_address(), selector("name()"))
    version = await chain.rpc.read_contract(usdc_address(), selector("version()"))
    assert (string(name), string(version)) == ("USD Coin", "2")
    assert chain.usdc.caip19 == f"eip155:31337/erc20:{usdc_address()}"


async def test_each_test_gets_the_chain_as_new(chain: DevelopmentChain) -> None:
    buyer = chain.accounts["buyer"].address
    await chain.mint(buyer, 5)
    assert await chain.usdc_of(buyer) == START_BALANCE_USDC + 5
    snapshot = await chain.snapshot()
    await chain.mint(buyer, 7)
    await chain.revert(snapshot)
    assert await chain.usdc_of(buyer) == START_BALANCE_USDC + 5


async def test_a_restart_with_a_state_file_goes_on_with_the_same_chain(own_chain: DevelopmentChain) -> None:
    buyer = own_chain.accounts["buyer"].address
    await own_chain.mint(buyer, 1)
    genesis = await own_chain.rpc.call("eth_getBlockByNumber", "0x0", False)
    await own_chain.restart()
    assert await own_chain.usdc_of(buyer) == START_BALANCE_USDC + 1
    again = await own_chain.rpc.call("eth_getBlockByNumber", "0x0", False)
    assert isinstance(genesis, dict)
    assert isinstance(again, dict)
    assert genesis["hash"] == again["hash"]


async def test_a_killed_chain_is_gone_until_started_again(own_chain: DevelopmentChain) -> None:
    await own_chain.kill()
    with pytest.raises(Unavailable, match="no connection"):
        await own_chain.rpc.chain_id()
    await own_chain.start()
    assert await own_chain.rpc.chain_id() == own_chain.chain_id


async def test_a_port_in_use_is_reported_instead_of_waited_for(chain: DevelopmentChain) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    second = DevelopmentChain(port=port)
    async with server:
        with pytest.raises(Unavailable, match="ended at once"):
            await second.start()
    await second.stop()
    await second.rpc.close()


async def test_the_chain_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import asyncio\n"
        "from agentnexus.devnet.chain import DevelopmentChain\n"
        "async def main():\n"
        "    chain = DevelopmentChain()\n"
        "    await chain.start()\n"
        "    print(chain.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    anvil = int((await asyncio.to_thread(parent.stdout.readline)).strip())
    assert psutil.pid_exists(anvil)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()

    async def gone() -> bool:
        return not psutil.pid_exists(anvil) or psutil.Process(anvil).status() == psutil.STATUS_ZOMBIE

    await wait_until_ready(gone, what="the end of anvil", timeout_seconds=20)


def test_a_missing_anvil_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NEXUS_ANVIL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chain_module, "__file__", str(tmp_path / "devnet" / "chain.py"))
    with pytest.raises(Unavailable) as caught:
        find_anvil()
    assert "npm ci" in caught.value.next_step


def test_development_accounts_are_the_ones_every_tool_derives() -> None:
    accounts = development_accounts()
    assert tuple(accounts) == ACCOUNT_NAMES
    assert accounts["deployer"].checksum_address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert accounts["relayer"].checksum_address == "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    assert accounts["buyer"].private_key not in repr(accounts["buyer"])


async def test_a_web_page_of_another_site_may_not_command_the_chain(chain: DevelopmentChain) -> None:
    """A browser asks first whether it may send JSON elsewhere, and heeds the missing yes."""
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    call = b'{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}'
    async with httpx.AsyncClient() as http:
        preflight = await http.options(
            chain.rpc_url, headers=asked | {"Access-Control-Request-Headers": "content-type"}
        )
        plain = await http.post(chain.rpc_url, content=call, headers={"Content-Type": "text/plain"})
    assert "access-control-allow-origin" not in preflight.headers
    assert "result" not in plain.json()
