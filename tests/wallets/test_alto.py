"""Wallets with somebody else's bundler: Alto brings what this node signs and sponsors, as our own does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from bench.peers.alto import alto, installed

from agentnexus.rails.evm.userops import Flavour, RpcBundler
from agentnexus.wallets.model import OperationState, WalletKind
from tests.wallets.conftest import WHOLE, World, fund
from tests.wallets.test_kinds import answer

pytestmark = [
    pytest.mark.peer,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not installed(), reason="bench/peers/alto_package/install installs it"),
]


@pytest.fixture
async def peer(world: World) -> AsyncIterator[RpcBundler]:
    async with alto(world.chain) as rpc:
        yield RpcBundler(rpc, world.chain.rpc, world.chain.chain_id, flavour=Flavour.PIMLICO)


async def test_a_wallet_goes_from_begin_to_mined_by_alto(world: World, peer: RpcBundler) -> None:
    """One process for all of it: it takes a second and a half to start."""
    wallets = world.wallets(bundler=peer)
    wallet = await world.funded("ann")
    for key in ("makes-the-account", "uses-it"):
        begun = await world.begin("ann", world.pay(5), key=key, wallets=wallets)
        assert begun.state is OperationState.SIGNED
        done = await wallets.settle(begun.id)
        assert done.state is OperationState.SUCCEEDED
        assert done.gas_cost_wei
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE - 10
    await fund(world)
    assert await world.reserved() == 0

    await world.funded("pat", WalletKind.PASSKEY)
    begun = await world.begin("pat", world.pay(7), key="passkey", wallets=wallets)
    request = await wallets.signing_request("pat", begun.id)
    await wallets.sign("pat", begun.id, await answer(world, "pat", request))
    assert (await wallets.settle(begun.id)).state is OperationState.SUCCEEDED
    world.clock.advance(60)
    await wallets.keep_once()
    assert (await wallets.operation(begun.id)).state is OperationState.SUCCEEDED
