"""Guardians: they give a lost account new owners after their delay, unless the present owners say no."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.rails.evm.contracts import AccountPlan, ContractRefused, Grant, Limit, Owner, Permission
from agentnexus.rails.evm.contracts.signatures import bound_digest
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, keccak, selector
from agentnexus.rails.evm.userops import OwnerSigner, SessionSigner
from tests.userops.conftest import Bench, Wallet
from tests.userops.soft_passkey import SoftPasskey

DAY = 86_400
DELAY = 2 * DAY
DIGEST = keccak(b"a message of the account")


def plan_of(bench: Bench, *, guardian: str = "") -> AccountPlan:
    """An account of alice whose guardian is bob, or an address."""
    return AccountPlan(
        Owner(bench.chain.accounts["alice"].address), guardian or bench.chain.accounts["bob"].address, DELAY
    )


async def guarded(bench: Bench, *, guardian: str = "") -> Wallet:
    """Such an account on chain, with 100 atomic USDC."""
    wallet = await bench.wallet(plan=plan_of(bench, guardian=guardian))
    await bench.chain.mint(wallet.address, 100)
    assert (await wallet.run(wallet.transfer(wallet.address, 0))).succeeded
    return wallet


async def after(bench: Bench, wallet: Wallet, unix_seconds: int) -> Wallet:
    """The wallet when the chain's clock shows this time, with a sponsor whose clock does as well."""
    await bench.chain.set_next_block_time(unix_seconds)
    await bench.chain.mine()
    return replace(wallet, sponsor=bench.sponsor(clock=ManualClock(datetime.fromtimestamp(unix_seconds, UTC))))


async def ready_at(wallet: Wallet) -> int:
    waiting = await wallet.account.pending_recovery()
    assert waiting is not None
    return waiting.ready_at


async def refused(bench: Bench, sender: str, wallet: Wallet, action: str) -> ContractRefused:
    """What the account answers to a transaction that finishes or cancels its recovery."""
    call = wallet.account.finish_recovery() if action == "finish" else wallet.account.cancel_recovery()
    with pytest.raises(ContractRefused) as caught:
        await bench.send(sender, call)
    return caught.value


async def test_a_guardian_gives_a_lost_account_new_owners_after_the_delay(bench: Bench) -> None:
    wallet = await guarded(bench)
    found = await wallet.account.guardian()
    assert found is not None
    assert (found.address, found.delay_seconds) == (bench.chain.accounts["bob"].address, DELAY)
    passkey = SoftPasskey()
    await bench.send("bob", wallet.account.propose_recovery(passkey.owner))
    waiting = await wallet.account.pending_recovery()
    assert waiting is not None
    assert waiting.owner == passkey.owner
    early = await refused(bench, "outsider", wallet, "finish")
    assert early.error == "RecoveryNotReady"
    assert early.arguments["readyAt"] == waiting.ready_at
    await bench.chain.set_next_block_time(waiting.ready_at)
    await bench.send("outsider", wallet.account.finish_recovery())
    assert await wallet.account.owner() == passkey.owner
    assert await wallet.account.pending_recovery() is None
    assert (await refused(bench, "outsider", wallet, "finish")).error == "NoRecovery"


async def test_after_a_recovery_only_the_new_owner_operates(bench: Bench) -> None:
    wallet, passkey = await guarded(bench), SoftPasskey()
    await bench.send("bob", wallet.account.propose_recovery(passkey.owner))
    # Until then nothing has changed for the present owner.
    assert (await wallet.run(wallet.transfer(wallet.address, 0))).succeeded
    wallet = await after(bench, wallet, await ready_at(wallet))
    await bench.send("outsider", wallet.account.finish_recovery())
    with pytest.raises(ContractRefused, match="AA24"):
        await wallet.run(wallet.transfer(wallet.address, 0))
    seller = bench.chain.accounts["seller-1"].address
    before = await bench.chain.usdc_of(seller)
    assert (await wallet.run(wallet.transfer(seller, 7), signer=passkey.signer())).succeeded
    assert await bench.chain.usdc_of(seller) == before + 7
    # The address, what it holds, and the guardian are what they were.
    assert await bench.chain.usdc_of(wallet.address) == 93
    assert await wallet.account.guardian() is not None


