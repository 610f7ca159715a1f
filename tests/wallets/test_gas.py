"""Who pays for gas: the sponsor within its policies and budgets, the account in USDC, or the account in coin."""

from __future__ import annotations

import pytest

from agentnexus.core.errors import BudgetExceeded, InsufficientFunds, InvalidInput, NotAllowed, NotFound, Unavailable
from agentnexus.rails.evm.contracts import Call
from agentnexus.rails.evm.paymaster.refusals import NotSponsored
from agentnexus.wallets.model import GasPayer, OperationState, Transfer
from tests.wallets.conftest import WHOLE, World

pytestmark = pytest.mark.timeout(120)
ETHER = 10**18


async def begun(world: World) -> int:
    count: int = await world.database.pool.fetchval("select count(*) from wallet.operation")
    return count


async def test_an_operation_whose_budget_is_used_up_is_refused_and_begins_nothing(world: World) -> None:
    await world.funded("ann")
    poor = world.policies[0].model_copy(update={"per_user_day": "0.0000001"})
    with pytest.raises(BudgetExceeded):
        await world.begin("ann", wallets=world.wallets(poor))
    assert await begun(world) == 0
    # The key is free: with a policy that pays, the same request goes through.
    done = await world.wallets().settle((await world.begin("ann")).id)
    assert done.state is OperationState.SUCCEEDED


async def test_calls_that_no_policy_covers_are_refused(world: World) -> None:
    await world.funded("ann")
    stranger = Call("0x" + "ab" * 20, b"\x12\x34\x56\x78")
    with pytest.raises(NotSponsored):
        await world.begin("ann", stranger)
    assert await begun(world) == 0


async def test_free_gas_is_never_taken_from_a_policy_that_sells_it(world: World) -> None:
    await world.funded("ann")
    _, sold = world.policies
    with pytest.raises(NotSponsored, match="nobody's gas is paid here"):
        await world.begin("ann", wallets=world.wallets(sold))
    free, _ = world.policies
    with pytest.raises(NotSponsored, match="no gas is sold for USDC"):
        await world.begin("ann", wallets=world.wallets(free), gas=GasPayer.USDC)


