"""Operations brought on chain by our own relayer."""

from __future__ import annotations

from tests.userops.conftest import Bench


async def test_a_sponsored_operation_makes_the_account_and_runs_its_calls(bench: Bench) -> None:
    wallet = await bench.wallet()
    seller = bench.chain.accounts["seller-1"].address
    await bench.chain.mint(wallet.address, 10)
    before = await bench.chain.usdc_of(seller)
    receipt = await wallet.run(wallet.transfer(seller, 4), wallet.transfer(seller, 3))
    assert receipt.succeeded
    assert receipt.paymaster == bench.manifest.address("Paymaster")
    assert await bench.chain.usdc_of(seller) == before + 7
    assert await bench.chain.rpc.read_int("eth_getBalance", wallet.address, "latest") == 0
    second = await wallet.run(wallet.transfer(seller, 1))
    assert second.succeeded
    assert second.gas_used < receipt.gas_used
