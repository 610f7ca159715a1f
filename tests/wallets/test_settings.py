"""What an account is told about itself: guardians who recover it, and session keys within their limits."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agentnexus.core.errors import Conflict, InvalidInput, NotAllowed
from agentnexus.rails.evm.contracts import Account, ContractRefused, Owner
from agentnexus.rails.evm.contracts.sessions import Grant, Limit, Permission
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, selector
from agentnexus.rails.evm.userops import Sender, SessionSigner, build
from agentnexus.rails.evm.userops.sponsors import SigningSponsor
from agentnexus.wallets.model import Operation, OperationState, Wallet, WalletKind
from agentnexus.wallets.service import Wallets
from agentnexus.wallets.settings import DAY_SECONDS
from tests.wallets.conftest import WHOLE, World
from tests.wallets.test_kinds import answer

pytestmark = pytest.mark.timeout(120)
TRANSFER = selector("transfer(address,uint256)")


async def done(wallets: Wallets, begun: Operation) -> Operation:
    settled = await wallets.settle(begun.id)
    assert settled.state is OperationState.SUCCEEDED, settled.error
    assert settled.purpose == "setting"
    return settled


async def test_a_guardian_brings_back_a_wallet_whose_key_is_lost(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    bob, carol = world.chain.accounts["bob"].address, world.chain.accounts["alice"].address
    await done(wallets, await wallets.set_guardian("ann", bob, 2 * DAY_SECONDS, key="guardian"))
    state = await wallets.state("ann")
    assert state.guardian is not None
    assert (state.guardian.address, state.guardian.delay_seconds) == (bob, 2 * DAY_SECONDS)
    account = Account(world.chain.rpc, wallet.address)
    await world.transact("bob", account.propose_recovery(Owner(carol)))
    state = await wallets.state("ann")
    assert state.recovery is not None
    assert state.recovery.owner == Owner(carol)
    with pytest.raises(ContractRefused) as early:
        await world.transact("bob", account.finish_recovery())
    assert early.value.error == "RecoveryNotReady"
    # Until it is finished the old owner is the owner, and the new one has nothing.
    with pytest.raises(Conflict):
        await wallets.create("ann", WalletKind.KEY, address=carol)
    await world.chain.set_next_block_time(state.recovery.ready_at)
    await world.chain.mine()
    await world.transact("seller-1", account.finish_recovery())
    assert await account.owner() == Owner(carol)
    # The node's key has lost the account, and says so instead of building what would fail.
    with pytest.raises(NotAllowed, match="new owners"):
        await world.begin("ann", key="too late")
    recovered = await wallets.create("ann", WalletKind.KEY, address=carol)
    assert (recovered.id, recovered.address, recovered.kind) == (wallet.id, wallet.address, WalletKind.KEY)
    with pytest.raises(Conflict):
        await wallets.export("ann")


async def test_a_recovered_wallet_sends_with_its_new_key(world: World) -> None:
    wallet = await world.funded("alice")
    wallets = world.wallets()
    alice = world.chain.accounts["alice"].address
    await done(wallets, await wallets.set_guardian("alice", world.chain.accounts["bob"].address, DAY_SECONDS, key="g"))
    account = Account(world.chain.rpc, wallet.address)
    await world.transact("bob", account.propose_recovery(Owner(alice)))
    later = int(world.clock.now().timestamp()) + DAY_SECONDS + 60
    await world.chain.set_next_block_time(later)
    await world.chain.mine()
    await world.transact("bob", account.finish_recovery())
    world.clock.advance(DAY_SECONDS + 60)
    await wallets.create("alice", WalletKind.KEY, address=alice)
    begun = await world.begin("alice", world.pay(5), key="after", wallets=wallets)
    request = await wallets.signing_request("alice", begun.id)
    await wallets.sign("alice", begun.id, await answer(world, "alice", request))
    assert (await wallets.settle(begun.id)).state is OperationState.SUCCEEDED
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE - 5


async def test_an_owner_refuses_a_recovery_and_dismisses_the_guardian(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    bob = world.chain.accounts["bob"].address
    await done(wallets, await wallets.set_guardian("ann", bob, DAY_SECONDS, key="guardian"))
    await world.transact("bob", Account(world.chain.rpc, wallet.address).propose_recovery(Owner(bob)))
    await done(wallets, await wallets.cancel_recovery("ann", key="cancel"))
    assert (await wallets.state("ann")).recovery is None
    await done(wallets, await wallets.set_guardian("ann", ZERO_ADDRESS, 0, key="dismiss"))
    assert (await wallets.state("ann")).guardian is None
    with pytest.raises(ContractRefused, match="NoRecovery"):
        await wallets.cancel_recovery("ann", key="again")


@pytest.mark.parametrize(("who", "delay"), [("bob", DAY_SECONDS - 1), ("bob", 61 * DAY_SECONDS), ("self", DAY_SECONDS)])
async def test_guardians_that_guard_nothing_are_refused(world: World, who: str, delay: int) -> None:
    wallet = await world.funded("ann")
    guardian = wallet.address if who == "self" else world.chain.accounts[who].address
    with pytest.raises(InvalidInput):
        await world.wallets().set_guardian("ann", guardian, delay, key="k")


async def session(world: World, wallet: Wallet, *, limit: int, days: int = 1) -> Grant:
    """May send USDC, up to a limit; bob's key, whose gas the paymaster pays."""
    until = world.clock.now() + timedelta(days=days)
    return Grant(
        world.chain.accounts["bob"].address,
        int(until.timestamp()),
        [
            Permission(world.chain.usdc.reference, TRANSFER),
            Permission.paymaster(world.manifest.address("Paymaster")),
        ],
        [Limit(limit, world.chain.usdc.reference)],
    )


