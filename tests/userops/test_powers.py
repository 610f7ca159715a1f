"""Who may do what with an account: session keys within their limits and times, owners anything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts import (
    AccountPlan,
    Call,
    ContractRefused,
    Grant,
    Limit,
    Owner,
    Permission,
)
from agentnexus.rails.evm.contracts.account import execute_data
from agentnexus.rails.evm.encoding import selector
from agentnexus.rails.evm.userops import OwnerSigner, SessionSigner
from tests.userops.conftest import Bench, Wallet
from tests.userops.soft_passkey import SoftPasskey

DAY = 86_400
TRANSFER = selector("transfer(address,uint256)")


async def with_session(bench: Bench, *, limit: int = 10, seconds: int = 3600) -> tuple[Wallet, SessionSigner]:
    """An account of alice with 100 atomic USDC, whose session key bob may transfer `limit` of."""
    wallet = await bench.wallet()
    await bench.chain.mint(wallet.address, 100)
    key = bench.chain.accounts["bob"]
    token = bench.chain.usdc.reference
    grant = Grant(
        key.address,
        await bench.now() + seconds,
        [Permission(token, TRANSFER), Permission.paymaster(bench.manifest.address("Paymaster"))],
        [Limit(limit, token)],
    )
    assert (await wallet.run(wallet.account.grant_session(grant))).succeeded
    return wallet, SessionSigner(key.signer)


async def test_a_session_key_acts_within_its_limit_and_not_over_it(bench: Bench) -> None:
    wallet, session = await with_session(bench)
    seller = bench.chain.accounts["seller-1"].address
    before = await bench.chain.usdc_of(seller)
    assert (await wallet.run(wallet.transfer(seller, 4), wallet.transfer(seller, 2), signer=session)).succeeded
    allowance = await wallet.account.session_allowance(session.signer.public_id, bench.chain.usdc.reference)
    assert (allowance.limit, allowance.spent, allowance.left) == (10, 6, 4)
    # With limits known, nothing is tried beforehand: the chain itself says no.
    operation = await wallet.build(wallet.transfer(seller, 4), signer=session)
    over = replace(operation, call_data=execute_data([wallet.transfer(seller, 5)]))
    assert wallet.sponsor is not None
    over = await wallet.sponsor.final(over)
    signed = over.signed(await session.sign(over.hash(bench.chain.chain_id)))
    with pytest.raises(ContractRefused) as caught:
        await bench.bundler.send(signed)
    assert caught.value.code_name == "AA23"
    assert isinstance(caught.value.inner, ContractRefused)
    assert caught.value.inner.error == "OverLimit"
    assert caught.value.inner.arguments["left"] == 4
    assert await bench.chain.usdc_of(seller) == before + 6


async def test_a_session_key_calls_nothing_else(bench: Bench) -> None:
    wallet, session = await with_session(bench)
    token = bench.chain.usdc.reference
    others = [
        wallet.approve(session.signer.public_id, 1),
        Call(token, selector("mint(address,uint256)")),
        wallet.account.set_guardian(session.signer.public_id, DAY),
        wallet.account.grant_session(Grant(session.signer.public_id, 2**40, [])),
        Call(session.signer.public_id, b"", 1),
    ]
    for call in others:
        operation = await wallet.build(wallet.transfer(wallet.address, 0), signer=session)
        assert wallet.sponsor is not None
        other = await wallet.sponsor.final(replace(operation, call_data=execute_data([call])))
        with pytest.raises(ContractRefused) as caught:
            await bench.bundler.send(other.signed(await session.sign(other.hash(bench.chain.chain_id))))
        assert isinstance(caught.value.inner, ContractRefused)
        assert caught.value.inner.error == "NotPermitted"
        assert caught.value.inner.arguments["target"] == call.target
        assert "owner" in caught.value.inner.next_step


async def test_a_session_without_a_paymaster_pays_its_own_gas_within_its_coin(bench: Bench) -> None:
    wallet = replace(await bench.wallet(), sponsor=None)
    key = bench.chain.accounts["bob"]
    await bench.send("alice", Call(wallet.address, b"", 10**17))
    grant = Grant(
        key.address, await bench.now() + 3600, [Permission(wallet.chain.usdc.reference, TRANSFER)], [Limit(10**16)]
    )
    assert (await wallet.run(wallet.account.grant_session(grant))).succeeded
    session = SessionSigner(key.signer)
    receipt = await wallet.run(wallet.transfer(wallet.address, 0), signer=session)
    assert receipt.succeeded
    assert receipt.paymaster is None
    assert 0 < (await wallet.account.session_allowance(key.address)).spent < 10**16
    sponsored = replace(wallet, sponsor=bench.sponsor())
    with pytest.raises(ContractRefused) as caught:
        await sponsored.run(wallet.transfer(wallet.address, 0), signer=session)
    assert isinstance(caught.value.inner, ContractRefused)
    assert caught.value.inner.arguments["target"] == bench.manifest.address("Paymaster")


async def test_a_session_ends_when_it_is_revoked(bench: Bench) -> None:
    wallet, session = await with_session(bench)
    key = session.signer.public_id
    assert await wallet.account.session(key) is not None
    assert await wallet.account.session_permits(key, bench.chain.usdc.reference, TRANSFER)
    assert (await wallet.run(wallet.account.revoke_session(key))).succeeded
    assert await wallet.account.session(key) is None
    with pytest.raises(ContractRefused, match="AA24"):
        await wallet.run(wallet.transfer(wallet.address, 0), signer=session)


async def test_a_session_ends_when_its_time_is_over(bench: Bench) -> None:
    wallet, session = await with_session(bench, seconds=30)
    pending = await wallet.build(wallet.transfer(wallet.address, 0), signer=session)
    # Within the sponsorship's five minutes still, so it is the session that is over.
    await bench.chain.set_next_block_time(await bench.now() + 60)
    await bench.chain.mine()
    with pytest.raises(ContractRefused) as caught:
        await bench.bundler.send(pending)
    assert caught.value.code_name == "AA22"
    assert "expired" in caught.value.next_step


async def test_new_owners_end_all_sessions(bench: Bench) -> None:
    wallet, session = await with_session(bench)
    passkey = SoftPasskey()
    assert (await wallet.run(wallet.account.set_owner(passkey.owner))).succeeded
    assert (await wallet.account.owner()) == passkey.owner
    assert not await wallet.account.session_permits(session.signer.public_id, bench.chain.usdc.reference, TRANSFER)
    with pytest.raises(ContractRefused, match="AA24"):
        await wallet.run(wallet.transfer(wallet.address, 0))
    assert (await wallet.run(wallet.transfer(wallet.address, 0), signer=passkey.signer())).succeeded


async def test_only_owners_sign_what_sessions_may_not(bench: Bench) -> None:
    wallet = await bench.wallet()
    stranger = OwnerSigner(bench.chain.accounts["outsider"].signer)
    with pytest.raises(ContractRefused, match="AA24"):
        await wallet.run(wallet.transfer(wallet.address, 0), signer=stranger)


def test_an_account_of_nobody_cannot_be_planned() -> None:
    with pytest.raises(InvalidInput, match="owner"):
        Owner()


def test_an_operation_without_calls_is_none() -> None:
    with pytest.raises(InvalidInput, match="call"):
        execute_data([])


async def test_addresses_are_known_without_asking_the_chain(bench: Bench) -> None:
    factory = bench.manifest.factory(bench.chain.rpc)
    implementation = await factory.implementation()
    for plan in (
        AccountPlan(Owner("0x" + "ab" * 20)),
        AccountPlan(SoftPasskey().owner, "0x" + "cd" * 20, DAY, b"\x07" * 32),
    ):
        assert plan.address(factory.address, implementation) == await factory.address_of(plan)
