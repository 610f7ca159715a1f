"""What the chain does with an operation, and what is noted of it: failed calls, waiting, lapses, reorganisations."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from agentnexus.core.errors import Conflict, NotAllowed, NotFound, PaymentUnknown, Unavailable
from agentnexus.platform.process import wait_until_ready
from agentnexus.rails.evm.contracts import Account, Call, Owner
from agentnexus.rails.evm.errors import ChainUnavailable
from agentnexus.rails.evm.userops.signers import ECDSA_KIND
from agentnexus.wallets.model import GasPayer, KeySignature, OperationState, Wallet, WalletKind
from agentnexus.wallets.store import Stored
from tests.wallets.conftest import WHOLE, World
from tests.wallets.test_kinds import answer

pytestmark = pytest.mark.timeout(120)


async def made(world: World, user_id: str) -> Wallet:
    """A wallet of the user's own key whose account exists, with 10 USDC."""
    wallet = await world.funded(user_id, WalletKind.KEY)
    wallets = world.wallets()
    begun = await world.begin(user_id, world.pay(0), key="made", wallets=wallets)
    request = await wallets.signing_request(user_id, begun.id)
    await wallets.sign(user_id, begun.id, await answer(world, user_id, request))
    assert (await wallets.settle(begun.id)).state is OperationState.SUCCEEDED
    return wallet


async def test_what_is_not_mined_in_time_is_unknown_and_goes_on(world: World) -> None:
    await world.funded("ann")
    wallets = world.wallets()
    await world.chain.automine(False)
    begun = await world.begin("ann", world.pay(5), wallets=wallets)
    with pytest.raises(PaymentUnknown) as unknown:
        await wallets.settle(begun.id, timeout_seconds=0.2)
    assert unknown.value.details["operation"] == begun.id
    assert (await wallets.operation(begun.id)).state is OperationState.SIGNED
    await world.chain.mine()
    assert (await wallets.settle(begun.id)).state is OperationState.SUCCEEDED


async def test_calls_that_fail_on_chain_are_noted_with_the_reason(world: World) -> None:
    wallet = await made(world, "alice")
    wallets = world.wallets()
    begun = [await world.begin("alice", world.pay(6 * WHOLE), key=f"k{at}", wallets=wallets) for at in range(2)]
    states = []
    for each in begun:  # both could be paid when they were built, and only one when they came
        request = await wallets.signing_request("alice", each.id)
        await wallets.sign("alice", each.id, await answer(world, "alice", request))
        failed = await wallets.settle(each.id)
        states.append(failed.state)
    assert states == [OperationState.SUCCEEDED, OperationState.FAILED]
    assert failed.error is not None
    assert "ERC20InsufficientBalance" in str(failed.error["message"])
    assert failed.transaction
    assert await world.chain.usdc_of(wallet.address) == 4 * WHOLE
    assert await wallets.settle(failed.id) == failed


async def test_a_reorganisation_before_the_confirmations_brings_it_back_to_signed_and_on_chain_again(
    world: World,
) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets(confirmations=3)
    snapshot = await world.chain.snapshot()
    begun = await world.begin("ann", world.pay(5), wallets=wallets)
    first = await wallets.settle(begun.id)
    assert first.state is OperationState.SUCCEEDED
    await world.chain.revert(snapshot)
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE
    world.clock.advance(30)
    assert await wallets.keep_once() == 1
    again = await wallets.operation(begun.id)
    assert (again.state, again.transaction) == (OperationState.SIGNED, "")
    done = await wallets.settle(begun.id)
    assert done.state is OperationState.SUCCEEDED
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE - 5
    await world.chain.mine(3)
    await wallets.settle(begun.id)
    world.clock.advance(30)
    assert await wallets.keep_once() == 0  # nothing can change any more


