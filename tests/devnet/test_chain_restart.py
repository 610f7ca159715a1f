"""A development chain that is stopped or killed goes on as the same chain, and only a wiped one is another."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.rails.evm.encoding import quantity


async def first_block(chain: DevelopmentChain) -> str:
    block = await chain.rpc.call("eth_getBlockByNumber", "0x0", False)
    assert isinstance(block, dict)
    return str(block["hash"])


async def clock_error_seconds(chain: DevelopmentChain) -> float:
    """How far the newest block's time is from now."""
    await chain.mine()
    block = await chain.rpc.call("eth_getBlockByNumber", "latest", False)
    assert isinstance(block, dict)
    return abs(quantity(block["timestamp"]) - time.time())


async def test_it_stays_the_same_chain_however_it_ended(own_chain: DevelopmentChain) -> None:
    first = await first_block(own_chain)
    alice = own_chain.accounts["alice"].address
    await own_chain.mint(alice, 42)
    balance = await own_chain.usdc_of(alice)
    for _ in range(3):
        await own_chain.restart()  # its state is written when it is stopped
        assert await first_block(own_chain) == first
        assert await own_chain.usdc_of(alice) == balance
    await own_chain.kill()
    await own_chain.start()
    assert await first_block(own_chain) == first
    assert await own_chain.usdc_of(alice) == balance
    assert await clock_error_seconds(own_chain) < 60


async def test_a_wiped_state_is_another_chain(
    own_chain: DevelopmentChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await first_block(own_chain)
    await own_chain.stop()
    (tmp_path / "chain.json").unlink()
    later = time.time() + 100
    monkeypatch.setattr("agentnexus.devnet.chain.time.time", lambda: later)
    await own_chain.start()
    assert await first_block(own_chain) != first


async def test_its_end_can_be_waited_for(own_chain: DevelopmentChain) -> None:
    assert own_chain.pid is not None
    await own_chain.kill()
    assert own_chain.pid is None
    await own_chain.ended()
