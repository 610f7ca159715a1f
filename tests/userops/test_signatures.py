"""Signatures of accounts: deployed, not deployed yet, delegating keys, ordinary keys, and those that are none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from agentnexus.core.errors import InvalidInput, NotAllowed, Unavailable
from agentnexus.rails.evm.contracts import AccountPlan, Owner
from agentnexus.rails.evm.contracts.signatures import bound_digest, unwrap, verify_signature, wrap_undeployed
from agentnexus.rails.evm.delegation import designator
from agentnexus.rails.evm.encoding import keccak, to_hex
from agentnexus.rails.evm.errors import NodeError, Reverted
from agentnexus.rails.evm.rpc import Call as RpcCall
from agentnexus.rails.evm.rpc import Rpc, RpcValue
from tests.userops.conftest import Bench, Wallet
from tests.userops.soft_passkey import SoftPasskey

DIGEST = keccak(b"a login, an order, anything")
OTHER = keccak(b"something else")


async def signature_of(wallet: Wallet, digest: bytes = DIGEST) -> bytes:
    return await wallet.signer.sign(bound_digest(digest, wallet.address, wallet.chain.chain_id))


async def verify(wallet: Wallet, digest: bytes, signature: bytes, **options: float) -> bool:
    factories = {wallet.manifest.address("AccountFactory")}
    return await verify_signature(
        wallet.chain.rpc,
        wallet.address,
        digest,
        signature,
        factories=factories,
        **options,  # type: ignore[arg-type]  # gas or time
    )


def wrapped(wallet: Wallet, signature: bytes) -> bytes:
    assert wallet.sender.factory is not None
    return wrap_undeployed(signature, wallet.sender.factory, wallet.sender.factory_data)


async def test_an_account_that_does_not_exist_yet_signs(bench: Bench) -> None:
    wallet = await bench.wallet()
    signature = wrapped(wallet, await signature_of(wallet))
    assert await verify(wallet, DIGEST, signature)
    assert not await verify(wallet, OTHER, signature)
    assert await bench.chain.rpc.call("eth_getCode", wallet.address, "latest") == "0x"


async def test_a_passkeys_account_that_does_not_exist_yet_signs(bench: Bench) -> None:
    passkey = SoftPasskey()
    wallet = await bench.wallet(plan=passkey.plan())
    wallet = replace(wallet, signer=passkey.signer())
    assert await verify(wallet, DIGEST, wrapped(wallet, await signature_of(wallet)))
    stranger = replace(wallet, signer=SoftPasskey().signer())
    assert not await verify(wallet, DIGEST, wrapped(wallet, await signature_of(stranger)))


async def test_a_deployed_account_signs_wrapped_or_not(bench: Bench) -> None:
    wallet = await bench.wallet()
    await wallet.run(wallet.transfer(bench.chain.accounts["bob"].address, 0))
    plain = await signature_of(wallet)
    assert await verify(wallet, DIGEST, plain)
    assert await verify(wallet, DIGEST, wrapped(wallet, plain))
    assert not await verify(wallet, OTHER, plain)
    assert await wallet.account.is_valid_signature(DIGEST, plain)


async def test_a_signature_for_one_account_is_none_for_another_of_the_same_owner(bench: Bench) -> None:
    first = await bench.wallet()
    second = await bench.wallet(plan=AccountPlan(Owner(bench.chain.accounts["alice"].address), salt=b"\x01" * 32))
    assert first.address != second.address
    assert not await verify(second, DIGEST, wrapped(second, await signature_of(first)))
    assert await verify(second, DIGEST, wrapped(second, await signature_of(second)))


async def test_the_bare_digest_signed_by_an_owner_is_not_the_accounts_signature(bench: Bench) -> None:
    wallet = await bench.wallet()
    assert not await verify(wallet, DIGEST, wrapped(wallet, await wallet.signer.sign(DIGEST)))


async def test_an_ordinary_key_signs(bench: Bench) -> None:
    wallet, key = await bench.wallet(), bench.chain.accounts["bob"]
    mine = replace(wallet, sender=replace(wallet.sender, address=key.address))
    signature = await key.signer.sign(DIGEST)
    assert await verify(mine, DIGEST, signature)
    assert not await verify(mine, OTHER, signature)
    assert not await verify(mine, DIGEST, b"")
    assert not await verify(wallet, DIGEST, signature)


async def test_a_delegating_key_is_asked_as_a_contract(bench: Bench) -> None:
    """It has code: its bare ECDSA signature no longer counts, the account's does."""
    wallet, key = await bench.wallet("bob"), bench.chain.accounts["bob"]
    implementation = await bench.manifest.factory(bench.chain.rpc).implementation()
    await bench.chain.rpc.call("anvil_setCode", key.address, to_hex(designator(implementation)))
    mine = replace(wallet, sender=replace(wallet.sender, address=key.address))
    assert not await verify(mine, DIGEST, await key.signer.sign(DIGEST))
    assert await verify(mine, DIGEST, await signature_of(mine))


