"""What a policy pays for: read from the operation's own calldata, whatever the asker says about it."""

from __future__ import annotations

import json
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


PURCHASE = (call(USDC, APPROVE, ESCROW, 5), call(ESCROW, "deposit()"))


def test_an_operation_fits_when_every_call_is_covered() -> None:
    assert POLICY.refusal("alice", operation(*PURCHASE)) == ""


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
    assert "covers no call" in POLICY.refusal("alice", operation(*PURCHASE, wrong))


def test_nobodys_address_means_the_account_itself() -> None:
    """The account runs calls to the zero address on itself, so a rule for one is a rule for the other."""
    own = POLICY.model_copy(update={"rules": (Rule(contract=SELF, functions=("revokeSession(address)",)),)})
    revoke = selector("revokeSession(address)") + word(OTHER)
    for target in (ALICE, ZERO_ADDRESS):
        assert own.refusal("alice", operation(Call(target, revoke))) == ""
        assert own.refusal("alice", operation(Call(target, selector("setOwner()")))) != ""
    zero = POLICY.model_copy(update={"rules": (Rule(contract=ZERO_ADDRESS),)})
    assert zero.refusal("alice", operation(Call(ZERO_ADDRESS, b""))) != ""


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
    assert "users" in POLICY.model_copy(update={"users": ("bob",)}).refusal("alice", purchase)
    assert POLICY.model_copy(update={"users": ("alice",)}).refusal("alice", purchase) == ""
    assert "accounts" in POLICY.model_copy(update={"senders": (OTHER,)}).refusal("alice", purchase)
    assert POLICY.model_copy(update={"senders": (ALICE,)}).refusal("alice", purchase) == ""
    assert "factory" in POLICY.refusal("alice", operation(*PURCHASE, factory=OTHER))
    assert POLICY.model_copy(update={"factories": (OTHER,)}).refusal("a", operation(*PURCHASE, factory=OTHER)) == ""
    assert "gas limits" in POLICY.model_copy(update={"maximum_gas": 249_999}).refusal("alice", purchase)
    assert "preVerificationGas" in POLICY.model_copy(update={"maximum_pre_verification_gas": 49_999}).refusal(
        "alice", purchase
    )


def test_the_first_policy_that_fits_is_taken_unless_one_is_asked_for() -> None:
    narrow = POLICY.model_copy(update={"id": "narrow", "rules": (Rule(contract=OTHER),)})
    wide = POLICY.model_copy(update={"id": "wide"})
    policies = (narrow, POLICY, wide)
    assert choose(policies, "alice", operation(*PURCHASE), "").id == "purchases"
    assert choose(policies, "alice", operation(*PURCHASE), "wide").id == "wide"
    with pytest.raises(NotSponsored, match="narrow: it covers no call") as refused:
        choose(policies, "alice", operation(*PURCHASE), "narrow")
    assert set(refused.value.details["reasons"]) == {"narrow"}  # type: ignore[call-overload]  # a JSON object
    with pytest.raises(InvalidInput, match="no policy gone"):
        choose(policies, "alice", operation(*PURCHASE), "gone")


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
