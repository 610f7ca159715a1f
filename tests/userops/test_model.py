"""The model of a user operation: hashes of another implementation, forms that come back whole, hostile input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts.entry_point import DELEGATION_MARKER
from agentnexus.rails.evm.delegation import DelegationSignature
from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.rpc import RpcValue
from agentnexus.rails.evm.userops import UserOperation
from agentnexus.rails.evm.userops.model import nonce_of
from tests.userops.conftest import Bench

# Made with viem 2.57's getUserOperationHash for EntryPoint 0.8.
HASHES: dict[str, dict[str, RpcValue]] = json.loads((Path(__file__).parent / "hashes.json").read_text())
U128, U256 = (1 << 128) - 1, (1 << 256) - 1

addresses = st.binary(min_size=20, max_size=20).map(to_hex)
small, large = st.integers(0, U128), st.integers(0, U256)
delegations = st.builds(
    DelegationSignature,
    chain_id=st.integers(0, U128),
    delegate=addresses,
    nonce=st.integers(0, U128),
    parity=st.integers(0, 1),
    r=large,
    s=large,
)


@st.composite
def operations(draw: st.DrawFn) -> UserOperation:
    operation = UserOperation(
        sender=draw(addresses),
        nonce=draw(large),
        call_data=draw(st.binary(max_size=80)),
        call_gas_limit=draw(small),
        verification_gas_limit=draw(small),
        pre_verification_gas=draw(large),
        max_fee_per_gas=draw(small),
        max_priority_fee_per_gas=draw(small),
        signature=draw(st.binary(max_size=80)),
    )
    made = draw(st.sampled_from(["exists", "factory", "delegation"]))
    if made == "factory":
        factory = draw(addresses.filter(lambda each: bytes.fromhex(each[2:]) != DELEGATION_MARKER))
        operation = replace(operation, factory=factory, factory_data=draw(st.binary(max_size=40)))
    if made == "delegation":
        operation = replace(operation, delegation=draw(delegations), factory_data=draw(st.binary(max_size=40)))
    if draw(st.booleans()):
        operation = replace(
            operation,
            paymaster=draw(addresses),
            paymaster_verification_gas_limit=draw(small),
            paymaster_post_op_gas_limit=draw(small),
            paymaster_data=draw(st.binary(max_size=80)),
        )
    return operation


@pytest.mark.parametrize("name", HASHES)
def test_hashes_are_those_of_another_implementation(name: str) -> None:
    case = HASHES[name]
    body, chain_id = case["operation"], case["chain_id"]
    assert isinstance(body, dict)
    assert isinstance(chain_id, int)
    assert to_hex(UserOperation.from_json(body).hash(chain_id)) == case["hash"]


async def test_hashes_are_those_of_the_contract(bench: Bench) -> None:
    entry_point = bench.manifest.entry_point(bench.chain.rpc)
    for name, case in HASHES.items():
        body = case["operation"]
        assert isinstance(body, dict)
        if "eip7702Auth" in body:
            continue  # the contract reads the delegate from the sender's code: the delegating tests send real ones
        operation = UserOperation.from_json(body)
        assert await entry_point.operation_hash(operation.pack()) == operation.hash(bench.chain.chain_id), name


@settings(max_examples=200, deadline=None)
@given(operations())
def test_packing_and_json_come_back_whole(operation: UserOperation) -> None:
    assert UserOperation.unpack(operation.pack(), delegation=operation.delegation) == operation
    assert UserOperation.from_json(operation.to_json()) == operation
    assert json.loads(json.dumps(operation.to_json())) == operation.to_json()


@settings(max_examples=100, deadline=None)
@given(operations(), st.binary(max_size=70))
def test_the_signature_is_not_part_of_the_hash(operation: UserOperation, signature: bytes) -> None:
    assert operation.signed(signature).hash(1) == operation.hash(1)


def test_everything_else_is_part_of_the_hash() -> None:
    other = "0x" + "11" * 20
    operation = UserOperation("0x" + "ab" * 20, 1, b"\x01", paymaster=other)
    changed = [
        replace(operation, sender=other),
        replace(operation, nonce=2),
        replace(operation, call_data=b""),
        replace(operation, factory=other),
        replace(operation, factory=other, factory_data=b"\x01"),
        replace(operation, call_gas_limit=1),
        replace(operation, verification_gas_limit=1),
        replace(operation, pre_verification_gas=1),
        replace(operation, max_fee_per_gas=1),
        replace(operation, max_priority_fee_per_gas=1),
        replace(operation, paymaster=None),
        replace(operation, paymaster_verification_gas_limit=1),
        replace(operation, paymaster_post_op_gas_limit=1),
        replace(operation, paymaster_data=b"\x00"),
    ]
    hashes = {each.hash(1) for each in (operation, *changed)} | {operation.hash(2), operation.hash(1, other)}
    assert len(hashes) == len(changed) + 3


def test_fees_are_packed_priority_first_and_gas_verification_first() -> None:
    packed = UserOperation(
        "0x" + "ab" * 20,
        0,
        b"",
        call_gas_limit=1,
        verification_gas_limit=2,
        max_fee_per_gas=3,
        max_priority_fee_per_gas=4,
        paymaster="0x" + "cd" * 20,
        paymaster_verification_gas_limit=5,
        paymaster_post_op_gas_limit=6,
        paymaster_data=b"\x07",
    ).pack()
    assert packed.account_gas_limits == (2).to_bytes(16, "big") + (1).to_bytes(16, "big")
    assert packed.gas_fees == (4).to_bytes(16, "big") + (3).to_bytes(16, "big")
    paid = b"\xcd" * 20 + (5).to_bytes(16, "big") + (6).to_bytes(16, "big") + b"\x07"
    assert packed.paymaster_and_data == paid


@pytest.mark.parametrize("field", ["call_gas_limit", "max_fee_per_gas", "paymaster_post_op_gas_limit"])
@pytest.mark.parametrize("value", [-1, 1 << 128])
def test_numbers_that_do_not_fit_are_refused(field: str, value: int) -> None:
    operation = UserOperation("0x" + "ab" * 20, 0, b"", paymaster="0x" + "cd" * 20)
    with pytest.raises(InvalidInput, match="128"):
        replace(operation, **{field: value}).pack()  # type: ignore[arg-type]  # a field by name


def test_a_packed_operation_that_is_cut_off_is_refused() -> None:
    whole = UserOperation("0x" + "ab" * 20, 0, b"", factory="0x" + "cd" * 20, paymaster="0x" + "cd" * 20).pack()
    for cut in (
        replace(whole, init_code=whole.init_code[:19]),
        replace(whole, paymaster_and_data=whole.paymaster_and_data[:51]),
        replace(whole, account_gas_limits=b""),
        replace(whole, init_code=DELEGATION_MARKER),
    ):
        with pytest.raises(InvalidInput):
            UserOperation.unpack(cut)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sender", None),
        ("sender", "0x12"),
        ("nonce", "12"),
        ("nonce", "0x" + "f" * 65),
        ("callData", "0x1"),
        ("callData", "nothing"),
        ("callGasLimit", {}),
        ("factory", "0xzz"),
        ("paymaster", 7),
        ("factory", "0x7702"),
        ("signature", ["0x"]),
    ],
)
def test_json_that_is_no_operation_is_refused_by_its_field(field: str, value: RpcValue) -> None:
    good = UserOperation("0x" + "ab" * 20, 0, b"").to_json()
    with pytest.raises(InvalidInput) as caught:
        UserOperation.from_json({**good, field: value})
    assert caught.value.details["field"] in {field, "eip7702Auth"}


def test_the_marker_of_a_delegation_is_read_short_and_long() -> None:
    body = HASHES["a delegating key"]["operation"]
    assert isinstance(body, dict)
    long = {**body, "factory": to_hex(DELEGATION_MARKER)}
    assert UserOperation.from_json(long) == UserOperation.from_json(body)
    assert UserOperation.from_json(body).to_json()["factory"] == "0x7702"


def test_a_nonce_is_a_lane_and_a_number() -> None:
    assert nonce_of(0, 7) == 7
    assert nonce_of(3, 7) == 3 << 64 | 7
    for lane, number in ((-1, 0), (1 << 192, 0), (0, 1 << 64), (0, -1)):
        with pytest.raises(InvalidInput):
            nonce_of(lane, number)


def test_the_most_it_can_cost_counts_every_limit() -> None:
    operation = UserOperation(
        "0x" + "ab" * 20,
        0,
        b"",
        call_gas_limit=1,
        verification_gas_limit=10,
        pre_verification_gas=100,
        paymaster="0x" + "cd" * 20,
        paymaster_verification_gas_limit=1_000,
        paymaster_post_op_gas_limit=10_000,
        max_fee_per_gas=3,
    )
    assert operation.gas_limit == 11_111
    assert operation.max_cost_wei == 33_333
