"""Gas that is sold: the account pays in USDC at the price its policy tells, and the books have both sides."""

from __future__ import annotations

import pytest

from agentnexus.rails.evm.paymaster.policy import Rule, SponsorPolicy, TokenPrice
from agentnexus.rails.evm.paymaster.refusals import NotSponsored
from agentnexus.rails.evm.paymaster.service import PaymasterService
from agentnexus.rails.evm.userops.sponsors import TOKEN_POST_OP_GAS, TOKEN_VERIFICATION_GAS
from tests.paymaster.conftest import ETHER, Desk, settle

USDC_PER_ETHER = 3_000_000_000  # atomic units of USDC for 10^18 wei


def selling(desk: Desk) -> SponsorPolicy:
    """Beside the tests' policy: the same, paid in USDC; the first one also pays for letting the paymaster take them."""
    price = TokenPrice(token=desk.chain.usdc.reference, per_native=USDC_PER_ETHER)
    return desk.policy(id="in-usdc", title="Paid in USDC", paid_in=price)


async def service_of(desk: Desk) -> PaymasterService:
    await desk.chain.mint((await desk.sender()).address, 10**9)
    approve = Rule(contract=desk.chain.usdc.reference, functions=("approve(address,uint256)",), to=(desk.paymaster,))
    free = desk.policy(rules=(*desk.policies[0].rules, approve))
    return desk.service(free, selling(desk))


async def usdc_booked(desk: Desk) -> int:
    accounts = desk.service().accounts
    return (await desk.books.balance(accounts.deposit, desk.chain.usdc)).posted.atomic


async def test_an_account_pays_its_gas_in_usdc_and_both_sides_are_booked(desk: Desk) -> None:
    service = await service_of(desk)
    account = (await desk.sender()).address
    await desk.send(await desk.build(desk.approve(10**9), service=service))
    await settle(desk.settling())
    before, usdc_before = (await desk.booked())[0], await desk.chain.usdc_of(account)
    operation = await desk.build(service=service, policy="in-usdc")
    receipt = await desk.send(operation)
    assert receipt.succeeded
    await settle(desk.settling())
    assert await desk.booked() == (before - receipt.gas_cost_wei, 0) == (await desk.on_chain(), 0)
    paid = await desk.chain.usdc_of(desk.paymaster)
    assert paid == usdc_before - await desk.chain.usdc_of(account) - 1
    assert paid == await usdc_booked(desk)
    # What is charged in tokens covers the gas, and not much more.
    assert receipt.gas_cost_wei * USDC_PER_ETHER // ETHER <= paid * 11 // 10
    assert (await desk.books.check()).clean


async def test_tokens_that_are_taken_out_leave_the_books_as_well(desk: Desk) -> None:
    service = await service_of(desk)
    await desk.send(await desk.build(desk.approve(10**9), service=service))
    await desk.send(await desk.build(service=service, policy="in-usdc"))
    paymaster, deployer = desk.manifest.paymaster(desk.chain.rpc), desk.chain.accounts["deployer"].address
    await desk.transact("deployer", paymaster.grant_role("WITHDRAWER_ROLE", deployer))
    await settle(desk.settling())
    assert await usdc_booked(desk) > 0
    # Tokens that came without an operation are taken out together with the rest.
    await desk.chain.mint(desk.paymaster, 7)
    everything = (1 << 256) - 1
    await desk.transact("deployer", paymaster.withdraw_tokens(desk.chain.usdc.reference, deployer, everything))
    await settle(desk.settling())
    assert await usdc_booked(desk) == 0 == await desk.chain.usdc_of(desk.paymaster)
    assert (await desk.books.check()).clean


async def test_a_reorganisation_takes_the_tokens_back_out_of_the_books(desk: Desk) -> None:
    service = await service_of(desk)
    await desk.send(await desk.build(desk.approve(10**9), service=service))
    await settle(desk.settling())
    snapshot = await desk.chain.snapshot()
    await desk.send(await desk.build(service=service, policy="in-usdc"))
    await settle(desk.settling())
    assert await usdc_booked(desk) > 0
    await desk.chain.revert(snapshot)
    await desk.chain.mine(2)
    await settle(desk.settling())
    assert await usdc_booked(desk) == 0
    assert (await desk.booked())[0] == await desk.on_chain()


async def test_an_account_that_cannot_pay_in_tokens_is_refused_before_anything_is_reserved(desk: Desk) -> None:
    service = await service_of(desk)
    with pytest.raises(NotSponsored, match="cannot pay") as refused:
        await desk.build(service=service, policy="in-usdc")
    assert "approve" in refused.value.next_step
    assert (await desk.booked())[1] == 0


async def test_the_price_can_be_read_and_the_stub_has_the_gas_it_takes(desk: Desk) -> None:
    service = await service_of(desk)
    described = (await service.describe("alice"))["policies"]
    assert isinstance(described, list)
    assert described[1]["paid_in"] == {"token": desk.chain.usdc.reference, "per_native": USDC_PER_ETHER}
    stub = service.stub("alice", await desk.unsigned(), "in-usdc")
    assert stub.paymaster_verification_gas_limit == TOKEN_VERIFICATION_GAS
    assert stub.paymaster_post_op_gas_limit == TOKEN_POST_OP_GAS
    assert stub.paymaster_data[0] == 1
