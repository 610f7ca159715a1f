"""Gas is promised for what its owner has signed: begging for promises starves nobody who signs or ever paid."""

from __future__ import annotations

import asyncio

import pytest

from agentnexus.core.errors import BudgetExceeded, Conflict, NotFound, RateLimited, Unavailable
from agentnexus.core.payments import Limits
from agentnexus.rails.evm.paymaster.policy import SponsorPolicy
from agentnexus.rails.evm.paymaster.refusals import NotSponsored
from agentnexus.rails.evm.paymaster.service import UNSIGNED_PER_USER_MAX, WINDOW_SECONDS
from agentnexus.wallets.model import Operation, OperationState, WalletKind
from tests.wallets.conftest import World, fund
from tests.wallets.test_kinds import answer

pytestmark = pytest.mark.timeout(180)
ETHER = 10**18


async def signed(world: World, name: str, operation: Operation) -> Operation:
    wallets = world.wallets()
    request = await wallets.signing_request(name, operation.id)
    return await wallets.sign(name, operation.id, await answer(world, name, request))


async def cost_of(world: World, operation: Operation) -> int:
    """The most it can cost, in wei."""
    found: int = await world.database.pool.fetchval(
        "select maximum_cost from paymaster.sponsorship where user_operation_hash = $1", operation.hash
    )
    return int(found)


async def state_of(world: World, operation: Operation) -> str:
    found: str = await world.database.pool.fetchval(
        "select state from paymaster.sponsorship where user_operation_hash = $1", operation.hash
    )
    return found


def with_share(world: World, wei: int) -> SponsorPolicy:
    """The free policy, with so much a day for all newcomers together."""
    return world.policies[0].model_copy(update={"newcomers_per_day": f"{wei / ETHER:.18f}"})


async def test_what_a_passkey_has_not_signed_holds_nothing_of_the_sponsors(world: World) -> None:
    for number in range(4):
        await world.funded(f"sybil-{number}", WalletKind.PASSKEY)
        for turn in range(2):
            await world.begin(f"sybil-{number}", key=f"k{turn}")
    assert await world.reserved() == 0
    operation = await world.wallets().operation((await world.begin("sybil-0", key="k0")).id)
    assert await state_of(world, operation) == "offered"


async def test_it_is_promised_with_the_signature_and_charged_once(world: World) -> None:
    await world.funded("ann", WalletKind.PASSKEY)
    operation = await world.begin("ann")
    sent = await signed(world, "ann", operation)
    assert await world.reserved() == await cost_of(world, operation)
    done = await world.wallets().settle(sent.id)
    assert done.state is OperationState.SUCCEEDED
    await fund(world)
    assert await state_of(world, operation) == "used"
    assert await world.reserved() == 0
    assert (await world.books.check()).clean


async def test_an_offer_is_made_only_where_it_could_be_promised_now(world: World) -> None:
    await world.funded("ann", WalletKind.PASSKEY)
    poor = world.policies[0].model_copy(update={"per_user_day": "0.0000001"})
    with pytest.raises(BudgetExceeded) as refused:
        await world.begin("ann", wallets=world.wallets(poor))
    assert refused.value.details["limit"] == "per_day"
    tiny = world.policies[0].model_copy(update={"per_operation": "0.0000001"})
    with pytest.raises(BudgetExceeded, match="per_payment"):
        await world.begin("ann", wallets=world.wallets(tiny))
    accounts = world.paymaster().accounts
    held = (await world.books.balance(accounts.deposit, accounts.coin)).posted
    await world.books.withdraw("emptied", accounts.deposit, held)
    with pytest.raises(Unavailable, match="pays gas from is used up"):
        await world.begin("ann")
    assert await world.database.pool.fetchval("select count(*) from wallet.operation") == 0


async def test_a_signature_that_comes_when_the_budget_is_used_up_is_refused_and_good_again_when_it_is_not(
    world: World,
) -> None:
    await world.funded("ann", WalletKind.PASSKEY)
    operation = await world.begin("ann")
    service, policy = world.paymaster(), world.policies[0]
    budget = service.accounts.budget_ids(policy, "ann", newcomer=True)["you"]
    limits = policy.user_limits(service.accounts.coin)
    assert limits.per_day is not None
    await world.books.budgets.change(budget, Limits(per_day=service.accounts.money(1)))
    request = await world.wallets().signing_request("ann", operation.id)
    given = await answer(world, "ann", request)
    # Another process would make the budget what the policy says: this one has told the ledger already.
    wallets = world.wallets()
    assert wallets.paymaster is not None
    wallets.paymaster._budgets[policy.id, "ann", True] = budget
    with pytest.raises(BudgetExceeded):
        await wallets.sign("ann", operation.id, given)
    assert (await wallets.operation(operation.id)).state is OperationState.UNSIGNED
    assert await world.reserved() == 0
    await world.books.budgets.change(budget, limits)
    await wallets.sign("ann", operation.id, given)
    assert (await wallets.settle(operation.id)).state is OperationState.SUCCEEDED


