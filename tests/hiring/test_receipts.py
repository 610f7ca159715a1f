"""Receipts are checked offline; whoever changes anything in one is found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from agentnexus.core.canonical import content_hash
from agentnexus.core.offers import Constraints, Need, Quote, RefundRule
from agentnexus.core.payments import PaymentRecord, PaymentState, Receipt, ReceiptStatus
from agentnexus.hiring.receipts import (
    RECEIPT_BYTES_MAX,
    TransactionFact,
    sign_receipt,
    signed_bytes,
    verify_receipt,
    verify_transactions,
)
from agentnexus.platform.signing import Ed25519Signer
from tests.hiring.support import NEED, NOW, USDC, WALLET, make_offer, seller_key, usd

SIGNER = Ed25519Signer.from_seed(b"\x01" * 32)
OTHER = Ed25519Signer.from_seed(b"\x02" * 32)
OUTPUT = {"echo": {"text": "hello"}}


def payment(**changes: object) -> PaymentRecord:
    fields: dict[str, object] = {
        "rail": "evm",
        "network": USDC.network,
        "asset": USDC.caip19,
        "amount": "20000",
        "payer": WALLET,
        "payee": seller_key(1),
        "transaction": "0xabc",
        "state": PaymentState.CONFIRMED,
    }
    return PaymentRecord.model_validate(fields | changes)


def unsigned(**changes: object) -> Receipt:
    offer = make_offer(1)
    fields: dict[str, object] = {
        "id": "rct_1",
        "job_id": "job_1",
        "need_hash": NEED.hash(),
        "offer": offer,
        "quote": Quote(
            offer_id=offer.id,
            job_id="job_1",
            maximum=usd("0.02"),
            valid_until=NOW + timedelta(minutes=5),
            refund_rule=RefundRule.NOT_SETTLED_ON_FAILURE,
        ),
        "status": ReceiptStatus.SETTLED,
        "payments": (payment(),),
        "result_hash": content_hash(OUTPUT),
        "started_at": NOW,
        "finished_at": NOW + timedelta(seconds=2),
    }
    return Receipt.model_validate(fields | changes)


async def signed(**changes: object) -> Receipt:
    return await sign_receipt(unsigned(**changes), SIGNER)


async def test_a_receipt_survives_json_and_is_valid() -> None:
    receipt = await signed()
    for form in (receipt.model_dump_json(), receipt.model_dump_json().encode(), receipt.model_dump(mode="json")):
        report = verify_receipt(form, signers=[SIGNER.public_id], need=NEED, output=OUTPUT)
        assert report.valid, report.failures
    assert report.to_json()["signer"] == SIGNER.public_id


def leaves(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths to every value in a JSON document that is not a container, and to every empty container."""
    if isinstance(value, dict) and value:
        return [found for key, child in value.items() for found in leaves(child, (*path, key))]
    if isinstance(value, list) and value:
        return [found for number, child in enumerate(value) for found in leaves(child, (*path, number))]
    return [path]


