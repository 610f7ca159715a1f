"""Whose gas is paid: what the account runs is read from the chain, and what it says of itself counts for nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentnexus.rails.evm.contracts import AccountPlan, Owner
from agentnexus.rails.evm.delegation import designator
from agentnexus.rails.evm.encoding import from_hex, to_hex
from agentnexus.rails.evm.paymaster.refusals import NotSponsored
from agentnexus.rails.evm.paymaster.senders import clone_code, implementation_of, require_account
from agentnexus.rails.evm.paymaster.service import UserSponsor
from agentnexus.rails.evm.userops import OwnerSigner, Sender, UserOperation, build
from tests.paymaster.conftest import Desk

OURS, THEIRS, ACCOUNT = ("0x" + digit * 40 for digit in "123")
# Answers every call with a zero word: to EntryPoint that is "valid, for ever".
PERMISSIVE = bytes.fromhex("6360205ff35f526004601cf3")


@pytest.mark.parametrize("code", [clone_code(OURS), designator(OURS), designator(THEIRS)])
def test_clones_of_our_account_and_delegations_that_are_allowed_are_paid_for(code: bytes) -> None:
    require_account(ACCOUNT, code, OURS, (THEIRS,))


@pytest.mark.parametrize(
    "code",
    [
        clone_code(THEIRS),
        clone_code(OURS) + b"\x00",
        b"\x00" + clone_code(OURS),
        clone_code(OURS)[:-1],
        designator(THEIRS),
        designator(OURS) + b"\x00",
        bytes.fromhex("ef0101") + designator(OURS)[3:],
        bytes.fromhex("60205ff3"),
    ],
)
def test_code_that_is_anything_else_is_not(code: bytes) -> None:
    with pytest.raises(NotSponsored, match="other code") as refused:
        require_account(ACCOUNT, code, OURS, ())
    assert "factory" in refused.value.next_step


def test_a_policy_that_allows_a_delegation_does_not_allow_clones_of_it() -> None:
    with pytest.raises(NotSponsored, match="other code"):
        require_account(ACCOUNT, clone_code(THEIRS), OURS, (THEIRS,))


async def without_factory(desk: Desk, sender: str) -> UserOperation:
    """What alice's account would do, of another sender that has the tokens for it."""
    await desk.chain.mint(sender, 1_000_000)
    return replace(await desk.unsigned(), sender=sender, factory=None, factory_data=b"")


async def test_the_factorys_accounts_are_what_is_expected_of_them(desk: Desk) -> None:
    factory = desk.manifest.factory(desk.chain.rpc)
    implementation = await factory.implementation()
    assert implementation == implementation_of(factory.address)
    plan = AccountPlan(Owner(desk.chain.accounts["alice"].address))
    await desk.transact("relayer", factory.create(plan))
    code = await desk.chain.rpc.call("eth_getCode", await factory.address_of(plan), "latest")
    assert from_hex(code) == clone_code(implementation)


async def test_an_account_of_ours_that_exists_is_paid_for(desk: Desk) -> None:
    assert (await desk.send(await desk.build())).succeeded
    second = await desk.build()
    assert second.factory is None
    assert second.paymaster == desk.paymaster
    assert (await desk.send(second)).succeeded


async def test_a_contract_that_accepts_everything_gets_nothing(desk: Desk) -> None:
    before = await desk.booked()
    foreign = await desk.chain.deploy(PERMISSIVE)
    with pytest.raises(NotSponsored, match="other code"):
        await desk.service().sponsor("alice", await without_factory(desk, foreign))
    assert await desk.booked() == before


async def test_an_address_without_code_is_told_to_bring_its_factory(desk: Desk) -> None:
    nobody = (await desk.unsigned()).sender
    with pytest.raises(NotSponsored, match="no account at") as refused:
        await desk.service().sponsor("alice", await without_factory(desk, nobody))
    assert "factoryData" in refused.value.next_step


async def test_a_key_that_runs_our_account_is_paid_for_and_one_that_runs_other_code_only_by_its_policy(
    desk: Desk,
) -> None:
    bob = desk.chain.accounts["bob"]
    implementation = await desk.manifest.factory(desk.chain.rpc).implementation()
    await desk.chain.mint(bob.address, 1_000_000)

    async def built(*delegates: str) -> UserOperation:
        sponsor = UserSponsor(desk.service(desk.policy(delegates=delegates)), "bob")
        sender, signer = Sender.delegating(bob.signer, implementation), OwnerSigner(bob.signer)
        return await build(desk.chain.rpc, desk.bundler, sender, [desk.transfer()], signer=signer, sponsor=sponsor)

    first = await built(implementation)
    assert first.delegate == implementation
    assert (await desk.send(first)).succeeded
    second = await built()
    assert second.delegation is None
    assert (await desk.send(second)).succeeded

    foreign = (await desk.chain.deploy(PERMISSIVE)).lower()
    await desk.chain.rpc.call("anvil_setCode", bob.address, to_hex(designator(foreign)))
    operation = await without_factory(desk, bob.address)
    with pytest.raises(NotSponsored, match="other code"):
        await desk.service().sponsor("bob", operation)
    allowed = desk.service(desk.policy(delegates=(foreign,)))
    assert (await allowed.sponsor("bob", operation)).paymaster == desk.paymaster
