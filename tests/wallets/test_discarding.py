"""What nobody signs can be discarded, and what pays its own gas is ended on the chain wherever this node signs."""

from __future__ import annotations

import asyncio

import pytest

from agentnexus.core.errors import Conflict, NotFound
from agentnexus.rails.evm.contracts.entry_point import EntryPoint
from agentnexus.rails.evm.errors import Reverted
from agentnexus.rails.evm.userops.model import UserOperation
from agentnexus.rails.evm.userops.signers import ECDSA_KIND
from agentnexus.wallets.building import lane_of, nonce_for
from agentnexus.wallets.model import GasPayer, Operation, OperationState, Wallet, WalletKind
from agentnexus.wallets.sending import WATCHED_TIME
from agentnexus.wallets.service import Wallets
from tests.wallets.conftest import WHOLE, World
from tests.wallets.test_kinds import answer

pytestmark = pytest.mark.timeout(180)
ETHER = 10**18


async def sponsorship(world: World, operation: Operation) -> str:
    found: str = await world.database.pool.fetchval(
        "select state from paymaster.sponsorship where user_operation_hash = $1", operation.hash
    )
    return found


@pytest.mark.parametrize("kind", [WalletKind.PASSKEY, WalletKind.KEY, WalletKind.DELEGATED])
async def test_what_was_discarded_takes_no_signature_and_nothing_happens(world: World, kind: WalletKind) -> None:
    wallet = await world.funded("alice", kind)
    wallets = world.wallets()
    before = await world.chain.usdc_of(wallet.address)
    begun = await world.begin("alice", wallets=wallets)
    given = await answer(world, "alice", await wallets.signing_request("alice", begun.id))
    done = await wallets.discard("alice", begun.id)
    assert done.state is OperationState.REJECTED
    assert done.error is not None
    assert done.error["message"] == "you discarded it"
    with pytest.raises(Conflict, match="over"):
        await wallets.sign("alice", begun.id, given)
    with pytest.raises(Conflict, match="waits for no signature"):
        await wallets.signing_request("alice", begun.id)
    assert await wallets.discard("alice", begun.id) == done
    assert (await world.begin("alice", wallets=wallets)).state is OperationState.REJECTED  # the key is used
    assert await world.chain.usdc_of(wallet.address) == before


async def test_a_discarded_offer_is_released_at_once(world: World) -> None:
    await world.funded("ann", WalletKind.PASSKEY)
    begun = await world.begin("ann")
    assert await sponsorship(world, begun) == "offered"
    await world.wallets().discard("ann", begun.id)
    assert await sponsorship(world, begun) == "released"
    assert await world.reserved() == 0
    world.clock.advance(86_400)
    assert await world.wallets().keep_once() == 0  # nobody else has seen it: there is nothing to look for


async def test_what_its_owner_had_signed_elsewhere_is_noted_after_it_was_discarded(world: World) -> None:
    """The paymaster's signature was shown to them, so its gas stays promised until it is too late."""
    await world.funded("alice", WalletKind.KEY)
    wallets = world.wallets()
    begun = await world.begin("alice", world.pay(5), wallets=wallets)
    kept = await wallets.store.find(begun.id)
    assert kept is not None
    assert kept.body is not None
    key = world.chain.accounts["alice"].signer
    elsewhere = kept.body.signed(ECDSA_KIND + await key.sign(kept.body.hash(world.chain.chain_id)))
    done = await wallets.discard("alice", begun.id)
    assert await sponsorship(world, begun) == "signed"
    assert done.error is not None
    details = done.error["details"]
    assert isinstance(details, dict)
    assert str(details["usable_until"]).startswith(str(begun.valid_until)[:10])
    await world.bundler.receipt(await world.bundler.send(elsewhere))
    world.clock.advance(600)
    assert await wallets.keep_once() == 1
    assert (await wallets.operation(begun.id)).state is OperationState.SUCCEEDED


async def test_what_was_discarded_is_closed_when_it_is_too_late_for_everybody(world: World) -> None:
    await world.funded("alice", WalletKind.KEY)
    wallets = world.wallets()
    begun = await world.begin("alice", wallets=wallets)
    await wallets.discard("alice", begun.id)
    assert await wallets.keep_once() == 0
    world.clock.advance(600)
    assert await wallets.keep_once() == 1
    world.clock.advance(86_400)
    assert await wallets.keep_once() == 0
    assert (await wallets.operation(begun.id)).state is OperationState.REJECTED


async def test_what_was_signed_or_belongs_to_others_is_not_discarded(world: World) -> None:
    await world.funded("ann")
    await world.funded("alice", WalletKind.KEY)
    wallets = world.wallets()
    signed = await world.begin("ann", wallets=wallets)
    with pytest.raises(Conflict, match="too late"):
        await wallets.discard("ann", signed.id)
    waiting = await world.begin("alice", wallets=wallets)
    for stranger in ("ann", "nobody"):
        with pytest.raises(NotFound):
            await wallets.discard(stranger, waiting.id)
    assert (await wallets.operation(waiting.id)).state is OperationState.UNSIGNED


async def test_of_a_signature_and_a_discard_at_the_same_time_one_is_done(world: World) -> None:
    await world.funded("alice", WalletKind.KEY)
    outcomes = set()
    for number in range(4):
        wallets, others = world.wallets(), world.wallets()
        begun = await world.begin("alice", key=f"k{number}", wallets=wallets)
        given = await answer(world, "alice", await wallets.signing_request("alice", begun.id))
        both = (wallets.sign("alice", begun.id, given), others.discard("alice", begun.id))
        signed, discarded = await asyncio.gather(*both, return_exceptions=True)
        if isinstance(discarded, Operation):
            assert isinstance(signed, Conflict)
            assert (await wallets.operation(begun.id)).state is OperationState.REJECTED
        else:
            assert isinstance(discarded, Conflict)
            assert (await wallets.settle(begun.id)).state is OperationState.SUCCEEDED
        outcomes.add(type(discarded))
    assert outcomes <= {Operation, Conflict}