async def by_session(world: World, wallet: Wallet, atomic: int) -> bool:
    """Bob's key sends USDC of the account."""
    relayer = world.chain.accounts["relayer"].signer
    operation = await build(
        world.chain.rpc,
        world.bundler,
        Sender(wallet.address),
        [world.pay(atomic)],
        signer=SessionSigner(world.chain.accounts["bob"].signer),
        sponsor=SigningSponsor(world.manifest.address("Paymaster"), world.chain.chain_id, relayer),
    )
    return (await world.bundler.receipt(await world.bundler.send(operation))).succeeded


async def test_a_session_key_acts_within_its_limits_and_is_refused_on_chain_beyond(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    await done(wallets, await wallets.grant_session("ann", await session(world, wallet, limit=7), key="grant"))
    assert await by_session(world, wallet, 5)
    with pytest.raises(ContractRefused) as refused:
        await by_session(world, wallet, 3)
    assert refused.value.inner is not None
    assert isinstance(refused.value.inner, ContractRefused)
    assert refused.value.inner.error == "OverLimit"
    assert await by_session(world, wallet, 2)
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE - 7


async def test_a_revoked_session_key_does_nothing_more(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    bob = world.chain.accounts["bob"].address
    await done(wallets, await wallets.grant_session("ann", await session(world, wallet, limit=7), key="grant"))
    await done(wallets, await wallets.revoke_session("ann", bob, key="revoke"))
    with pytest.raises(ContractRefused):
        await by_session(world, wallet, 1)
    with pytest.raises(ContractRefused, match="NoSession"):
        await wallets.revoke_session("ann", bob, key="again")
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE


async def test_a_users_own_key_signs_settings_too(world: World) -> None:
    wallet = await world.funded("alice", WalletKind.DELEGATED)
    wallets = world.wallets()
    bob = world.chain.accounts["bob"].address
    begun = await wallets.set_guardian("alice", bob, DAY_SECONDS, key="guardian")
    assert begun.state is OperationState.UNSIGNED
    request = await wallets.signing_request("alice", begun.id)
    await wallets.sign("alice", begun.id, await answer(world, "alice", request))
    await done(wallets, begun)
    state = await wallets.state("alice")
    assert state.guardian is not None
    assert state.guardian.address == bob
    assert wallet.address == world.chain.accounts["alice"].address
