"""What a key of one's own signs: exactly the operation that was asked for, whatever a node says about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import pytest

from agentnexus.cli.approving import (
    Asked,
    calls_of,
    in_words,
    require_passing,
    require_purchase,
    require_transfer,
    transfer,
)
from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.rails.evm.contracts.abi import abi_of, encode_values
from agentnexus.rails.evm.contracts.account import execute_data
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.contracts.entitlements import Voucher
from agentnexus.rails.evm.contracts.escrow import DealTerms
from agentnexus.rails.evm.delegation import DelegationSignature
from agentnexus.rails.evm.encoding import from_hex, selector, to_hex
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.signer import LocalSigner, recover
from agentnexus.rails.evm.userops.model import UserOperation
from agentnexus.wallets.signing import typed_data

CHAIN = 31337
KEY = LocalSigner(b"\x07" * 32, NetworkKind.LOCAL)
OWN, BOB, USDC, ESCROW, RIGHTS = ("0x" + f"{n:02x}" * 20 for n in range(0xA1, 0xA6))
SEND = transfer(USDC, BOB, 1_500_000)
TOKENS = {USDC: ("USDC", 6)}
RUNS = 9 << 64
ONE = (frozenset({RUNS, RUNS + (1 << 64)}), 1)


def operation(*calls: Call, **fields: object) -> UserOperation:
    made = UserOperation(OWN, 5, execute_data(calls or (SEND,)), call_gas_limit=90_000, max_fee_per_gas=7)
    return replace(made, **fields)  # type: ignore[arg-type]  # passed on


def request(made: UserOperation, **changes: object) -> dict[str, object]:
    told = made.delegation
    delegation = told and {"chainId": told.chain_id, "address": told.delegate, "nonce": told.nonce}
    return {
        "hash": to_hex(made.hash(CHAIN)), "typed_data": typed_data(made, CHAIN), "delegation": delegation, **changes,
    }  # fmt: skip


def delegating() -> UserOperation:
    return operation(sender=KEY.public_id, delegation=DelegationSignature(CHAIN, ESCROW, 3, 0, 0, 0))


def purchase(
    amount: int = 40_000,
    *,
    buyer: str = OWN,
    holder: str = OWN,
    allowed: int | None = None,
    token: int = RUNS,
    count: int = 1,
) -> list[Call]:
    terms, voucher = DealTerms(buyer, BOB, amount, 1, 250), Voucher(holder, token, 1, 2**40, bytes(32), count)
    approve = selector("approve(address,uint256)")
    return [
        Call(USDC, approve + encode_values(["address", "uint256"], [ESCROW, amount if allowed is None else allowed])),
        Call(ESCROW, abi_of("Escrow").encode("deposit", (terms.value(),))),
        Call(RIGHTS, abi_of("Entitlements").encode("mintWithVoucher", (voucher.value(), BOB, b"\x01" * 65))),
    ]


async def test_the_signature_is_the_owners_over_what_was_read() -> None:
    made = operation()
    asked = Asked.read(request(made))
    asked.require_calls([SEND])
    answer = await asked.sign(KEY)
    assert set(answer) == {"signature"}
    assert recover(made.hash(CHAIN), from_hex(answer["signature"])) == KEY.public_id


async def test_a_delegating_key_signs_its_delegation_as_well() -> None:
    made = delegating()
    asked = Asked.read(request(made))
    answer = await asked.sign(KEY)
    assert made.delegation is not None
    assert recover(made.delegation.digest, from_hex(answer["delegation"])) == KEY.public_id
    assert recover(made.hash(CHAIN), from_hex(answer["signature"])) == KEY.public_id


async def test_another_key_than_the_address_own_delegates_nothing() -> None:
    with pytest.raises(NotAllowed, match="is to delegate"):
        await Asked.read(request(delegating())).sign(LocalSigner(b"\x08" * 32, NetworkKind.LOCAL))


@pytest.mark.parametrize("field", ["chainId", "address", "nonce"])
def test_a_delegation_to_anything_else_is_refused(field: str) -> None:
    good = request(delegating())
    told = cast("dict[str, object]", good["delegation"])
    wrong = {"chainId": 1, "address": BOB, "nonce": None}[field]
    with pytest.raises(NotAllowed, match="unreadable"):
        Asked.read({**good, "delegation": {**told, field: wrong}})


def changed(part: str, **fields: object) -> dict[str, object]:
    """The request with these fields of its typed data replaced, hash and all else as they were."""
    good = request(operation())
    typed = cast("dict[str, dict[str, object]]", good["typed_data"])
    return {**good, "typed_data": {**typed, part: {**typed[part], **fields}}}


@pytest.mark.parametrize(
    "body",
    [
        changed("domain", name="USD Coin"),
        changed("domain", version="2"),
        changed("domain", verifyingContract=BOB),
        changed("domain", chainId="one"),
        changed("message", sender="me"),
        changed("message", callData="0x12345678"),
        changed("message", callData=None),
        changed("message", gasFees="0x00"),
        changed("message", nonce="x"),
        request(operation(), typed_data={}),
        request(operation(), typed_data={"domain": [], "message": [], "primaryType": "PackedUserOperation"}),
        request(operation(), typed_data={**typed_data(operation(), CHAIN), "primaryType": "Permit"}),
    ],
)
def test_what_is_no_operation_is_not_signed(body: Mapping[str, object]) -> None:
    with pytest.raises(NotAllowed, match="unreadable"):
        Asked.read(body)


@pytest.mark.parametrize(
    "body",
    [
        changed("domain", chainId=1),
        changed("message", sender=BOB),
        changed("message", nonce="6"),
        changed("message", callData=to_hex(execute_data([transfer(USDC, BOB, 1)]))),
        changed("message", paymasterAndData="0x" + "11" * 52),
        request(operation(), hash="0x" + "00" * 32),
        request(operation(), hash=None),
    ],
)
def test_a_hash_of_anything_else_than_what_is_shown_is_not_signed(body: Mapping[str, object]) -> None:
    with pytest.raises(NotAllowed, match="another hash"):
        Asked.read(body)


def test_a_passkeys_wallet_is_signed_for_in_the_browser() -> None:
    with pytest.raises(NotAllowed, match="not signed for by a key"):
        Asked.read({"hash": "0x", "typed_data": None})


@pytest.mark.parametrize(
    "calls",
    [
        [transfer(USDC, BOB, 1_500_001)],
        [transfer(USDC, OWN, 1_500_000)],
        [transfer(ESCROW, BOB, 1_500_000)],
        [SEND, SEND],
        [replace(SEND, value=1)],
        [Call(BOB, b"", 1)],
        [Call(USDC, selector("approve(address,uint256)") + SEND.data[4:]), SEND],
    ],
)
def test_a_node_cannot_slip_in_other_calls(calls: list[Call]) -> None:
    asked = Asked.read(request(operation(*calls)))
    with pytest.raises(NotAllowed, match="something else"):
        asked.require_calls([SEND])


@pytest.mark.parametrize(("asset", "call"), [("usdc", SEND), (USDC, SEND), ("ETH", Call(BOB, b"", 15 * 10**17))])
def test_a_transfer_is_of_what_was_typed(asset: str, call: Call) -> None:
    asked = Asked.read(request(operation(call)))
    require_transfer(asked, BOB, "1.5", asset, TOKENS)
    for to, amount in ((OWN, "1.5"), (BOB, "1.50001")):
        with pytest.raises(NotAllowed, match="something else"):
            require_transfer(asked, to, amount, asset, TOKENS)


def test_a_token_is_no_coin() -> None:
    with pytest.raises(NotAllowed, match="something else"):
        require_transfer(Asked.read(request(operation())), BOB, "1.5", "ETH", TOKENS)


def test_a_token_of_unknown_decimals_is_not_signed_for_unseen() -> None:
    with pytest.raises(NotAllowed, match="decimals"):
        require_transfer(Asked.read(request(operation())), BOB, "1.5", ESCROW, TOKENS)


def test_a_purchase_is_one_deposit_of_its_amount_for_rights_of_the_wallet() -> None:
    require_purchase(Asked.read(request(operation(*purchase()))), token=USDC, amount_atomic=40_000, rights=ONE)


@pytest.mark.parametrize(
    "calls",
    [
        purchase(50_000),
        purchase(allowed=2**256 - 1),
        purchase(buyer=BOB),
        purchase(holder=BOB),
        purchase(token=RUNS + 1),
        purchase(token=7 << 64),
        purchase(count=2),
        [*purchase(), SEND],
        purchase()[:2],
        [purchase()[0], replace(purchase()[1], value=5), purchase()[2]],
        [purchase()[0], replace(purchase()[1], target=BOB), purchase()[2]],
        [replace(purchase()[0], target=BOB), *purchase()[1:]],
        [purchase()[0], replace(purchase()[1], data=purchase()[1].data[:40]), purchase()[2]],
    ],
)
def test_a_purchase_of_anything_else_is_not_signed(calls: list[Call]) -> None:
    asked = Asked.read(request(operation(*calls)))
    with pytest.raises(NotAllowed, match="something else than this purchase"):
        require_purchase(asked, token=USDC, amount_atomic=40_000, rights=ONE)


def passing(count: int = 2, *, giver: str = OWN, to: str = BOB, token: int = RUNS, data: bytes = b"") -> Call:
    return Call(RIGHTS, abi_of("Entitlements").encode("safeTransferFrom", (giver, to, token, count, data)))


def test_passing_on_is_one_transfer_of_that_token_count_and_receiver() -> None:
    require_passing(Asked.read(request(operation(passing()))), BOB, 2, ONE[0])


@pytest.mark.parametrize(
    "calls",
    [
        [passing(3)],
        [passing(to=ESCROW)],
        [passing(giver=BOB)],
        [passing(token=RUNS + 1)],
        [passing(token=7 << 64)],
        [passing(data=b"x")],
        [passing(), SEND],
        [passing(), passing()],
        [replace(passing(), value=1)],
        [replace(passing(), data=passing().data[:90])],
        [SEND],
        purchase(),
    ],
)
def test_passing_anything_else_on_is_not_signed(calls: list[Call]) -> None:
    with pytest.raises(NotAllowed, match="something else than passing that on"):
        require_passing(Asked.read(request(operation(*calls))), BOB, 2, ONE[0])


def test_calls_are_said_in_words() -> None:
    said = [in_words(call, OWN, TOKENS) for call in (SEND, *purchase())]
    assert said[0] == f"send 1.50 USDC to {BOB}"
    assert said[1] == f"let 0.04 USDC be taken by {ESCROW}"
    assert said[2:] == [f"deposit of {ESCROW}", f"mintWithVoucher of {RIGHTS}"]
    guardian = Call(OWN, abi_of("Account").encode("setGuardian", (BOB, 86_400)))
    assert in_words(guardian, OWN, {}) == "setGuardian of this wallet"
    assert in_words(Call(BOB, b"", 5 * 10**17), OWN, {}) == f"send to {BOB}, with 0.50 of the chain's coin"
    assert in_words(passing(), OWN, {}) == f"pass 2 of the tokens of {RIGHTS} on to {BOB}"
    assert in_words(Call(BOB, b"\1\2\3\4"), OWN, {}) == f"call 0x01020304 of {BOB}"
    assert in_words(SEND, OWN, {}) == f"send 1500000 atomic units of {USDC} to {BOB}"


def test_calls_are_read_as_they_were_packed() -> None:
    calls = [SEND, Call(BOB, b"", 7), *purchase()]
    assert calls_of(execute_data(calls)) == calls
    for wrong in (b"", execute_data(calls)[:40], b"\0\0\0\0" + execute_data(calls)[4:]):
        with pytest.raises(InvalidInput):
            calls_of(wrong)
