"""A purchase whose gas somebody else pays: promised within budgets, charged once, given back when it is not used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentnexus.core.clock import ManualClock, SystemClock
from agentnexus.core.errors import BudgetExceeded, Conflict, InsufficientFunds, InvalidInput, RateLimited
from agentnexus.core.money import Money
from agentnexus.rails.evm.contracts.account import execute_data
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.errors import Reverted, WrongNetwork
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.paymaster.refusals import NotSponsored
from agentnexus.rails.evm.paymaster.service import WINDOW_SECONDS
from agentnexus.rails.evm.paymaster.store import SponsorshipState
from agentnexus.rails.evm.signer import LocalSigner
from agentnexus.rails.evm.userops import UserOperation
from agentnexus.rails.evm.userops.model import nonce_of
from tests.paymaster.conftest import ETHER, Desk, settle


async def state_of(desk: Desk, operation: UserOperation) -> tuple[str, int | None]:
    row = await desk.database.pool.fetchrow(
        "select state, actual_cost from paymaster.sponsorship where user_operation_hash = $1",
        to_hex(operation.hash(desk.chain.chain_id)),
    )
    return (row["state"], None if row["actual_cost"] is None else int(row["actual_cost"])) if row else ("", None)


async def test_an_account_without_coin_acts_and_the_deposit_pays_exactly_what_it_cost(desk: Desk) -> None:
    before = await desk.on_chain()
    assert await desk.booked() == (before, 0)
    operation = await desk.build()
    posted, reserved = await desk.booked()
    assert (posted, reserved) == (before, operation.max_cost_wei)
    receipt = await desk.send(operation)
    assert receipt.succeeded
    assert await desk.chain.usdc_of(operation.sender) == 999_999
    await settle(desk.settling())
    assert await desk.booked() == (before - receipt.gas_cost_wei, 0)
    assert await desk.on_chain() == before - receipt.gas_cost_wei
    assert await state_of(desk, operation) == (SponsorshipState.USED, receipt.gas_cost_wei)
    assert (await desk.books.check()).clean


async def test_asking_twice_for_one_operation_promises_once(desk: Desk) -> None:
    service = desk.service()
    plain = await desk.unsigned()
    first = await service.sponsor("alice", plain)
    second = await desk.service().sponsor("alice", plain)
    assert first == second
    assert (await desk.booked())[1] == first.max_cost_wei


async def test_an_operation_of_the_next_window_is_promised_anew(desk: Desk) -> None:
    clock = ManualClock(SystemClock().now())
    service = desk.service(clock=clock)
    plain = await desk.unsigned()
    first = await service.sponsor("alice", plain)
    clock.advance(WINDOW_SECONDS)
    assert await service.sponsor("alice", plain) != first


async def test_an_operation_that_was_used_is_not_promised_again(desk: Desk) -> None:
    operation = await desk.build()
    await desk.send(operation)
    await settle(desk.settling())
    with pytest.raises(Conflict, match="used already"):
        await desk.service().sponsor("alice", operation)


async def test_somebody_elses_operation_is_not_given_away(desk: Desk) -> None:
    plain = await desk.unsigned()
    await desk.service().sponsor("alice", plain)
    with pytest.raises(Conflict, match="somebody else"):
        await desk.service().sponsor("mallory", plain)


async def test_one_nonce_gets_a_few_promises_and_the_unused_ones_are_given_back(desk: Desk) -> None:
    service = desk.service()
    sent = await desk.build(service=service)
    plain = replace(sent, paymaster=None, paymaster_data=b"", signature=b"")
    others = [await service.sponsor("alice", replace(plain, call_gas_limit=plain.call_gas_limit + n)) for n in (1, 2)]
    with pytest.raises(RateLimited, match="this nonce"):
        await service.sponsor("alice", replace(plain, call_gas_limit=plain.call_gas_limit + 3))
    receipt = await desk.send(sent)
    await settle(desk.settling())
    assert [await state_of(desk, each) for each in others] == [(SponsorshipState.RELEASED, None)] * 2
    assert (await desk.booked())[1] == 0
    assert await desk.on_chain() == (await desk.booked())[0]
    assert receipt.succeeded


async def test_limits_of_policy_user_and_operation_are_kept(desk: Desk) -> None:
    plain = await desk.unsigned()
    cost = (await desk.service().sponsor("probe", plain)).max_cost_wei
    twice = f"{cost * 5 // 2 / ETHER:.18f}"
    service = desk.service(desk.policy(id="tight", per_operation="1", per_user_day=twice, per_day="1"))
    for lane in (1, 2):
        await service.sponsor("alice", replace(plain, nonce=nonce_of(lane, 0)))
    with pytest.raises(BudgetExceeded) as refused:
        await service.sponsor("alice", replace(plain, nonce=nonce_of(3, 0)))
    assert refused.value.details["limit"] == "per_day"
    assert refused.value.next_step
    assert await service.sponsor("bob", replace(plain, nonce=nonce_of(4, 0)))
    small = desk.service(desk.policy(id="small", per_operation=f"{(cost - 1) / ETHER:.18f}"))
    with pytest.raises(BudgetExceeded, match="per_payment"):
        await small.sponsor("carol", replace(plain, nonce=nonce_of(5, 0)))


async def test_a_refused_operation_can_be_promised_when_the_limit_has_grown(desk: Desk) -> None:
    plain = await desk.unsigned()
    with pytest.raises(BudgetExceeded):
        await desk.service(desk.policy(per_operation="0.000001")).sponsor("alice", plain)
    assert (await desk.booked())[1] == 0
    assert (await desk.service().sponsor("alice", plain)).paymaster == desk.paymaster


async def test_an_expired_promise_is_given_back_once_the_chain_was_read_past_it(desk: Desk) -> None:
    clock = ManualClock(SystemClock().now())
    operation = await desk.build(service=desk.service(clock=clock))
    settling = desk.settling(clock=clock)
    await settle(settling)
    assert (await desk.booked())[1] == operation.max_cost_wei
    clock.advance(2 * WINDOW_SECONDS + 60)
    assert await settling.release() == 0, "not before the chain was read"
    await settle(settling)
    assert (await desk.booked())[1] == 0
    assert await state_of(desk, operation) == (SponsorshipState.RELEASED, None)


async def test_an_expired_signature_is_refused_on_the_chain(desk: Desk) -> None:
    long_ago = ManualClock(SystemClock().now())
    long_ago.advance(-3600)
    operation = await desk.build(service=desk.service(clock=long_ago))
    with pytest.raises(Reverted, match="AA32"):
        await desk.bundler.send(operation)


async def test_an_operation_mined_in_its_last_second_is_charged_and_not_given_back(desk: Desk) -> None:
    """Everybody's clock says that it is over, and the event waits for its confirmations."""
    clock = ManualClock(SystemClock().now())
    operation = await desk.build(service=desk.service(clock=clock))
    receipt = await desk.send(operation)
    clock.advance(3 * WINDOW_SECONDS)
    settling = desk.settling(confirmations=3, clock=clock)
    await settle(settling)
    assert await state_of(desk, operation) == (SponsorshipState.SIGNED, None)
    await desk.chain.mine(3)
    await settle(settling)
    assert await state_of(desk, operation) == (SponsorshipState.USED, receipt.gas_cost_wei)