async def test_gas_in_usdc_takes_an_allowance_first_and_then_is_paid_by_the_account(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    with pytest.raises(NotSponsored) as refused:
        await world.begin("ann", gas=GasPayer.USDC)
    assert "for gas, and the wallet lets 0.00 USDC be taken" in refused.value.message
    assert "let more be taken first, which is free: on /wallet" in refused.value.next_step
    assert "before its calls run" in refused.value.next_step
    offered = refused.value.details["allow"]
    assert isinstance(offered, dict)
    assert offered["spender"] == world.manifest.address("Paymaster")
    allowed = await wallets.settle((await wallets.allow_gas("ann", str(offered["amount"]), key="allow")).id)
    assert (allowed.state, allowed.purpose) == (OperationState.SUCCEEDED, "setting")
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE
    done = await wallets.settle((await world.begin("ann", world.pay(5), gas=GasPayer.USDC, wallets=wallets)).id)
    assert (done.state, done.gas) == (OperationState.SUCCEEDED, GasPayer.USDC)
    spent = 10 * WHOLE - await world.chain.usdc_of(wallet.address)
    assert spent > 5
    assert spent - 5 == await world.chain.usdc_of(world.manifest.address("Paymaster"))
    lines = {each.title: each for each in (await wallets.history("ann")).lines if each.operation_id == done.id}
    assert set(lines) == {"Gas, paid ahead", "Gas, not used", done.title}
    ahead, back = lines["Gas, paid ahead"].amount, lines["Gas, not used"].amount
    assert ahead is not None
    assert back is not None
    assert ahead.atomic - back.atomic == spent - 5


async def test_gas_in_usdc_is_asked_for_beside_what_is_sent_and_too_little_is_told_before_anything_is_lost(
    world: World,
) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    await wallets.settle((await wallets.allow_gas("ann", "50", key="allow")).id)
    with pytest.raises(InsufficientFunds, match="with its gas") as refused:
        await world.begin("ann", world.pay(10 * WHOLE), gas=GasPayer.USDC, wallets=wallets)
    assert refused.value.details["address"] == wallet.address
    # Its gas alone is more than is left now.
    await wallets.settle((await world.begin("ann", world.pay(10 * WHOLE - 1), key="k2", wallets=wallets)).id)
    with pytest.raises(InsufficientFunds, match="for its gas"):
        await world.begin("ann", world.pay(0), key="k3", gas=GasPayer.USDC, wallets=wallets)


async def test_what_the_paymaster_takes_ahead_is_never_more_than_was_told(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    await wallets.settle((await wallets.allow_gas("ann", "5", key="allow")).id)
    begun = await world.begin("ann", world.pay(0), gas=GasPayer.USDC, wallets=wallets)
    kept = await wallets.store.find(begun.id)
    assert kept is not None
    assert kept.body is not None
    price = world.policies[1].paid_in
    assert price is not None
    await wallets.settle(begun.id)
    lines = (await wallets.history("ann")).lines
    (ahead,) = [each.amount for each in lines if each.title == "Gas, paid ahead"]
    assert ahead is not None
    assert ahead.atomic <= price.most(kept.body) <= ahead.atomic * 11 // 10
    assert wallet.address == kept.body.sender


async def test_an_account_pays_its_own_gas_in_coin(world: World) -> None:
    wallet = await world.funded("ann")
    await world.give_coin(wallet.address, ETHER)
    wallets = world.wallets(sponsored=False)
    done = await wallets.settle((await world.begin("ann", gas=GasPayer.ACCOUNT, wallets=wallets)).id)
    assert done.state is OperationState.SUCCEEDED
    assert done.gas_cost_wei is not None
    assert (await wallets.balances("ann")).coin.atomic < ETHER


async def test_an_account_without_coin_for_its_gas_is_told_how_much_it_takes(world: World) -> None:
    wallet = await world.funded("ann")
    with pytest.raises(InsufficientFunds) as refused:
        await world.begin("ann", gas=GasPayer.ACCOUNT)
    assert refused.value.details["address"] == wallet.address
    assert refused.value.details["available"] == world.chain.network.native.zero().to_json()
    assert await begun(world) == 0


async def test_a_node_that_pays_for_nobody_says_so(world: World) -> None:
    await world.funded("ann")
    wallets = world.wallets(sponsored=False)
    for gas in (GasPayer.SPONSOR, GasPayer.USDC):
        with pytest.raises(Unavailable, match="pays nobody"):
            await world.begin("ann", gas=gas, wallets=wallets)
    with pytest.raises(Unavailable, match="sells no gas"):
        await wallets.allow_gas("ann", "1", key="k")
    assert (await wallets.gas_policy("ann"))["sponsor"] is None


async def test_an_empty_deposit_of_the_node_is_not_told_as_the_users_lack_of_money(world: World) -> None:
    """And it passes: the worker counts what is there, and somebody fills it."""
    await world.funded("ann")
    accounts = world.paymaster().accounts
    held = (await world.books.balance(accounts.deposit, world.chain.network.native)).posted
    await world.books.withdraw("emptied", accounts.deposit, held)
    with pytest.raises(Unavailable, match="pays gas from is used up") as refused:
        await world.begin("ann")
    assert refused.value.retryable
    await world.books.deposit("filled", accounts.deposit, held)
    assert (await world.begin("ann")).state is OperationState.SIGNED


async def test_the_policies_are_told_with_what_is_left_of_them(world: World) -> None:
    await world.funded("ann")
    wallets = world.wallets()
    await world.begin("ann", wallets=wallets)
    told = await wallets.gas_policy("ann")
    policies = told["policies"]
    assert isinstance(policies, list)
    assert [each["id"] for each in policies] == ["market", "market-in-usdc"]
    assert policies[0]["left"]


@pytest.mark.parametrize("usdc", [0, 4])
async def test_too_little_usdc_is_told_before_anything_is_built(world: World, usdc: int) -> None:
    wallet = await world.funded("ann", usdc=usdc)
    with pytest.raises(InsufficientFunds) as refused:
        await world.begin("ann", world.pay(3), world.pay(2))
    assert refused.value.details["needed"] == {**world.chain.usdc.zero().to_json(), "atomic": "5"}
    assert refused.value.details["available"] == {**world.chain.usdc.zero().to_json(), "atomic": str(usdc)}
    assert wallet.address in refused.value.next_step
    assert await world.database.pool.fetchval("select count(*) from paymaster.sponsorship") == 0


async def test_coin_is_sent_when_it_is_there_and_refused_when_it_is_not(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    items = [Transfer(world.seller, "0.5", "ETH")]
    with pytest.raises(InsufficientFunds):
        await wallets.send("ann", items, key="coin", gas=GasPayer.ACCOUNT)
    await world.give_coin(wallet.address, ETHER)
    before = await world.chain.rpc.read_int("eth_getBalance", world.seller, "latest")
    done = await wallets.settle((await wallets.send("ann", items, key="coin", gas=GasPayer.ACCOUNT)).id)
    assert done.state is OperationState.SUCCEEDED
    assert await world.chain.rpc.read_int("eth_getBalance", world.seller, "latest") == before + ETHER // 2


async def test_an_account_may_send_to_itself_but_not_change_itself_by_plain_calls(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    done = await wallets.settle((await wallets.send("ann", [Transfer(wallet.address, "1")], key="self")).id)
    assert done.state is OperationState.SUCCEEDED
    assert await world.chain.usdc_of(wallet.address) == 10 * WHOLE
    with pytest.raises(NotAllowed, match="settings"):
        await wallets.send("ann", [Call(wallet.address, b"\x01\x02\x03\x04")], key="settings")


async def test_nothing_is_sent_to_the_zero_address(world: World) -> None:
    await world.funded("ann")
    wallets = world.wallets()
    nobody = "0x" + "00" * 20
    for items in ([Transfer(nobody, "1")], [Transfer(nobody, "1", "ETH")], [Call(nobody, b"\x01\x02\x03\x04")]):
        with pytest.raises(InvalidInput, match="zero address"):
            await wallets.send("ann", items, key="k")


async def test_there_is_nothing_to_send_from_before_there_is_a_wallet(world: World) -> None:
    with pytest.raises(NotFound) as refused:
        await world.begin("nobody")
    assert "/wallet" in refused.value.next_step