async def test_another_factory_is_refused_before_it_runs(bench: Bench) -> None:
    wallet = await bench.wallet()
    hostile = wrap_undeployed(await signature_of(wallet), bench.chain.usdc.reference, b"\x01\x02\x03\x04")
    with pytest.raises(NotAllowed, match="factory"):
        await verify(wallet, DIGEST, hostile)


async def test_a_factory_call_that_makes_another_account_proves_nothing(bench: Bench) -> None:
    wallet, other = await bench.wallet("alice"), await bench.wallet("bob")
    assert other.sender.factory is not None
    crossed = wrap_undeployed(await signature_of(wallet), other.sender.factory, other.sender.factory_data)
    assert not await verify(wallet, DIGEST, crossed)
    failing = wrap_undeployed(await signature_of(wallet), other.sender.factory, b"\xde\xad\xbe\xef")
    assert not await verify(wallet, DIGEST, failing)


async def test_gas_is_capped(bench: Bench) -> None:
    wallet = await bench.wallet()
    signature = wrapped(wallet, await signature_of(wallet))
    assert not await verify(wallet, DIGEST, signature, gas_max=60_000)
    assert await verify(wallet, DIGEST, signature, gas_max=400_000)


def test_wrappings_come_apart_as_they_were_made() -> None:
    factory = "0x" + "ab" * 20
    assert unwrap(wrap_undeployed(b"signature", factory, b"data")) == (factory, b"data", b"signature")
    assert unwrap(b"signature") is None
    assert unwrap(b"") is None


def test_a_damaged_wrapping_is_refused() -> None:
    whole = wrap_undeployed(b"signature", "0x" + "ab" * 20, b"data")
    with pytest.raises(InvalidInput):
        unwrap(whole[40:])


class Node(Rpc):
    """A node that answers what it is told to."""

    def __init__(self, answers: Sequence[RpcValue | NodeError | Reverted], *, hangs: bool = False) -> None:
        super().__init__("http://127.0.0.1:1")
        self.answers = list(answers)
        self.hangs = hangs

    async def batch(self, calls: Sequence[RpcCall]) -> list[RpcValue | NodeError | Reverted]:
        if self.hangs:
            await asyncio.Event().wait()
        return [self.answers.pop(0) for _ in calls]


async def on_node(node: Node) -> bool:
    address, factory = "0x" + "cd" * 20, "0x" + "ab" * 20
    signature = wrap_undeployed(b"s", factory, b"d")
    try:
        return await verify_signature(node, address, DIGEST, signature, factories={factory}, timeout_seconds=0.2)
    finally:
        await node.close()


async def test_a_node_that_cannot_simulate_is_named() -> None:
    with pytest.raises(Unavailable, match="cannot simulate"):
        await on_node(Node(["0x", NodeError("eth_simulateV1", -32601, "no such method")]))


async def test_a_node_that_never_answers_is_not_waited_for() -> None:
    with pytest.raises(Unavailable, match="too long"):
        await on_node(Node([], hangs=True))


async def test_another_error_of_the_node_is_no_answer() -> None:
    with pytest.raises(NodeError):
        await on_node(Node(["0x", NodeError("eth_simulateV1", -32000, "busy")]))


@pytest.mark.parametrize("answer", [None, [], [None], [{"calls": []}], [{"calls": [{}]}]])
async def test_a_simulation_that_cannot_be_read_is_no_answer(answer: RpcValue) -> None:
    with pytest.raises(InvalidInput):
        await on_node(Node(["0x", answer]))


@pytest.mark.parametrize(
    "results",
    [
        [{"status": "0x0"}, {"status": "0x1", "returnData": "0x1626ba7e" + "00" * 28}],
        [{"status": "0x1"}, {"status": "0x0", "returnData": "0x"}],
        [{"status": "0x1"}, {"status": "0x1", "returnData": "0x"}],
        [{"status": "0x1"}, {"status": "0x1", "returnData": "0x1626ba7e"}],
        [{"status": "0x1"}, {"status": "0x1", "returnData": "0xffffffff" + "00" * 28}],
        [None, None],
    ],
)
async def test_anything_but_the_magic_value_is_a_no(results: list[RpcValue]) -> None:
    assert not await on_node(Node(["0x", [{"calls": results}]]))


async def test_a_simulation_that_reverts_as_a_whole_is_a_no() -> None:
    assert not await on_node(Node(["0x", Reverted("reverted")]))