async def test_an_operation_that_comes_after_its_promise_was_given_back_is_charged_all_the_same(desk: Desk) -> None:
    operation = await desk.build()
    key = desk.service().accounts.key(to_hex(operation.hash(desk.chain.chain_id)))
    await desk.books.void(key, "somebody was too quick")
    receipt = await desk.send(operation)
    await settle(desk.settling())
    assert await desk.on_chain() == (await desk.booked())[0]
    assert await state_of(desk, operation) == (SponsorshipState.USED, receipt.gas_cost_wei)


async def spent(desk: Desk) -> set[int]:
    """By the user's budget and those above it."""
    rows = await desk.database.pool.fetch("select spent from ledger.budget")
    return {int(row["spent"]) for row in rows}


async def test_a_reorganisation_gives_the_gas_back_and_the_operation_mined_again_is_charged_again(desk: Desk) -> None:
    before = await desk.on_chain()
    snapshot = await desk.chain.snapshot()
    operation = await desk.build()
    first = await desk.send(operation)
    settling = desk.settling()
    await settle(settling)
    assert (await desk.booked())[0] == before - first.gas_cost_wei
    assert await spent(desk) == {first.gas_cost_wei}
    await desk.chain.revert(snapshot)
    await desk.chain.mine(2)
    await settle(settling)
    assert await desk.booked() == (before, 0)
    assert await spent(desk) == {0}
    relayer = desk.chain.accounts["relayer"]
    handle = desk.manifest.entry_point(desk.chain.rpc).handle([operation.pack()], relayer.address)
    await desk.transact("relayer", handle)
    await settle(settling)
    assert (await desk.booked())[0] == await desk.on_chain() < before
    assert len(await spent(desk)) == 1
    assert min(await spent(desk)) > 0
    assert (await desk.books.check()).clean