async def test_after_a_recovery_the_old_owner_signs_no_messages(bench: Bench) -> None:
    wallet, passkey = await guarded(bench), SoftPasskey()
    bound = bound_digest(DIGEST, wallet.address, bench.chain.chain_id)
    old, new = await wallet.signer.sign(bound), await passkey.signer().sign(bound)
    assert await wallet.account.is_valid_signature(DIGEST, old)
    assert not await wallet.account.is_valid_signature(DIGEST, new)
    await bench.send("bob", wallet.account.propose_recovery(passkey.owner))
    assert await wallet.account.is_valid_signature(DIGEST, old)
    wallet = await after(bench, wallet, await ready_at(wallet))
    await bench.send("bob", wallet.account.finish_recovery())
    assert not await wallet.account.is_valid_signature(DIGEST, old)
    assert await wallet.account.is_valid_signature(DIGEST, new)


async def test_a_recovery_ends_all_sessions(bench: Bench) -> None:
    wallet, passkey = await guarded(bench), SoftPasskey()
    key, token = bench.chain.accounts["outsider"], bench.chain.usdc.reference
    transfer = selector("transfer(address,uint256)")
    permissions = [Permission(token, transfer), Permission.paymaster(bench.manifest.address("Paymaster"))]
    # Longer than the delay, so that it is not its time that ends it.
    grant = Grant(key.address, await bench.now() + 10 * DAY, permissions, [Limit(50, token)])
    assert (await wallet.run(wallet.account.grant_session(grant))).succeeded
    session = SessionSigner(key.signer)
    assert (await wallet.run(wallet.transfer(wallet.address, 1), signer=session)).succeeded
    await bench.send("bob", wallet.account.propose_recovery(passkey.owner))
    wallet = await after(bench, wallet, await ready_at(wallet))
    assert (await wallet.run(wallet.transfer(wallet.address, 1), signer=session)).succeeded
    await bench.send("outsider", wallet.account.finish_recovery())
    assert await wallet.account.session(key.address) is None
    assert not await wallet.account.session_permits(key.address, token, transfer)
    assert (await wallet.account.session_allowance(key.address, token)).left == 0
    with pytest.raises(ContractRefused, match="AA24"):
        await wallet.run(wallet.transfer(wallet.address, 1), signer=session)
    # The new owner may grant the same key again; what it spent before is forgotten.
    assert (await wallet.run(wallet.account.grant_session(grant), signer=passkey.signer())).succeeded
    assert (await wallet.run(wallet.transfer(wallet.address, 50), signer=session)).succeeded


async def test_owners_cancel_a_recovery_they_did_not_want(bench: Bench) -> None:
    wallet = await guarded(bench)
    await bench.send("bob", wallet.account.propose_recovery(Owner(bench.chain.accounts["bob"].address)))
    ready = await ready_at(wallet)
    assert (await wallet.run(wallet.account.cancel_recovery())).succeeded
    assert await wallet.account.pending_recovery() is None
    # Not even when the time would have come.
    wallet = await after(bench, wallet, ready)
    late = await refused(bench, "bob", wallet, "finish")
    assert late.error == "NoRecovery"
    assert "propose" in late.next_step
    assert (await wallet.run(wallet.transfer(wallet.address, 0))).succeeded


async def test_a_guardian_takes_a_proposal_back_and_nobody_else_does(bench: Bench) -> None:
    wallet = await guarded(bench)
    assert (await refused(bench, "bob", wallet, "cancel")).error == "NoRecovery"
    await bench.send("bob", wallet.account.propose_recovery(SoftPasskey().owner))
    assert (await refused(bench, "outsider", wallet, "cancel")).error == "AccountUnauthorized"
    await bench.send("bob", wallet.account.cancel_recovery())
    assert await wallet.account.pending_recovery() is None


async def test_only_the_guardian_proposes(bench: Bench) -> None:
    wallet = await guarded(bench)
    for sender in ("alice", "outsider"):
        with pytest.raises(ContractRefused) as caught:
            await bench.send(sender, wallet.account.propose_recovery(SoftPasskey().owner))
        assert caught.value.error == "NotGuardian"
        assert "guardian" in caught.value.next_step
    with pytest.raises(ContractRefused, match="NotOnCurve"):
        await bench.send("bob", wallet.account.propose_recovery(Owner(x=b"\x01" * 32, y=b"\x02" * 32)))