async def test_a_lapsed_request_to_sign_is_built_anew_and_the_old_signature_is_too_late(world: World) -> None:
    await world.funded("alice", WalletKind.KEY)
    wallets = world.wallets()
    begun = await world.begin("alice", wallets=wallets)
    first = await wallets.signing_request("alice", begun.id)
    assert first.hash == (await wallets.signing_request("alice", begun.id)).hash
    world.clock.advance(301)
    with pytest.raises(Conflict, match="too old"):
        await wallets.sign("alice", begun.id, await answer(world, "alice", first))
    second = await wallets.signing_request("alice", begun.id)
    assert second.hash != first.hash
    with pytest.raises(NotAllowed):
        await wallets.sign("alice", begun.id, await answer(world, "alice", first))
    assert (await wallets.operation(begun.id)).state is OperationState.UNSIGNED
    await wallets.sign("alice", begun.id, await answer(world, "alice", second))


async def test_an_older_form_that_its_owner_brought_to_the_chain_is_the_operation(world: World) -> None:
    await world.funded("alice", WalletKind.KEY)
    wallets = world.wallets()
    begun = await world.begin("alice", world.pay(5), wallets=wallets)
    form = await wallets.store.find(begun.id)
    assert form is not None
    assert form.body is not None
    request = await wallets.signing_request("alice", begun.id)
    key = world.chain.accounts["alice"].signer
    elsewhere = form.body.signed(ECDSA_KIND + await key.sign(request.hash))
    receipt = await world.bundler.receipt(await world.bundler.send(elsewhere))
    assert receipt.succeeded
    world.clock.advance(301)
    with pytest.raises(Conflict):
        await wallets.signing_request("alice", begun.id)
    done = await wallets.operation(begun.id)
    assert (done.state, done.transaction) == (OperationState.SUCCEEDED, receipt.transaction)


async def test_a_sponsorship_that_lapsed_before_anything_left_is_renewed_for_wallets_of_the_node(
    world: World,
) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    begun = await kept_but_never_sent(world, "ann")
    world.clock.advance(400)
    await world.chain.set_next_block_time(int(world.clock.now().timestamp()))
    await world.chain.mine()
    assert await wallets.keep_once() == 1
    done = await wallets.settle(begun)
    assert done.state is OperationState.SUCCEEDED
    renewals = await world.database.pool.fetchval("select renewals from wallet.operation")
    assert renewals == 1
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE - 1


async def test_a_sponsorship_that_lapsed_before_anything_left_ends_what_a_user_signed(world: World) -> None:
    await world.funded("alice", WalletKind.KEY)
    wallets = world.wallets()
    begun = await kept_but_never_sent(world, "alice")
    world.clock.advance(400)
    await wallets.keep_once()
    done = await wallets.operation(begun)
    assert done.state is OperationState.REJECTED
    assert done.error is not None
    assert "new key" in str(done.error["next_step"])


async def kept_but_never_sent(world: World, user_id: str, key: str = "k1") -> str:
    """An operation that was signed by a process that died before it sent it."""

    class Away:
        """A bundler that nobody reaches for sending."""

        def __getattr__(self, name: str) -> object:
            return getattr(world.bundler, name)

        async def send(self, operation: object) -> str:
            raise NotFound("away")

    wallets = world.wallets(bundler=Away())  # type: ignore[arg-type]  # stands for one
    begun = await world.begin(user_id, key=key, wallets=wallets)
    if begun.state is OperationState.UNSIGNED:
        request = await wallets.signing_request(user_id, begun.id)
        begun = await wallets.sign(user_id, begun.id, await answer(world, user_id, request))
    assert begun.state is OperationState.SIGNED
    return begun.id


async def test_a_reverted_bundle_of_the_nodes_own_wallet_is_built_anew(world: World) -> None:
    """Two operations make the same account in one block: the second bundle fails, and is not the end of it."""
    wallet = await world.funded("ann")
    wallets = world.wallets()
    await world.chain.automine(False)
    begun = [await world.begin("ann", world.pay(5), key=key, wallets=wallets) for key in ("first", "second")]
    await world.chain.automine(True)
    await world.chain.mine()
    done = [await wallets.settle(each.id) for each in begun]
    assert {each.state for each in done} == {OperationState.SUCCEEDED}
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE - 10