async def test_an_operation_whose_calls_fail_is_charged(desk: Desk) -> None:
    """The balance goes between the promise and the block: the chain takes the gas all the same."""
    await desk.send(await desk.build())
    failing = await desk.build(desk.transfer(atomic=600_000), lane=1)
    await desk.send(await desk.build(desk.transfer(atomic=600_000), lane=2))
    receipt = await desk.send(failing)
    assert not receipt.succeeded
    await settle(desk.settling())
    assert await state_of(desk, failing) == (SponsorshipState.USED, receipt.gas_cost_wei)
    succeeded = await desk.database.pool.fetchval(
        "select succeeded from paymaster.sponsorship where user_operation_hash = $1", receipt.hash
    )
    assert succeeded is False
    assert (await desk.booked())[0] == await desk.on_chain()


async def test_a_call_that_would_fail_is_refused_before_it_costs_anything(desk: Desk) -> None:
    before = await desk.booked()
    broke = replace(await desk.unsigned(), call_data=execute_data([desk.transfer(atomic=10**12)]))
    with pytest.raises(Reverted, match="ERC20InsufficientBalance"):
        await desk.service().sponsor("alice", broke)
    assert await desk.booked() == before


async def test_deposits_and_withdrawals_at_entry_point_reach_the_books(desk: Desk) -> None:
    start = (await desk.booked())[0]
    paymaster = desk.manifest.paymaster(desk.chain.rpc)
    settling = desk.settling()
    await desk.transact("deployer", paymaster.deposit(3 * ETHER))
    await settle(settling)
    await settle(settling)
    assert (await desk.booked())[0] == start + 3 * ETHER == await desk.on_chain()
    await desk.transact("deployer", paymaster.grant_role("WITHDRAWER_ROLE", desk.chain.accounts["deployer"].address))
    await desk.transact("deployer", paymaster.withdraw(desk.seller, ETHER))
    await settle(settling)
    assert (await desk.booked())[0] == start + 2 * ETHER == await desk.on_chain()


async def test_a_deposit_that_a_crash_left_half_booked_is_booked_once(desk: Desk) -> None:
    start = (await desk.booked())[0]
    settling, accounts = desk.settling(), desk.service().accounts
    await desk.transact("deployer", desk.manifest.paymaster(desk.chain.rpc).deposit(ETHER))
    row = await desk.database.pool.fetchrow(
        "update paymaster.treasury set next_total = total + $1 returning step", ETHER
    )
    # The money was booked, and the process died before it could say so.
    await desk.books.deposit(f"{accounts.deposit}:{row['step']}", accounts.deposit, Money(accounts.coin, ETHER))
    await settle(settling)
    assert (await desk.booked())[0] == start + ETHER == await desk.on_chain()


