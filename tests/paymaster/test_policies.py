"""What a policy pays for: read from the operation's own calldata, whatever the asker says about it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentnexus.core.errors import (
    BudgetExceeded,
    Conflict,
    InsufficientFunds,
    InvalidInput,
    RateLimited,
    Unavailable,
)
from agentnexus.core.money import Asset
from agentnexus.rails.evm.contracts import Call
from agentnexus.rails.evm.contracts.abi import abi_of, encode_values
from agentnexus.rails.evm.contracts.account import execute_data
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, selector, word
from agentnexus.rails.evm.errors import Reverted
from agentnexus.rails.evm.paymaster.policy import (
    CALLS_MAX,
    SELF,
    Rule,
    SponsorPolicy,
    account_calls,
    choose,
    read_policies,
)
from agentnexus.rails.evm.paymaster.refusals import (
    DEPOSIT_TOO_LOW,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    OPERATION_REJECTED,
    PAYMASTER_REJECTED,
    THROTTLED,
    NotSponsored,
    rpc_code,
)
from agentnexus.rails.evm.userops import UserOperation

USDC, ESCROW, OTHER, ALICE = ("0x" + digit * 40 for digit in "abcd")
ETH = Asset("ETH", 18, "eip155:31337/slip44:60")
APPROVE, TRANSFER = "approve(address,uint256)", "transfer(address,uint256)"
POLICY = SponsorPolicy(
    id="purchases",
    title="Purchases",
    rules=(Rule(contract=USDC, functions=(APPROVE,), to=(ESCROW,)), Rule(contract=ESCROW)),
    per_operation="0.01",
    per_user_day="0.05",
    per_day="1",
)


def call(contract: str, function: str, *words: str | int) -> Call:
    return Call(contract, selector(function) + b"".join(word(each) for each in words))


def operation(*calls: Call, data: bytes | None = None, **fields: object) -> UserOperation:
    return UserOperation(
        sender=ALICE,
        nonce=0,
        call_data=execute_data(calls) if data is None else data,
        call_gas_limit=100_000,
        verification_gas_limit=100_000,
        pre_verification_gas=50_000,
        **fields,  # type: ignore[arg-type]  # fields by name
    )


def refusal(policy: SponsorPolicy, user_id: str, made: UserOperation) -> str:
    return policy.refusal(user_id, made, account_calls(made))


def chosen(policies: Sequence[SponsorPolicy], user_id: str, made: UserOperation, wanted: str) -> SponsorPolicy:
    return choose(policies, user_id, made, account_calls(made), wanted)


PURCHASE = (call(USDC, APPROVE, ESCROW, 5), call(ESCROW, "deposit()"))


def test_an_operation_fits_when_every_call_is_covered() -> None:
    assert refusal(POLICY, "alice", operation(*PURCHASE)) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        call(USDC, TRANSFER, ESCROW, 5),
        call(USDC, APPROVE, OTHER, 5),
        call(OTHER, APPROVE, ESCROW, 5),
        Call(USDC, selector(APPROVE)),
        Call(USDC, selector(APPROVE) + b"\x01" + word(ESCROW)[1:]),
        Call(USDC, b""),
        Call(ALICE, b""),
        Call(ZERO_ADDRESS, b""),
    ],
)
def test_one_call_that_is_not_covered_refuses_the_whole(wrong: Call) -> None:
    assert "covers no call" in refusal(POLICY, "alice", operation(*PURCHASE, wrong))


def test_nobodys_address_means_the_account_itself() -> None:
    """The account runs calls to the zero address on itself, so a rule for one is a rule for the other."""
    own = POLICY.model_copy(update={"rules": (Rule(contract=SELF, functions=("revokeSession(address)",)),)})
    revoke = selector("revokeSession(address)") + word(OTHER)
    for target in (ALICE, ZERO_ADDRESS):
        assert refusal(own, "alice", operation(Call(target, revoke))) == ""
        assert refusal(own, "alice", operation(Call(target, selector("setOwner()")))) != ""
    zero = POLICY.model_copy(update={"rules": (Rule(contract=ZERO_ADDRESS),)})
    assert refusal(zero, "alice", operation(Call(ZERO_ADDRESS, b""))) != ""


@pytest.mark.parametrize("itself", [ALICE, ZERO_ADDRESS])
def test_a_batch_that_the_account_is_told_to_run_inside_its_batch_hides_no_calls(itself: str) -> None:
    generous = POLICY.model_copy(update={"rules": (*POLICY.rules, Rule(contract=SELF))})
    foreign = call(OTHER, TRANSFER, OTHER, 5)
    assert "covers no call" in refusal(generous, "alice", operation(foreign))
    wrapped = Call(itself, execute_data([foreign]))
    for calls in ((wrapped,), (*PURCHASE, wrapped), (Call(itself, execute_data([wrapped])),)):
        with pytest.raises(NotSponsored, match="inside the batch") as refused:
            account_calls(operation(*calls))
        assert refused.value.next_step
    with pytest.raises(NotSponsored, match="inside the batch"):
        account_calls(operation(Call(itself, execute_data(PURCHASE)[:4])))
    named = generous.model_copy(update={"rules": (Rule(contract=SELF, functions=("execute(bytes32,bytes)",)),)})
    with pytest.raises(NotSponsored, match="inside the batch"):
        refusal(named, "alice", operation(wrapped))
    assert refusal(generous, "alice", operation(Call(itself, selector("revokeSession(address)") + word(OTHER)))) == ""


def bomb(places: int, size: int) -> bytes:
    """A batch whose places all hold one and the same call, of `size` bytes of data."""
    one = word(ESCROW) + word(0) + word(96) + word(size) + bytes(size)
    batch = word(32) + word(places) + word(32 * places) * places + one
    return abi_of("Account").encode("execute", (b"\x01" + bytes(31), batch))


def test_a_batch_has_a_bound_that_is_checked_before_it_takes_memory() -> None:
    assert len(account_calls(operation(*[PURCHASE[1]] * CALLS_MAX))) == CALLS_MAX
    assert [each.data for each in account_calls(operation(data=bomb(CALLS_MAX, 64)))] == [bytes(64)] * CALLS_MAX
    with pytest.raises(NotSponsored, match="more than 32 calls") as refused:
        account_calls(operation(*[PURCHASE[1]] * (CALLS_MAX + 1)))
    assert refused.value.next_step
    large = operation(data=bomb(1_000, 1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(NotSponsored, match="more than 32 calls"):
            account_calls(large)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20, "a thousand copies would take a gigabyte"
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("head", [word(1 << 255), word(64), word(32) + word((1 << 256) - 1), word(32) + word(33)])
def test_a_batch_whose_numbers_lie_is_not_sponsored(head: bytes) -> None:
    with pytest.raises(NotSponsored):
        account_calls(operation(data=abi_of("Account").encode("execute", (b"\x01" + bytes(31), head))))


_BATCH = encode_values(["(address,uint256,bytes)[]"], [[(ESCROW, 0, b"")]])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 3,
        selector(TRANSFER) + word(ESCROW) + word(1),
        execute_data([PURCHASE[1]])[:-40],
        abi_of("Account").encode("execute", (b"\x00" * 32, _BATCH)),
        abi_of("Account").encode("execute", (b"\x01\x01" + bytes(30), _BATCH)),
        abi_of("Account").encode("execute", (b"\xff" + bytes(31), _BATCH)),
        abi_of("Account").encode("execute", (b"\x01" + bytes(31), b"")),
        abi_of("Account").encode("execute", (b"\x01" + bytes(31), encode_values(["(address,uint256,bytes)[]"], [[]]))),
        b"\xde\xad\xbe\xef" + abi_of("Account").encode("execute", (b"\x01" + bytes(31), _BATCH))[4:],
    ],
)
def test_calldata_that_is_no_plain_batch_is_not_sponsored(data: bytes) -> None:
    with pytest.raises(NotSponsored) as refused:
        account_calls(operation(data=data))
    assert refused.value.next_step


def test_users_accounts_factories_and_gas_are_checked() -> None:
    purchase = operation(*PURCHASE)
    assert "users" in refusal(POLICY.model_copy(update={"users": ("bob",)}), "alice", purchase)
    assert refusal(POLICY.model_copy(update={"users": ("alice",)}), "alice", purchase) == ""
    assert "accounts" in refusal(POLICY.model_copy(update={"senders": (OTHER,)}), "alice", purchase)
    assert refusal(POLICY.model_copy(update={"senders": (ALICE,)}), "alice", purchase) == ""
    assert "factory" in refusal(POLICY, "alice", operation(*PURCHASE, factory=OTHER))
    assert refusal(POLICY.model_copy(update={"factories": (OTHER,)}), "a", operation(*PURCHASE, factory=OTHER)) == ""
    assert "gas limits" in refusal(POLICY.model_copy(update={"maximum_gas": 249_999}), "alice", purchase)
    assert "preVerificationGas" in refusal(
        POLICY.model_copy(update={"maximum_pre_verification_gas": 49_999}), "alice", purchase
    )


def test_the_first_policy_that_fits_is_taken_unless_one_is_asked_for() -> None:
    narrow = POLICY.model_copy(update={"id": "narrow", "rules": (Rule(contract=OTHER),)})
    wide = POLICY.model_copy(update={"id": "wide"})
    policies = (narrow, POLICY, wide)
    assert chosen(policies, "alice", operation(*PURCHASE), "").id == "purchases"
    assert chosen(policies, "alice", operation(*PURCHASE), "wide").id == "wide"
    with pytest.raises(NotSponsored, match="narrow: it covers no call") as refused:
        chosen(policies, "alice", operation(*PURCHASE), "narrow")
    assert set(refused.value.details["reasons"]) == {"narrow"}  # type: ignore[call-overload]  # a JSON object
    with pytest.raises(InvalidInput, match="no policy gone"):
        chosen(policies, "alice", operation(*PURCHASE), "gone")


def test_limits_are_in_the_chains_coin() -> None:
    limits, own = POLICY.limits(ETH), POLICY.user_limits(ETH)
    assert limits.per_payment == ETH.parse("0.01")
    assert limits.per_day == ETH.parse("1")
    assert own.per_day == ETH.parse("0.05")
    assert own.per_hour is None
    hourly = POLICY.model_copy(update={"per_user_hour": "0.02"})
    assert hourly.user_limits(ETH).per_hour == ETH.parse("0.02")


def test_policies_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "policies.json"
    path.write_text(json.dumps([POLICY.model_dump(mode="json")]))
    assert read_policies(path) == (POLICY,)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"rules": []}, "at least 1"),
        ({"rules": [{"contract": "0x12"}]}, "not an EVM address"),
        ({"rules": [{"contract": USDC, "functions": ["approve"]}]}, "not a function"),
        ({"rules": [{"contract": USDC, "unknown": 1}]}, "Extra inputs"),
        ({"per_day": "-1"}, "not an amount"),
        ({"per_day": "much"}, "not an amount"),
        ({"id": "Two Words"}, "pattern"),
        ({"maximum_gas": 0}, "greater than 0"),
    ],
)
def test_a_policy_that_makes_no_sense_is_named(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    path = tmp_path / "policies.json"
    path.write_text(json.dumps([{**POLICY.model_dump(mode="json"), **change}]))
    with pytest.raises(InvalidInput, match=problem):
        read_policies(path)


def test_a_file_of_policies_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    path = tmp_path / "policies.json"
    with pytest.raises(InvalidInput, match=r"policies\.json"):
        read_policies(path)
    path.write_text("{")
    with pytest.raises(InvalidInput, match=r"policies\.json"):
        read_policies(path)
    path.write_text(json.dumps([POLICY.model_dump(mode="json")] * 2))
    with pytest.raises(InvalidInput, match="two policies"):
        read_policies(path)


def test_every_refusal_has_a_code_that_wallets_know() -> None:
    assert rpc_code(InvalidInput("x")) == INVALID_PARAMS
    assert rpc_code(NotSponsored("x")) == PAYMASTER_REJECTED
    assert rpc_code(Conflict("x")) == PAYMASTER_REJECTED
    assert rpc_code(BudgetExceeded("x")) == THROTTLED
    assert rpc_code(RateLimited("x")) == THROTTLED
    assert rpc_code(InsufficientFunds("x")) == DEPOSIT_TOO_LOW
    assert rpc_code(Reverted("x")) == OPERATION_REJECTED
    assert rpc_code(Unavailable("x")) == INTERNAL_ERROR
