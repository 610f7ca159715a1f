"""Alto as a peer: what we build and sign, somebody else's bundler estimates, checks and brings on chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from bench.peers.alto import alto, installed

from agentnexus.core.errors import NexusError, PaymentUnknown
from agentnexus.rails.evm.contracts.account import execute_data
from agentnexus.rails.evm.userops import Flavour, OwnerSigner, RpcBundler, Sender, UserOperationReceipt
from tests.chain_fixtures import ContractsChain
from tests.userops.conftest import Bench, Wallet
from tests.userops.soft_passkey import SoftPasskey

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not installed(), reason="bench/peers/alto_package/install installs it"),
]


@pytest.fixture
async def peer(contracts_chain: ContractsChain) -> AsyncIterator[RpcBundler]:
    chain = contracts_chain.chain
    async with alto(chain) as rpc:
        yield RpcBundler(rpc, chain.rpc, chain.chain_id, flavour=Flavour.PIMLICO)


async def run(wallet: Wallet, peer: RpcBundler) -> UserOperationReceipt:
    operation = await replace(wallet, bundler=peer).build(wallet.transfer(wallet.address, 0))  # type: ignore[arg-type]  # a bundler as well
    sent = await peer.send(operation)
    assert await peer.send(operation) == sent
    return await peer.receipt(sent)


async def test_alto_takes_what_we_make_and_refuses_what_is_wrong(bench: Bench, peer: RpcBundler) -> None:
    """One process for all of it: it takes a second and a half to start."""
    sponsored, own_gas = await bench.wallet("alice"), await bench.wallet("seller-1", sponsored=False)
    first = await run(sponsored, peer)
    assert first.succeeded
    assert first.paymaster == bench.manifest.address("Paymaster")
    assert (await run(sponsored, peer)).gas_used < first.gas_used

    passkey = SoftPasskey()
    by_passkey = replace(await bench.wallet(plan=passkey.plan()), signer=passkey.signer())
    assert (await run(by_passkey, peer)).succeeded

    bob = bench.chain.accounts["bob"].signer
    implementation = await bench.manifest.factory(bench.chain.rpc).implementation()
    delegating = replace(sponsored, sender=Sender.delegating(bob, implementation), signer=OwnerSigner(bob))
    assert (await run(delegating, peer)).succeeded

    with pytest.raises(NexusError):
        await run(own_gas, peer)  # no coin and no sponsor

    operation = await sponsored.build(sponsored.transfer(bob.public_id, 0))
    with pytest.raises(NexusError):
        await peer.send(operation.signed(operation.signature[:-1] + b"\x1d"))
    with pytest.raises(NexusError):
        await peer.estimate(replace(operation, call_data=execute_data([sponsored.transfer(bob.public_id, 5)])))
    with pytest.raises(PaymentUnknown):
        await peer.receipt("0x" + "12" * 32, timeout_seconds=0.1)