async def test_nothing_is_promised_beyond_the_deposit(desk: Desk) -> None:
    plain = await desk.unsigned()
    accounts = desk.service().accounts
    available = (await desk.books.balance(accounts.deposit, accounts.coin)).available
    await desk.books.withdraw("emptied", accounts.deposit, available)
    with pytest.raises(InsufficientFunds):
        await desk.service().sponsor("alice", plain)


async def test_offering_the_bundler_more_than_the_network_asks_is_refused(desk: Desk) -> None:
    """The tip goes to whoever bundles: a user who bundles their own would be paid out of our deposit."""
    plain = await desk.unsigned()
    greedy = replace(plain, max_fee_per_gas=plain.max_fee_per_gas * 3)
    tipping = replace(plain, max_priority_fee_per_gas=plain.max_priority_fee_per_gas * 2 + 1)
    for operation in (greedy, tipping):
        with pytest.raises(NotSponsored, match="network asks"):
            await desk.service().sponsor("alice", operation)
    padded = replace(plain, pre_verification_gas=300_000)
    with pytest.raises(NotSponsored, match="preVerificationGas"):
        await desk.service().sponsor("alice", padded)
    post = replace(plain, paymaster_post_op_gas_limit=500_000)
    with pytest.raises(NotSponsored, match="own gas limits"):
        await desk.service().sponsor("alice", post)


async def test_an_operation_without_final_gas_is_not_signed_for(desk: Desk) -> None:
    plain = await desk.unsigned()
    for change in ({"call_gas_limit": 0}, {"verification_gas_limit": 0}, {"max_fee_per_gas": 0}):
        with pytest.raises(InvalidInput, match="final"):
            await desk.service().sponsor("alice", replace(plain, **change))


async def test_a_key_of_another_kind_of_network_signs_nothing(desk: Desk) -> None:
    service = desk.service()
    stranger = LocalSigner(b"\x07" * 32, NetworkKind.TESTNET)
    with pytest.raises(WrongNetwork):
        type(service)(
            desk.database, desk.books, replace(service.chain, signer=stranger), desk.policies, clock=SystemClock()
        )


async def test_an_operation_signed_by_the_key_elsewhere_is_charged_and_said(desk: Desk) -> None:
    """For instance before the database was restored from a backup."""
    operation = await desk.build()
    await desk.database.pool.execute("delete from paymaster.sponsorship")
    await desk.books.void(desk.service().accounts.key(to_hex(operation.hash(desk.chain.chain_id))))
    await desk.send(operation)
    await settle(desk.settling())
    assert (await desk.booked())[0] == await desk.on_chain()


async def test_what_is_left_can_be_read(desk: Desk) -> None:
    service = desk.service()
    nothing_yet = await service.describe("alice")
    assert nothing_yet["paymaster"] == desk.paymaster
    (policy,) = nothing_yet["policies"]  # type: ignore[misc]  # a JSON list
    assert policy["left"] == {"everybody": None, "you": None}
    operation = await desk.build(service=service)
    (policy,) = (await service.describe("alice"))["policies"]  # type: ignore[misc]  # a JSON list
    left = int(float(policy["left"]["you"]["per_day"]) * ETHER)
    assert left == pytest.approx(ETHER - operation.max_cost_wei, abs=ETHER // 10**6)
    (stranger,) = (await service.describe("bob"))["policies"]  # type: ignore[misc]  # a JSON list
    assert stranger["left"]["you"] is None


async def test_a_call_of_nothing_is_not_sponsored(desk: Desk) -> None:
    plain = await desk.unsigned()
    with pytest.raises(NotSponsored, match="batches"):
        await desk.service().sponsor("alice", replace(plain, call_data=b""))
