"""Gas paid in a token: the paymaster takes USDC at a signed price, and gives back what was not used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts import ContractRefused, Policy
from agentnexus.rails.evm.contracts.paymaster import DUMMY_SIGNATURE, Mode
from agentnexus.rails.evm.userops import UserOperation
from tests.userops.conftest import Bench, Wallet

USDC_PER_ETHER = 3_000 * 10**6
TOKEN = "0x" + "ab" * 20


async def paying_in_usdc(bench: Bench) -> Wallet:
    """An account without coin whose gas the paymaster sells for USDC, and which it may take them from."""
    wallet = await bench.wallet()
    paymaster = bench.manifest.address("Paymaster")
    await bench.chain.mint(wallet.address, 100 * 10**6)
    await wallet.run(wallet.approve(paymaster, 50 * 10**6))
    sponsor = bench.sponsor(token=bench.chain.usdc.reference, token_per_native=USDC_PER_ETHER)
    return replace(wallet, sponsor=sponsor)


async def test_an_account_pays_its_gas_in_usdc_and_no_more_than_it_cost(bench: Bench) -> None:
    wallet = await paying_in_usdc(bench)
    paymaster = bench.manifest.address("Paymaster")
    before, earned = await bench.chain.usdc_of(wallet.address), await bench.chain.usdc_of(paymaster)
    receipt = await wallet.run(wallet.transfer(bench.chain.accounts["bob"].address, 1))
    assert receipt.succeeded
    assert receipt.paymaster == paymaster
    paid = before - 1 - await bench.chain.usdc_of(wallet.address)
    assert paid == await bench.chain.usdc_of(paymaster) - earned
    price = receipt.gas_cost_wei * USDC_PER_ETHER // 10**18
    assert paid > 0
    assert abs(paid - price) <= price // 4 + 1


async def test_without_an_allowance_the_paymaster_refuses(bench: Bench) -> None:
    wallet = await paying_in_usdc(bench)
    await wallet.run(wallet.approve(bench.manifest.address("Paymaster"), 0))
    with pytest.raises(ContractRefused):
        await wallet.run(wallet.transfer(wallet.address, 0))


async def test_calls_that_fail_are_paid_for_all_the_same(bench: Bench) -> None:
    wallet = await paying_in_usdc(bench)
    operation = await wallet.build(wallet.transfer(bench.chain.accounts["bob"].address, 90 * 10**6))
    sent = await bench.bundler.send(operation)
    assert (await bench.bundler.receipt(sent)).succeeded
    before = await bench.chain.usdc_of(wallet.address)
    second = await wallet.build(wallet.transfer(wallet.address, 0))
    too_much = replace(second, call_data=operation.call_data)
    assert wallet.sponsor is not None
    too_much = await wallet.sponsor.final(too_much)
    sent = await bench.bundler.send(too_much.signed(await wallet.signer.sign(too_much.hash(bench.chain.chain_id))))
    receipt = await bench.bundler.receipt(sent)
    assert not receipt.succeeded
    assert isinstance(receipt.reason, ContractRefused)
    assert receipt.reason.error == "ERC20InsufficientBalance"
    assert await bench.chain.usdc_of(wallet.address) < before


async def test_what_the_service_signs_is_what_the_contract_checks(bench: Bench) -> None:
    paymaster = bench.manifest.paymaster(bench.chain.rpc)
    operation = UserOperation(
        "0x" + "12" * 20,
        7,
        b"\x01\x02",
        factory="0x" + "34" * 20,
        factory_data=b"\x05",
        call_gas_limit=1,
        verification_gas_limit=2,
        pre_verification_gas=3,
        max_fee_per_gas=5,
        max_priority_fee_per_gas=4,
        paymaster=paymaster.address,
        paymaster_verification_gas_limit=6,
        paymaster_post_op_gas_limit=7,
    ).pack()
    for policy in (Policy(100), Policy(2**40, 99), Policy(100, 1, TOKEN, 10**9)):
        ours = policy.digest(operation, bench.chain.chain_id, paymaster.address)
        assert ours == await paymaster.sponsorship_hash(operation, policy)
        assert ours != policy.digest(operation, bench.chain.chain_id + 1, paymaster.address)


def test_a_policy_is_laid_out_as_the_contract_reads_it() -> None:
    plain = Policy(0x010203040506, 0x0A0B).data(b"s")
    assert plain == b"\x00" + b"\x00\x00\x00\x00\x0a\x0b" + b"\x01\x02\x03\x04\x05\x06" + b"s"
    sold = Policy(1, token=TOKEN, token_per_native=2).data()
    assert sold[0] == Mode.PAID_IN_TOKEN
    assert sold[13:33] == b"\xab" * 20
    assert int.from_bytes(sold[33:65], "big") == 2
    assert sold[65:] == DUMMY_SIGNATURE
    assert len(DUMMY_SIGNATURE) == 65


@pytest.mark.parametrize(
    "wrong",
    [
        {"valid_until": 0},
        {"valid_until": 5, "valid_after": 5},
        {"valid_until": 1 << 47},
        {"valid_until": 5, "valid_after": -1},
        {"valid_until": 5, "token": TOKEN},
        {"valid_until": 5, "token_per_native": 1},
    ],
)
def test_policies_that_mean_nothing_cannot_be_made(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidInput):
        Policy(**wrong)  # type: ignore[arg-type]  # by name


def test_an_operation_without_a_paymaster_is_not_signed_for() -> None:
    with pytest.raises(InvalidInput, match="no paymaster"):
        Policy(5).digest(UserOperation("0x" + "12" * 20, 0, b"").pack(), 1, TOKEN)