async def test_another_proposal_starts_the_delay_anew(bench: Bench) -> None:
    wallet, second = await guarded(bench), SoftPasskey()
    await bench.send("bob", wallet.account.propose_recovery(SoftPasskey().owner))
    first_ready = await ready_at(wallet)
    await bench.chain.set_next_block_time(first_ready - 1)
    await bench.send("bob", wallet.account.propose_recovery(second.owner))
    assert await ready_at(wallet) == first_ready - 1 + DELAY
    await bench.chain.set_next_block_time(first_ready)
    assert (await refused(bench, "bob", wallet, "finish")).error == "RecoveryNotReady"
    await bench.chain.set_next_block_time(first_ready - 1 + DELAY)
    await bench.send("bob", wallet.account.finish_recovery())
    assert await wallet.account.owner() == second.owner


async def test_new_owners_or_another_guardian_drop_what_was_proposed(bench: Bench) -> None:
    wallet, passkey = await guarded(bench), SoftPasskey()
    await bench.send("bob", wallet.account.propose_recovery(Owner(bench.chain.accounts["bob"].address)))
    assert (await wallet.run(wallet.account.set_owner(passkey.owner))).succeeded
    assert await wallet.account.pending_recovery() is None
    wallet = replace(wallet, signer=passkey.signer())
    await bench.send("bob", wallet.account.propose_recovery(Owner(bench.chain.accounts["bob"].address)))
    outsider = bench.chain.accounts["outsider"].address
    assert (await wallet.run(wallet.account.set_guardian(outsider, DAY))).succeeded
    assert await wallet.account.pending_recovery() is None
    with pytest.raises(ContractRefused, match="NotGuardian"):
        await bench.send("bob", wallet.account.propose_recovery(Owner(bench.chain.accounts["bob"].address)))
    await bench.send("outsider", wallet.account.propose_recovery(SoftPasskey().owner))
    assert await wallet.account.pending_recovery() is not None


async def test_a_smart_account_guards_another_that_was_never_used(bench: Bench) -> None:
    friend, passkey = await bench.wallet("bob"), SoftPasskey()
    plan = plan_of(bench, guardian=friend.address)
    lost, factory = await bench.wallet(plan=plan), bench.manifest.factory(bench.chain.rpc)
    # A call to an address without code succeeds and does nothing: so the account is made first, by anybody.
    assert (await friend.run(factory.create(plan), lost.account.propose_recovery(passkey.owner))).succeeded
    ready = await ready_at(lost)
    friend = await after(bench, friend, ready)
    assert (await friend.run(lost.account.finish_recovery())).succeeded
    lost = replace(lost, sponsor=friend.sponsor, signer=passkey.signer())
    assert await lost.account.owner() == passkey.owner
    assert (await lost.run(lost.transfer(lost.address, 0))).succeeded


async def test_a_session_key_cannot_make_itself_an_owner(bench: Bench) -> None:
    wallet, key = await guarded(bench), bench.chain.accounts["outsider"]
    grant = Grant(key.address, await bench.now() + DAY, [Permission(wallet.address, selector("finishRecovery()"))])
    with pytest.raises(ContractRefused, match="NotGrantable"):
        await wallet.run(wallet.account.grant_session(grant))


async def test_an_owner_names_and_dismisses_a_guardian(bench: Bench) -> None:
    wallet = await bench.wallet()
    bob = bench.chain.accounts["bob"].address
    await wallet.run(wallet.account.set_guardian(bob, DAY))
    assert await wallet.account.guardian() is not None
    await wallet.run(wallet.account.set_guardian(ZERO_ADDRESS, 0))
    assert await wallet.account.guardian() is None
    for guardian, delay, error in (
        (bob, 1, "InvalidDelay"),
        (bob, 61 * DAY, "InvalidDelay"),
        (wallet.address, DAY, "InvalidGuardian"),
    ):
        with pytest.raises(ContractRefused, match=error) as caught:
            await wallet.run(wallet.account.set_guardian(guardian, delay))
        assert "guardian" in caught.value.next_step


async def test_an_owner_key_is_replaced_by_another_key(bench: Bench) -> None:
    wallet, bob = await guarded(bench), bench.chain.accounts["outsider"]
    await bench.send("bob", wallet.account.propose_recovery(Owner(bob.address)))
    wallet = await after(bench, wallet, await ready_at(wallet))
    await bench.send("bob", wallet.account.finish_recovery())
    assert (await wallet.run(wallet.transfer(bob.address, 100), signer=OwnerSigner(bob.signer))).succeeded