async def test_one_user_cannot_leave_many_unsigned_that_were_handed_out(world: World) -> None:
    await world.funded("alice", WalletKind.KEY)
    for number in range(UNSIGNED_PER_USER_MAX):
        await world.begin("alice", key=f"k{number}")
    with pytest.raises(RateLimited, match="wait to be signed") as refused:
        await world.begin("alice", key="one-more")
    assert refused.value.details["retry_after_seconds"] == 2 * WINDOW_SECONDS
    first = await world.begin("alice", key="k0")
    await signed(world, "alice", first)
    assert (await world.begin("alice", key="one-more")).state is OperationState.UNSIGNED


async def test_promises_that_newcomers_leave_unsigned_starve_none_who_sign_or_paid(world: World) -> None:
    for name in ("alice", "bob"):
        await world.funded(name, WalletKind.KEY)
    cost = await cost_of(world, await world.begin("alice"))
    wallets = world.wallets(with_share(world, 5 * cost))  # half of it is for two and a bit
    await world.begin("alice", key="second", wallets=wallets)
    with pytest.raises(RateLimited, match="newcomers") as refused:
        await world.begin("bob", wallets=wallets)
    assert "passkey" in refused.value.next_step
    # A newcomer with a passkey, one whose key we have, and whoever paid once are not kept waiting.
    await world.funded("ann", WalletKind.PASSKEY)
    await world.begin("ann", wallets=wallets)
    await world.funded("ben")
    assert (await world.begin("ben", wallets=wallets)).state is OperationState.SIGNED
    world.payers.add("bob")
    assert (await world.begin("bob", wallets=wallets)).state is OperationState.UNSIGNED


async def test_without_a_share_of_their_own_newcomers_leave_half_of_the_day_to_who_paid(world: World) -> None:
    for name in ("alice", "bob"):
        await world.funded(name, WalletKind.KEY)
    cost = await cost_of(world, await world.begin("alice"))
    changes = {"newcomers_per_day": None, "per_day": f"{5 * cost / ETHER:.18f}"}
    wallets = world.wallets(world.policies[0].model_copy(update=changes))
    await world.begin("alice", key="second", wallets=wallets)
    with pytest.raises(RateLimited, match="newcomers"):
        await world.begin("bob", wallets=wallets)
    world.payers.add("bob")
    assert (await world.begin("bob", wallets=wallets)).state is OperationState.UNSIGNED


async def test_newcomers_share_a_part_of_the_day_and_those_who_paid_have_the_rest(world: World) -> None:
    await world.funded("ann")
    cost = await cost_of(world, await world.begin("ann"))
    wallets = world.wallets(with_share(world, cost * 3 // 2))
    for name in ("ben", "cem", "dan"):
        await world.funded(name)
    with pytest.raises(BudgetExceeded) as refused:
        await asyncio.gather(*(world.begin(name, wallets=wallets) for name in ("ben", "cem")))
    assert str(refused.value.details["budget"]).endswith(":newcomers")
    told = await wallets.gas_policy("dan")
    policies = told["policies"]
    assert isinstance(policies, list)
    assert list(policies[0]["left"]) == ["everybody", "newcomers", "you"]
    world.payers.add("dan")
    assert (await world.begin("dan", wallets=wallets)).state is OperationState.SIGNED
    told = await wallets.gas_policy("dan")
    policies = told["policies"]
    assert isinstance(policies, list)
    assert list(policies[0]["left"]) == ["everybody", "you"]


async def test_many_asking_at_once_do_not_pass_the_bound(world: World) -> None:
    await world.funded("alice", WalletKind.KEY)
    many = range(UNSIGNED_PER_USER_MAX + 3)
    asked = await asyncio.gather(*(world.begin("alice", key=f"k{number}") for number in many), return_exceptions=True)
    refused = [each for each in asked if isinstance(each, RateLimited)]
    assert len(refused) == 3
    promised = await world.database.pool.fetchval("select count(*) from paymaster.sponsorship")
    assert promised == UNSIGNED_PER_USER_MAX


async def test_only_whose_operation_it_is_confirms_it_while_it_is_offered(world: World) -> None:
    await world.funded("ann", WalletKind.PASSKEY)
    operation = await world.begin("ann")
    service = world.paymaster()
    with pytest.raises(Conflict, match="somebody else"):
        await service.confirm("mallory", operation.hash)
    with pytest.raises(NotFound):
        await service.confirm("ann", "0x" + "00" * 32)
    with pytest.raises(NotSponsored, match="has ended"):
        await world.paymaster(world.policies[1]).confirm("ann", operation.hash)
    await asyncio.gather(*(world.paymaster().confirm("ann", operation.hash) for _ in range(3)))
    assert await world.reserved() == await cost_of(world, operation)
    assert not await service.drop(operation.hash)


async def test_an_offer_that_nobody_took_up_is_forgotten_and_one_that_was_dropped_cannot_be_taken_up(
    world: World,
) -> None:
    await world.funded("ann", WalletKind.PASSKEY)
    lapsed, dropped = [await world.begin("ann", key=key) for key in ("lapsed", "dropped")]
    service = world.paymaster()
    assert await service.drop(dropped.hash)
    with pytest.raises(Conflict, match="released already"):
        await service.confirm("ann", dropped.hash)
    world.clock.advance(2 * WINDOW_SECONDS + 60)
    await fund(world)
    assert await state_of(world, lapsed) == "released"
    assert await world.reserved() == 0
