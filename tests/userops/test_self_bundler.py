"""Operations brought on chain by our own relayer: once each, whatever is asked twice, fails, or dies in between."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agentnexus.core.errors import NotFound, PaymentFailed, PaymentUnknown
from agentnexus.platform.database import Database
from agentnexus.rails.evm.contracts import Call, ContractRefused, Policy
from agentnexus.rails.evm.contracts.account import execute_data
from agentnexus.rails.evm.contracts.entry_point import EntryPoint
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.errors import NodeError
from agentnexus.rails.evm.rpc import RpcValue
from agentnexus.rails.evm.userops import SelfBundler, UserOperation, estimate
from tests.userops.conftest import Bench, Wallet


async def resigned(wallet: Wallet, operation: UserOperation) -> UserOperation:
    """A changed operation, sponsored and signed again."""
    if wallet.sponsor is not None:
        operation = await wallet.sponsor.final(operation)
    return operation.signed(await wallet.signer.sign(operation.hash(wallet.chain.chain_id)))


async def test_a_sponsored_operation_makes_the_account_and_runs_its_calls(bench: Bench) -> None:
    wallet = await bench.wallet()
    seller = bench.chain.accounts["seller-1"].address
    await bench.chain.mint(wallet.address, 10)
    before = await bench.chain.usdc_of(seller)
    receipt = await wallet.run(wallet.transfer(seller, 4), wallet.transfer(seller, 3))
    assert receipt.succeeded
    assert receipt.paymaster == bench.manifest.address("Paymaster")
    assert len(receipt.logs) == 2
    assert await bench.chain.usdc_of(seller) == before + 7
    assert await bench.chain.rpc.read_int("eth_getBalance", wallet.address, "latest") == 0
    second = await wallet.run(wallet.transfer(seller, 1))
    assert second.succeeded
    assert second.gas_used < receipt.gas_used


async def test_an_account_with_coin_pays_for_itself(bench: Bench) -> None:
    wallet = await bench.wallet(sponsored=False)
    await bench.send("alice", Call(wallet.address, b"", 10**18))
    receipt = await wallet.run(Call(bench.chain.accounts["bob"].address, b"", 7))
    assert receipt.succeeded
    assert receipt.paymaster is None
    left = await bench.chain.rpc.read_int("eth_getBalance", wallet.address, "latest")
    deposit = await bench.manifest.entry_point(bench.chain.rpc).deposit_of(wallet.address)
    assert left + deposit == 10**18 - 7 - receipt.gas_cost_wei


async def test_the_relayer_gets_back_what_it_spends(bench: Bench) -> None:
    wallet, relayer = await bench.wallet(), bench.chain.accounts["relayer"].address
    await wallet.run(wallet.transfer(wallet.address, 0))
    for _ in range(3):
        before = await bench.chain.rpc.read_int("eth_getBalance", relayer, "latest")
        await wallet.run(wallet.transfer(wallet.address, 0))
        assert await bench.chain.rpc.read_int("eth_getBalance", relayer, "latest") >= before


async def test_the_same_operation_twice_is_mined_once(bench: Bench) -> None:
    wallet = await bench.wallet()
    operation = await wallet.build(wallet.transfer(wallet.address, 0))
    sent = await asyncio.gather(*(bench.bundler.send(operation) for _ in range(4)))
    assert set(sent) == {to_hex(operation.hash(bench.chain.chain_id))}
    receipts = await asyncio.gather(*(bench.bundler.receipt(each) for each in sent))
    assert len({each.transaction for each in receipts}) == 1
    later = await bench.bundler.send(operation)
    assert await bench.bundler.receipt(later) == receipts[0]


async def test_lanes_do_not_wait_for_each_other(bench: Bench) -> None:
    wallet = await bench.wallet()
    await wallet.run(wallet.transfer(wallet.address, 0))
    operations = [await wallet.build(wallet.transfer(wallet.address, 0), lane=lane) for lane in range(1, 5)]
    sent = [await bench.bundler.send(each) for each in reversed(operations)]
    assert all([(await bench.bundler.receipt(each)).succeeded for each in sent])


async def test_calls_that_would_fail_are_refused_before_anything_is_paid(bench: Bench) -> None:
    wallet = await bench.wallet()
    with pytest.raises(ContractRefused) as caught:
        await wallet.run(wallet.transfer(bench.chain.accounts["bob"].address, 1))
    assert caught.value.error == "ERC20InsufficientBalance"
    assert caught.value.next_step


async def test_calls_that_fail_on_the_chain_are_told_with_their_reason(bench: Bench) -> None:
    wallet, bob = await bench.wallet(), bench.chain.accounts["bob"].address
    operation = await wallet.build(wallet.transfer(bob, 0))
    failing = await resigned(wallet, replace(operation, call_data=execute_data([wallet.transfer(bob, 5)])))
    receipt = await bench.bundler.receipt(await bench.bundler.send(failing))
    assert not receipt.succeeded
    assert isinstance(receipt.reason, ContractRefused)
    assert receipt.reason.error == "ERC20InsufficientBalance"
    assert receipt.logs == ()
    assert receipt.gas_cost_wei > 0


async def test_an_operation_entry_point_refuses_is_not_sent(bench: Bench) -> None:
    wallet = await bench.wallet()
    operation = await wallet.build(wallet.transfer(wallet.address, 0))
    operation_of_another_policy = replace(operation, paymaster_data=Policy(2**40).data())
    refused = {
        "AA24": operation.signed(operation.signature[:-1] + b"\x1d"),
        "AA34": operation_of_another_policy.signed(
            await wallet.signer.sign(operation_of_another_policy.hash(bench.chain.chain_id))
        ),
        "AA25": await resigned(wallet, replace(operation, nonce=5)),
        "AA13": await resigned(wallet, replace(operation, verification_gas_limit=60_000)),
    }
    before = await bench.chain.rpc.read_int("eth_blockNumber")
    for code, each in refused.items():
        with pytest.raises(ContractRefused) as caught:
            await bench.bundler.send(each)
        assert caught.value.code_name == code
        assert caught.value.next_step
    assert await bench.chain.rpc.read_int("eth_blockNumber") == before


async def test_operations_that_pay_less_than_they_cost_are_not_sent(bench: Bench) -> None:
    """Otherwise whoever signs one spends our relayer's coin."""
    wallet = await bench.wallet()
    operation = await wallet.build(wallet.transfer(wallet.address, 0))
    for cheap in (
        replace(operation, max_fee_per_gas=0, max_priority_fee_per_gas=0),
        replace(operation, max_fee_per_gas=operation.max_fee_per_gas // 4),
        replace(operation, max_priority_fee_per_gas=0),
        replace(operation, pre_verification_gas=1),
    ):
        with pytest.raises(PaymentFailed, match="offers") as caught:
            await bench.bundler.send(await resigned(wallet, cheap))
        assert "again" in caught.value.next_step
    little_less = replace(operation, pre_verification_gas=operation.pre_verification_gas * 95 // 100)
    assert await bench.bundler.send(await resigned(wallet, little_less))


async def test_an_account_without_coin_or_sponsor_is_refused(bench: Bench) -> None:
    wallet = await bench.wallet(sponsored=False)
    with pytest.raises(ContractRefused, match="AA21"):
        await wallet.run(wallet.transfer(wallet.address, 0))


async def test_an_operation_that_never_came_is_not_found(bench: Bench) -> None:
    with pytest.raises(NotFound, match="no operation"):
        await bench.bundler.receipt("0x" + "12" * 32)


async def test_waiting_ends_in_time_and_goes_on_later(bench: Bench) -> None:
    wallet = await bench.wallet()
    operation = await wallet.build(wallet.transfer(wallet.address, 0))
    await bench.chain.automine(False)
    sent = await bench.bundler.send(operation)
    with pytest.raises(PaymentUnknown):
        await bench.bundler.receipt(sent, timeout_seconds=0.05)
    await bench.chain.automine(True)
    await bench.chain.mine()
    assert (await bench.bundler.receipt(sent)).succeeded


async def test_another_process_finds_what_a_dead_one_stored(bench: Bench, database: Database) -> None:
    wallet = await bench.wallet()
    operation = await wallet.build(wallet.transfer(wallet.address, 0))
    await bench.chain.automine(False)
    sent = await bench.bundler.send(operation)
    await bench.bundler.close()
    await bench.chain.automine(True)
    await bench.chain.mine()
    relayer = bench.chain.accounts["relayer"].signer
    async with await SelfBundler.open(database, bench.chain.rpc, bench.chain.chain_id, relayer) as second:
        assert (await second.receipt(sent)).succeeded
        assert await second.send(operation) == sent
    nonce = await bench.manifest.entry_point(bench.chain.rpc).nonce(wallet.address)
    assert nonce == 1


async def test_an_operation_that_somebody_else_bundled_first_is_found_where_it_was_mined(bench: Bench) -> None:
    wallet = await bench.wallet()
    operation = await wallet.build(wallet.transfer(wallet.address, 0))
    await bench.chain.automine(False)
    sent = await bench.bundler.send(operation)
    outsider = bench.chain.accounts["outsider"]
    call = EntryPoint(bench.chain.rpc).handle([operation.pack()], outsider.address)
    faster: dict[str, RpcValue] = {
        "from": outsider.address,
        "to": call.target,
        "data": to_hex(call.data),
        "gas": hex(2_000_000),
        "maxFeePerGas": hex(200 * 10**9),
        "maxPriorityFeePerGas": hex(100 * 10**9),
    }
    theirs = await bench.chain.rpc.call("eth_sendTransaction", faster)
    await bench.chain.mine()
    await bench.chain.automine(True)
    receipt = await bench.bundler.receipt(sent)
    assert receipt.succeeded
    assert receipt.transaction == theirs


async def test_a_bundle_whose_operation_went_stale_did_not_happen(bench: Bench) -> None:
    """Two operations of one nonce: the second passes while the first waits, and fails when both are mined."""
    wallet, bob = await bench.wallet(), bench.chain.accounts["bob"].address
    await wallet.run(wallet.transfer(wallet.address, 0))
    one, two = [await wallet.build(wallet.transfer(bob, 0), wallet.transfer(bob, 0)) for _ in range(2)]
    two = await resigned(wallet, replace(two, call_data=execute_data([wallet.approve(bob, 3)])))
    await bench.chain.automine(False)
    sent = [await bench.bundler.send(one)]
    try:
        sent.append(await bench.bundler.send(two))
    except ContractRefused as error:  # a node whose pending state has the first one knows already
        assert error.code_name == "AA25"
    await bench.chain.mine()
    await bench.chain.automine(True)
    assert (await bench.bundler.receipt(sent[0])).succeeded
    for late in sent[1:]:
        with pytest.raises(PaymentFailed, match="did not happen"):
            await bench.bundler.receipt(late)


async def test_without_simulation_limits_are_generous_and_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def missing(*_: object) -> list[int]:
        raise NodeError("eth_simulateV1", -32601, "not here")

    monkeypatch.setattr(estimate, "_simulate", missing)
    wallet = await bench.wallet()
    assert (await wallet.run(wallet.transfer(wallet.address, 0))).succeeded


async def test_limits_are_near_what_is_used(bench: Bench) -> None:
    """EntryPoint takes a tenth of what is left over, from 40,000 gas on."""
    wallet = await bench.wallet()
    await wallet.run(wallet.transfer(wallet.address, 0))
    operation = await wallet.build(wallet.transfer(wallet.address, 0))
    receipt = await bench.bundler.receipt(await bench.bundler.send(operation))
    assert receipt.gas_used <= operation.gas_limit
    assert operation.gas_limit - receipt.gas_used < 80_000