async def test_what_the_chain_refuses_is_told_while_it_waits_and_when_it_is_over(world: World) -> None:
    """The account gets another owner after its old one has signed: nobody brings that to the chain any more."""
    wallet = await made(world, "alice")
    wallets = world.wallets()
    bob = world.chain.accounts["bob"].address
    late = await kept_but_never_sent(world, "alice")
    change = Account(world.chain.rpc, wallet.address).set_owner(Owner(bob))
    begun = await wallets.begin("alice", [change], key="owner", purpose="setting", title="Hand over")
    request = await wallets.signing_request("alice", begun.id)
    await wallets.sign("alice", begun.id, await answer(world, "alice", request))
    assert (await wallets.settle(begun.id)).state is OperationState.SUCCEEDED
    world.clock.advance(10)
    await wallets.keep_once()
    waiting = await wallets.operation(late)
    assert waiting.state is OperationState.SIGNED
    assert waiting.error is not None
    assert "AA24" in str(waiting.error["message"])
    world.clock.advance(400)
    await wallets.keep_once()
    over = await wallets.operation(late)
    assert (over.state, over.error) == (OperationState.REJECTED, waiting.error)
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE


async def test_operations_of_others_are_not_found(world: World) -> None:
    await world.funded("alice", WalletKind.KEY)
    wallets = world.wallets()
    begun = await world.begin("alice", wallets=wallets)
    request = await wallets.signing_request("alice", begun.id)
    with pytest.raises(NotFound):
        await wallets.operation(begun.id, "mallory")
    with pytest.raises(NotFound):
        await wallets.signing_request("mallory", begun.id)
    with pytest.raises(NotFound):
        await wallets.sign("mallory", begun.id, await answer(world, "alice", request))
    with pytest.raises(NotFound):
        await wallets.settle("op_unknown")


@pytest.mark.parametrize("wrong", ["another key", "another hash", "cut off", "flipped"])
async def test_a_wrong_signature_is_refused_and_loses_nothing(world: World, wrong: str) -> None:
    await world.funded("alice", WalletKind.KEY)
    wallets = world.wallets()
    begun = await world.begin("alice", wallets=wallets)
    request = await wallets.signing_request("alice", begun.id)
    good = await answer(world, "alice", request)
    assert isinstance(good, KeySignature)
    bad = {
        "another key": await answer(world, "bob", request),
        "another hash": await answer(world, "alice", replace(request, hash=bytes(32))),
        "cut off": KeySignature(good.signature[:64]),
        "flipped": KeySignature(good.signature[:64] + bytes([55 - good.signature[64]])),
    }[wrong]
    with pytest.raises(NotAllowed):
        await wallets.sign("alice", begun.id, bad)
    assert (await wallets.operation(begun.id)).state is OperationState.UNSIGNED
    assert (await wallets.sign("alice", begun.id, good)).state is OperationState.SIGNED
    done = await wallets.settle(begun.id)
    # Once more: answered as it is, whatever is brought.
    assert await wallets.sign("alice", begun.id, bad) == done
    with pytest.raises(Conflict, match="waits for no signature"):
        await wallets.signing_request("alice", begun.id)


async def test_a_wallet_of_the_node_is_signed_for_by_nobody_else(world: World) -> None:
    await world.funded("ann")
    wallets = world.wallets()
    begun = await world.begin("ann", wallets=wallets)
    with pytest.raises(Conflict):
        await wallets.signing_request("ann", begun.id)


async def test_what_pays_its_own_gas_and_is_on_its_way_is_not_given_up(world: World) -> None:
    wallet = await world.funded("ann")
    await world.give_coin(wallet.address, 10**18)
    wallets = world.wallets()
    await world.chain.automine(False)
    begun = await world.begin("ann", world.pay(5), gas=GasPayer.ACCOUNT, wallets=wallets)
    world.clock.advance(3_600)  # its price is long out of date, but our own transaction still waits
    assert await wallets.keep_once() == 1
    waiting = await wallets.operation(begun.id)
    assert (waiting.state, waiting.hash) == (OperationState.SIGNED, begun.hash)
    await world.chain.automine(True)
    await world.chain.mine()
    assert (await wallets.settle(begun.id)).state is OperationState.SUCCEEDED
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE - 5


