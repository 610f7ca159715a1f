"""Every kind of wallet: made, signed for by whoever owns it, and its operation mined with the gas paid for."""

from __future__ import annotations

import pytest

from agentnexus.rails.evm.delegation import sign_delegation
from agentnexus.rails.evm.userops.passkeys import Assertion
from agentnexus.wallets.model import Answer, KeySignature, OperationState, SigningRequest, WalletKind
from tests.wallets.conftest import World

pytestmark = pytest.mark.timeout(120)


async def answer(world: World, user_id: str, request: SigningRequest) -> Answer:
    """What the owner's browser or program gives back."""
    if request.kind is WalletKind.PASSKEY:
        return Assertion.from_browser(*world.passkeys[user_id].answer(request.hash))
    key = world.chain.accounts[user_id].signer
    delegation = b""
    if request.delegation is not None:
        asked = request.delegation
        made = await sign_delegation(key, int(str(asked["chainId"])), str(asked["address"]), int(str(asked["nonce"])))
        delegation = made.r.to_bytes(32, "big") + made.s.to_bytes(32, "big") + bytes([27 + made.parity])
    return KeySignature(await key.sign(request.hash), delegation)


async def test_a_wallet_of_the_node_signs_and_sends_by_itself(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    begun = await world.begin("ann", world.pay(5), wallets=wallets)
    assert begun.state is OperationState.SIGNED
    done = await wallets.settle(begun.id)
    assert done.state is OperationState.SUCCEEDED
    assert done.transaction.startswith("0x")
    assert done.gas_cost_wei
    assert await world.chain.usdc_of(wallet.address) == 10_000_000 - 5
    assert await wallets.operation(begun.id, "ann") == done


@pytest.mark.parametrize("kind", [WalletKind.PASSKEY, WalletKind.KEY, WalletKind.DELEGATED])
async def test_a_wallet_of_the_user_waits_for_their_signature(world: World, kind: WalletKind) -> None:
    wallet = await world.funded("alice", kind)
    wallets = world.wallets()
    before = await world.chain.usdc_of(wallet.address)
    begun = await world.begin("alice", world.pay(7), wallets=wallets)
    assert begun.state is OperationState.UNSIGNED
    assert (await wallets.settle(begun.id)).state is OperationState.UNSIGNED
    request = await wallets.signing_request("alice", begun.id)
    assert "0x" + request.hash.hex() == begun.hash
    assert (request.typed_data is None) is (kind is WalletKind.PASSKEY)
    assert (request.delegation is not None) is (kind is WalletKind.DELEGATED)
    sent = await wallets.sign("alice", begun.id, await answer(world, "alice", request))
    assert sent.state is OperationState.SIGNED
    done = await wallets.settle(begun.id)
    assert done.state is OperationState.SUCCEEDED
    assert await world.chain.usdc_of(wallet.address) == before - 7


@pytest.mark.parametrize("kind", list(WalletKind))
async def test_every_kind_sends_again_from_the_account_that_exists_by_then(world: World, kind: WalletKind) -> None:
    wallet = await world.funded("alice", kind)
    wallets = world.wallets()
    before = await world.chain.usdc_of(wallet.address)
    for number in range(3):
        begun = await world.begin("alice", world.pay(number + 1), key=f"k{number}", wallets=wallets)
        if begun.state is OperationState.UNSIGNED:
            request = await wallets.signing_request("alice", begun.id)
            await wallets.sign("alice", begun.id, await answer(world, "alice", request))
        assert (await wallets.settle(begun.id)).state is OperationState.SUCCEEDED
    assert await world.chain.usdc_of(wallet.address) == before - 6
    assert (await wallets.of("alice")).proven