class Away:
    """A bundler that nobody reaches for sending."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> object:
        return getattr(self._world.bundler, name)

    async def send(self, operation: object) -> str:
        raise NotFound("away")


async def stuck(world: World, *, sponsored: bool = True) -> tuple[Wallet, Operation]:
    """An operation of a wallet of the node that pays its own gas and never left; its account has no coin any more."""
    wallet = await world.funded("ann")
    await world.wallets().settle((await world.begin("ann", world.pay(0), key="made")).id)
    await world.chain.rpc.call("anvil_setBalance", wallet.address, hex(ETHER))
    away = world.wallets(bundler=Away(world), sponsored=sponsored)  # type: ignore[arg-type]  # stands for one
    begun = await world.begin("ann", world.pay(5), gas=GasPayer.ACCOUNT, wallets=away)
    assert begun.state is OperationState.SIGNED
    await world.chain.rpc.call("anvil_setBalance", wallet.address, "0x0")
    return wallet, begun


async def signed_bytes(wallets: Wallets, operation: Operation) -> UserOperation:
    kept = await wallets.store.find(operation.id)
    assert kept is not None
    assert kept.body is not None
    return kept.body


async def test_what_pays_its_own_gas_and_never_came_is_ended_on_the_chain_by_an_empty_one(world: World) -> None:
    wallet, begun = await stuck(world)
    wallets = world.wallets()
    bytes_of_it = await signed_bytes(wallets, begun)
    world.clock.advance(3_600)
    assert await wallets.keep_once() == 1
    done = await wallets.settle(begun.id)
    assert done.state is OperationState.REJECTED
    assert done.error is not None
    assert "never will be" in str(done.error["message"])
    nonce = await EntryPoint(world.chain.rpc).nonce(wallet.address, lane_of(begun.id))
    assert nonce != nonce_for(begun.id)
    await world.chain.rpc.call("anvil_setBalance", wallet.address, hex(ETHER))
    with pytest.raises(Reverted, match="AA25"):
        await world.bundler.send(bytes_of_it)
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE
    world.clock.advance(86_400)
    assert await wallets.keep_once() == 0


async def test_an_ending_that_a_reorganisation_took_back_comes_again(world: World) -> None:
    wallet, begun = await stuck(world)
    wallets = world.wallets(confirmations=3)
    world.clock.advance(3_600)
    snapshot = await world.chain.snapshot()
    await wallets.keep_once()
    assert (await wallets.settle(begun.id)).state is OperationState.REJECTED
    await world.chain.revert(snapshot)
    world.clock.advance(30)
    await wallets.keep_once()
    again = await wallets.operation(begun.id)
    assert again.state is OperationState.SIGNED
    assert again.error is not None
    done = await wallets.settle(begun.id)
    assert (done.state, done.error) == (OperationState.REJECTED, again.error)
    assert await EntryPoint(world.chain.rpc).nonce(wallet.address, lane_of(begun.id)) != nonce_for(begun.id)


async def test_what_comes_before_its_ending_has_happened(world: World) -> None:
    wallet, begun = await stuck(world)
    wallets = world.wallets()
    bytes_of_it = await signed_bytes(wallets, begun)
    await world.chain.rpc.call("anvil_setBalance", wallet.address, hex(ETHER))
    await world.chain.automine(False)
    await world.bundler.send(bytes_of_it)
    await world.chain.rpc.call("anvil_setBalance", wallet.address, "0x0")
    found = await wallets.store.find(begun.id)
    assert found is not None
    ended = await wallets._replaced(wallet, found, True)
    assert ended is not None
    assert ended.ending == ended.operation.hash != begun.hash
    await world.chain.rpc.call("anvil_setBalance", wallet.address, hex(ETHER))
    await world.chain.automine(True)
    await world.chain.mine()
    done = await wallets.settle(begun.id)
    assert (done.state, done.hash) == (OperationState.SUCCEEDED, begun.hash)
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE - 5


async def test_what_nobody_can_end_says_so_and_is_noted_when_somebody_brings_it(world: World) -> None:
    wallet, begun = await stuck(world, sponsored=False)
    wallets = world.wallets(sponsored=False)
    bytes_of_it = await signed_bytes(wallets, begun)
    world.clock.advance(3_600)
    await wallets.keep_once()
    done = await wallets.operation(begun.id)
    assert done.state is OperationState.REJECTED
    assert done.error is not None
    assert "no end on the chain" in str(done.error["next_step"])
    await world.chain.rpc.call("anvil_setBalance", wallet.address, hex(ETHER))
    await world.bundler.receipt(await world.bundler.send(bytes_of_it))
    world.clock.advance(3_600)
    assert await wallets.keep_once() == 1
    assert (await wallets.operation(begun.id)).state is OperationState.SUCCEEDED


async def test_what_nobody_brings_is_looked_for_a_day_and_then_closed(world: World) -> None:
    _, begun = await stuck(world, sponsored=False)
    wallets = world.wallets(sponsored=False)
    world.clock.advance(3_600)
    await wallets.keep_once()
    world.clock.advance(60)
    assert await wallets.keep_once() == 0, "not every moment"
    world.clock.advance(WATCHED_TIME.total_seconds())
    assert await wallets.keep_once() == 1
    world.clock.advance(WATCHED_TIME.total_seconds())
    assert await wallets.keep_once() == 0
    assert (await wallets.operation(begun.id)).state is OperationState.REJECTED