async def test_the_worker_goes_on_while_the_chain_is_away_and_finishes_when_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentnexus.wallets.sending.KEEP_SECONDS", 0.05)
    monkeypatch.setattr("agentnexus.wallets.sending.LOOK_AGAIN", timedelta(0))
    await world.funded("ann")
    begun = await kept_but_never_sent(world, "ann")
    wallets = world.wallets()
    looks = asyncio.Event()
    resolve = wallets._sending.resolve

    async def away_at_first(*args: object) -> Stored:
        if not looks.is_set():
            looks.set()
            raise ChainUnavailable("away")
        return await resolve(*args)  # type: ignore[arg-type]  # passed on

    wallets._sending.resolve = away_at_first  # type: ignore[method-assign,assignment]  # a chain that is away once
    world.clock.advance(60)
    worker = asyncio.create_task(wallets.keep())

    async def mined() -> bool:
        return (await wallets.operation(begun)).state is OperationState.SUCCEEDED

    await wait_until_ready(mined, what="the operation", timeout_seconds=60)
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker


async def test_two_workers_share_what_is_due(world: World) -> None:
    for user_id in ("ann", "ben"):
        await world.funded(user_id)
        await kept_but_never_sent(world, user_id)
    world.clock.advance(60)
    first, second = world.wallets(), world.wallets()
    assert sum(await asyncio.gather(first.keep_once(), second.keep_once())) == 2
    rows = await world.database.pool.fetch("select id from wallet.operation")
    assert {(await first.settle(row["id"])).state for row in rows} == {OperationState.SUCCEEDED}


async def test_an_address_that_delegated_keeps_it_and_signs_no_second_delegation(world: World) -> None:
    wallet = await world.funded("alice", WalletKind.DELEGATED)
    wallets = world.wallets()
    before = await world.chain.usdc_of(wallet.address)
    for key in ("first", "second"):
        begun = await world.begin("alice", world.pay(5), key=key, wallets=wallets)
        request = await wallets.signing_request("alice", begun.id)
        assert (request.delegation is not None) is (key == "first")
        await wallets.sign("alice", begun.id, await answer(world, "alice", request))
        assert (await wallets.settle(begun.id)).state is OperationState.SUCCEEDED
    assert wallet.address == world.chain.accounts["alice"].address
    assert (await wallets.of("alice")).address == wallet.address
    assert await world.chain.usdc_of(wallet.address) == before - 10
    assert (await wallets.state("alice")).deployed


async def test_a_key_that_moves_on_signs_its_delegation_anew_before_and_after_its_signature(world: World) -> None:
    await world.funded("alice", WalletKind.DELEGATED)
    wallets = world.wallets()
    self_made = Call(world.chain.accounts["alice"].address, b"")
    begun = await world.begin("alice", world.pay(5), wallets=wallets)
    early = await answer(world, "alice", await wallets.signing_request("alice", begun.id))
    await world.transact("alice", self_made)
    with pytest.raises(Conflict, match="its key has sent a transaction"):
        await wallets.sign("alice", begun.id, early)
    late = await kept_but_never_sent(world, "alice", key="late")
    await world.transact("alice", self_made)
    world.clock.advance(60)
    assert await wallets.keep_once() == 1
    assert (await wallets.operation(late)).state is OperationState.UNSIGNED
    for each in (begun.id, late):
        request = await wallets.signing_request("alice", each)
        await wallets.sign("alice", each, await answer(world, "alice", request))
        assert (await wallets.settle(each)).state is OperationState.SUCCEEDED


async def test_a_nonce_that_is_used_by_what_the_node_does_not_show_is_no_outcome(world: World) -> None:
    await world.funded("ann")
    wallets = world.wallets()
    begun = await world.begin("ann", wallets=wallets)
    done = await wallets.settle(begun.id)
    assert done.state is OperationState.SUCCEEDED
    account = (await wallets.of("ann")).address
    with pytest.raises(Unavailable, match="does not show"):
        await wallets._outcomes.mined(begun.id, account, await wallets._outcomes.head() + 1)
    assert await wallets._outcomes.mined("op_other", account, 0) is None
