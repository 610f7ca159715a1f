"""What operators can plot: operations by kind, gas and state, how long they took, and what is promised for gas."""

from __future__ import annotations

import asyncio

import pytest

from agentnexus.platform.telemetry import REGISTRY
from agentnexus.wallets.model import GasPayer, WalletKind
from tests.wallets.conftest import World, fund
from tests.wallets.test_kinds import answer

pytestmark = pytest.mark.timeout(120)


def counted(world: World, kind: WalletKind, state: str, gas: GasPayer = GasPayer.SPONSOR) -> float:
    labels = {"network": world.chain.network.caip2, "kind": str(kind), "gas": str(gas), "state": state}
    return REGISTRY.get_sample_value("agentnexus_wallet_operations_total", labels) or 0.0


def timed(world: World) -> float:
    labels = {"network": world.chain.network.caip2, "gas": "sponsor"}
    return REGISTRY.get_sample_value("agentnexus_wallet_mined_seconds_count", labels) or 0.0


async def test_every_operation_is_counted_once_in_each_state_it_comes_to(world: World) -> None:
    states = ("unsigned", "signed", "succeeded", "rejected")
    before = {state: counted(world, WalletKind.SERVER, state) for state in states}
    took = timed(world)
    await world.funded("ann")
    wallets, others = world.wallets(), world.wallets()
    await asyncio.gather(*(world.begin("ann", wallets=each) for each in (wallets, others, wallets)))
    begun = await world.begin("ann", wallets=wallets)
    await asyncio.gather(wallets.settle(begun.id), others.settle(begun.id))
    world.clock.advance(60)
    await wallets.keep_once()
    now = {state: counted(world, WalletKind.SERVER, state) - before[state] for state in states}
    assert now == {"unsigned": 1, "signed": 1, "succeeded": 1, "rejected": 0}
    assert timed(world) == took + 1


async def test_what_is_discarded_or_comes_too_late_is_counted_as_rejected(world: World) -> None:
    before = counted(world, WalletKind.PASSKEY, "rejected")
    await world.funded("ann", WalletKind.PASSKEY)
    wallets = world.wallets()
    gone = await world.begin("ann", key="gone", wallets=wallets)
    await wallets.discard("ann", gone.id)
    await wallets.discard("ann", gone.id)
    await world.begin("ann", key="late", wallets=wallets)
    world.clock.advance(3_700)
    assert await wallets.keep_once() == 1
    assert counted(world, WalletKind.PASSKEY, "rejected") == before + 2


async def test_what_is_promised_for_gas_is_told_by_the_worker(world: World) -> None:
    def coin(part: str) -> float:
        labels = {"network": world.chain.network.caip2, "part": part}
        return REGISTRY.get_sample_value("agentnexus_sponsoring_coin", labels) or 0.0

    await world.funded("ann", WalletKind.PASSKEY)
    wallets = world.wallets()
    begun = await world.begin("ann", wallets=wallets)
    await fund(world)
    free = coin("available")
    assert free > 0
    assert coin("reserved") == 0
    await world.chain.automine(False)
    request = await wallets.signing_request("ann", begun.id)
    await wallets.sign("ann", begun.id, await answer(world, "ann", request))
    await fund(world)
    assert coin("reserved") == await world.reserved() / 10**18 > 0
    assert coin("available") < free
    await world.chain.automine(True)
    await world.chain.mine()