def changed(value: object) -> object:
    """Another value of the same kind, still of the right form where forms are strict."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value + 0.5
        case str() if value[:4] == "2026":
            return value.replace("2026", "2027", 1)
        case str() if value.isdigit():
            return str(int(value) + 1)
        case str():
            return value + "x"
        case None:
            return "x"
        case list():
            return ["x"]
        case _:
            return {"x": "y"}


async def test_a_change_of_any_single_field_is_found() -> None:
    receipt = json.loads((await signed()).model_dump_json())
    paths = leaves(receipt)
    assert len(paths) > 60
    for path in paths:
        tampered = json.loads(json.dumps(receipt))
        node = tampered
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = changed(node[path[-1]])
        assert not verify_receipt(tampered).valid, path


async def test_a_field_that_is_added_or_taken_away_is_found() -> None:
    receipt = json.loads((await signed()).model_dump_json())
    assert not verify_receipt({**receipt, "bonus": 1}).valid
    for name in receipt:
        without = {key: value for key, value in receipt.items() if key != name}
        report = verify_receipt(without)
        # A field at its default may be left out: the receipt means the same, and its signature still holds.
        default = Receipt.model_fields[name].get_default(call_default_factory=True)
        if report.valid:
            assert receipt[name] == default, name


async def test_a_receipt_signed_by_somebody_else_is_valid_only_where_that_signer_is_accepted() -> None:
    receipt = await sign_receipt(unsigned(), OTHER)
    assert verify_receipt(receipt.model_dump_json()).valid
    report = verify_receipt(receipt.model_dump_json(), signers=[SIGNER.public_id])
    assert [check.name for check in report.failures] == ["signer"]


async def test_another_signers_name_on_a_receipt_does_not_hold() -> None:
    receipt = (await signed()).model_copy(update={"signer": OTHER.public_id})
    assert "signature" in {check.name for check in verify_receipt(receipt.model_dump_json()).failures}


@pytest.mark.parametrize("signature", ["", "AAAA", "not base64!", "A" * 5000])
async def test_a_malformed_signature_is_no_signature(signature: str) -> None:
    receipt = (await signed()).model_copy(update={"signature": signature})
    assert not verify_receipt(receipt.model_dump_json()).valid


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"id": 1}', "[" * 100_000, b"\xff\xfe"])
def test_what_is_not_a_receipt_is_refused_with_a_reason(text: str | bytes) -> None:
    report = verify_receipt(text)
    assert not report.valid
    assert report.failures[0].name == "form"
    assert report.to_json()["id"] is None


def test_a_receipt_of_absurd_size_is_refused_before_it_is_read() -> None:
    assert "bytes" in verify_receipt(" " * (RECEIPT_BYTES_MAX + 1)).failures[0].detail


# A buyer's node may lie as well: these are signed properly and contradict themselves.
LIES: dict[str, tuple[str, Callable[[], dict[str, object]]]] = {
    "more paid than quoted": ("payments.total", lambda: {"payments": (payment(amount="20001"),)}),
    "two payments over the quote": (
        "payments.total",
        lambda: {"payments": (payment(amount="15000"), payment(amount="15000", transaction="0xdef"))},
    ),
    "quote of another offer": ("quote.offer", lambda: {"offer": make_offer(2)}),
    "quote of another job": ("quote.job", lambda: {"job_id": "job_2"}),
    "payment without a quote": ("quote", lambda: {"quote": None}),
    "another asset": (
        "payments.asset",
        lambda: {"payments": (payment(asset="eip155:31337/erc20:0x" + "9" * 40),)},
    ),
    "another network": ("payments.0.network", lambda: {"payments": (payment(network="eip155:1"),)}),
    "negative amount": ("payments.total", lambda: {"payments": (payment(amount="-5"),)}),
    "amount in words": ("payments.total", lambda: {"payments": (payment(amount="a lot"),)}),
    "amount in other digits": ("payments.total", lambda: {"payments": (payment(amount="\uff12\uff10"),)}),
    "amount zero": ("payments.0.amount", lambda: {"payments": (payment(amount="0"),)}),
    "paid without a transaction": ("payments.0.transaction", lambda: {"payments": (payment(transaction=""),)}),
    "paid and refunded": ("payments.0.refund", lambda: {"payments": (payment(refund_transaction="0xdef"),)}),
    "payer missing": ("payments.0.parties", lambda: {"payments": (payment(payer=""),)}),
    "payment still open": ("payments.final", lambda: {"payments": (payment(state=PaymentState.HELD),)}),
    "settled without a result": ("status", lambda: {"result_hash": ""}),
    "settled with an error": ("status", lambda: {"error": {"code": "x"}}),
    "refunded yet paid": (
        "status",
        lambda: {"status": ReceiptStatus.REFUNDED, "error": {"code": "x"}, "result_hash": ""},
    ),
    "failed without a reason": ("status", lambda: {"status": ReceiptStatus.FAILED}),
    "finished before it started": ("times", lambda: {"finished_at": NOW - timedelta(seconds=1)}),
    "unknown version": ("version", lambda: {"version": 2}),
}


@pytest.mark.parametrize("lie", sorted(LIES))
async def test_a_signed_receipt_that_contradicts_itself_is_not_valid(lie: str) -> None:
    name, changes = LIES[lie]
    report = verify_receipt((await signed(**changes())).model_dump_json())
    assert name in {check.name for check in report.failures}


async def test_a_refunded_receipt_is_valid() -> None:
    back = payment(state=PaymentState.REFUNDED, transaction="", refund_transaction="0xdef")
    receipt = await signed(
        status=ReceiptStatus.REFUNDED, payments=(back,), result_hash="", error={"code": "seller_failed", "message": "m"}
    )
    assert verify_receipt(receipt.model_dump_json()).valid


async def test_another_need_another_result_or_a_price_over_the_limit_is_found() -> None:
    text = (await signed()).model_dump_json()
    assert verify_receipt(text, need=Need(capability="other")).failures[0].name == "need_hash"
    assert verify_receipt(text, output={"echo": {}}).failures[0].name == "result_hash"
    tight = NEED.model_copy(update={"constraints": Constraints(max_price=usd("0.01"))})
    receipt = await signed(need_hash=tight.hash())
    report = verify_receipt(receipt.model_dump_json(), need=tight)
    assert [check.name for check in report.failures] == ["max_price"]


async def test_the_networks_word_is_asked_for_every_paid_payment() -> None:
    report = verify_receipt((await signed()).model_dump_json())
    true = TransactionFact(succeeded=True, payer=WALLET.upper(), payee=seller_key(1), amount=20000)
    facts = {
        True: true,
        False: None,
        "failed": TransactionFact(succeeded=False, payer=WALLET, payee=seller_key(1), amount=20000),
        "less": TransactionFact(succeeded=True, payer=WALLET, payee=seller_key(1), amount=19999),
        "elsewhere": TransactionFact(succeeded=True, payer=WALLET, payee=seller_key(2), amount=20000),
    }
    for name, fact in facts.items():

        async def lookup(record: PaymentRecord, fact: TransactionFact | None = fact) -> TransactionFact | None:
            return fact

        assert (await verify_transactions(report, lookup)).valid is (name is True), name


async def test_online_checks_of_what_is_no_receipt_stay_invalid() -> None:
    async def lookup(record: PaymentRecord) -> None:
        raise AssertionError("nothing to look up")

    assert not (await verify_transactions(verify_receipt("{}"), lookup)).valid


async def test_what_older_receipts_lack_is_not_in_what_is_signed() -> None:
    """Or their signatures would not be good any more."""
    old = await sign_receipt(unsigned(payments=(payment(),)), SIGNER)
    assert b"authorization" not in signed_bytes(old)
    assert b"counted" not in signed_bytes(old)
    assert verify_receipt(old.model_dump_json()).valid
    assert verify_receipt(old.model_dump_json(), signers=[SIGNER.public_id]).valid
    new = await sign_receipt(unsigned(payments=(payment(authorization="0x" + "1" * 64),)), SIGNER)
    assert verify_receipt(new.model_dump_json()).valid
    taken_out = json.loads(new.model_dump_json())
    del taken_out["payments"][0]["authorization"]
    assert not verify_receipt(taken_out).valid
