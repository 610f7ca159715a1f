"""Reading the transaction in a payment: the scheme's layout and nothing else, whatever a stranger sends."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from tests.x402.svm.support import NETWORK, PRICE, USDC, USDC_TOKEN
from x402.schemas import PaymentPayload, PaymentRequirements
from x402.schemas.v1 import PaymentPayloadV1

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset, Money
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.kinds import requirement_for, spent_by
from agentnexus.markets.x402.svm.exact import LIGHTHOUSE_PROGRAM, check_terms, parse_transfer
from agentnexus.markets.x402.svm.pricing import exact_on_solana
from agentnexus.markets.x402.wire import WireError, present
from agentnexus.rails.solana import exact
from agentnexus.rails.solana.programs import (
    COMPUTE_BUDGET_PROGRAM,
    MEMO_PROGRAM,
    TOKEN_2022_PROGRAM,
    TOKEN_PROGRAM,
    Token,
    compute_unit_limit,
    compute_unit_price,
    memo,
    transfer_sol,
    transfer_tokens,
)

BUYER, SELLER, SPONSOR, OTHER = (Keypair.from_seed(bytes([number]) * 32) for number in range(1, 5))
BLOCKHASH = Hash.from_bytes(b"\x07" * 32)
ASSET = Asset("USDC", 6, f"{NETWORK}/token:{USDC}")
DESTINATION = USDC_TOKEN.account_of(SELLER.pubkey())


def payment(**changes: object) -> exact.Payment:
    terms: dict[str, object] = {
        "fee_payer": SPONSOR.pubkey(),
        "payer": BUYER.pubkey(),
        "payee": SELLER.pubkey(),
        "token": USDC_TOKEN,
        "amount": PRICE,
        "memo": exact.memo_for("key"),
    }
    return exact.Payment(**{**terms, **changes})  # type: ignore[arg-type]  # whatever a test wants wrong


def signed(message: MessageV0) -> str:
    return exact.partly_signed(message, bytes(BUYER.sign_message(exact.signed_bytes(message))))


def good(**changes: object) -> str:
    return signed(payment(**changes).message(BLOCKHASH))


def transfer(amount: int = PRICE, token: Token = USDC_TOKEN) -> Instruction:
    return transfer_tokens(BUYER.pubkey(), token.account_of(SELLER.pubkey()), amount, token)


def instructions() -> list[Instruction]:
    return [compute_unit_limit(20_000), compute_unit_price(1), transfer(), memo(b"m" * 32)]


def of(made: list[Instruction], *, signers: int = 2) -> str:
    message = MessageV0.try_compile(SPONSOR.pubkey(), made, [], BLOCKHASH)
    assert message.header.num_required_signatures == signers
    signatures = [Signature.default()] * signers
    return base64.b64encode(bytes(VersionedTransaction.populate(message, signatures))).decode()


def asked(**changes: object) -> PaymentRequirements:
    made = exact_on_solana(Money(ASSET, PRICE), str(SELLER.pubkey()), fee_payer=str(SPONSOR.pubkey()))
    return made.model_copy(update=changes)


def reason(text: object) -> Reason:
    with pytest.raises(WireError) as caught:
        parse_transfer(text)
    return caught.value.reason


def verdict(text: str, wanted: PaymentRequirements, *, network: str = NETWORK) -> Reason | None:
    accepted = wanted.model_copy(update={"network": network})
    presented = present(PaymentPayload(payload={"transaction": text}, accepted=accepted))
    return check_terms(presented, parse_transfer(text), wanted, [SPONSOR.pubkey()])


def test_a_payment_of_ours_is_read_as_it_was_meant() -> None:
    read = parse_transfer(good())
    assert (read.fee_payer, read.payer, read.mint) == (SPONSOR.pubkey(), BUYER.pubkey(), USDC)
    assert (read.amount, read.decimals, read.unit_limit, read.unit_price) == (PRICE, 6, 20_000, 1)
    assert read.memos == (exact.memo_for("key"),)
    assert read.signed_by_payer()
    assert read.pays(SELLER.pubkey())
    assert not read.pays(OTHER.pubkey())
    assert read.fee_lamports == 2 * 5000 + 1
    assert verdict(good(), asked()) is None


def test_a_token_2022_payment_pays_the_account_of_that_program() -> None:
    token = Token(USDC, 6, TOKEN_2022_PROGRAM)
    read = parse_transfer(good(token=token))
    assert read.token_program == TOKEN_2022_PROGRAM
    assert read.destination == token.account_of(SELLER.pubkey())
    assert verdict(good(token=token), asked()) is None


def test_a_memo_repeats_with_its_key_and_with_no_other() -> None:
    memos = {exact.memo_for(f"job-{number}") for number in range(1000)}
    assert len(memos) == 1000
    assert exact.memo_for("job-1") == exact.memo_for("job-1")
    assert all(len(bytes.fromhex(each.decode())) >= 16 for each in memos)


def test_payments_with_one_memo_differ_by_their_unit_limit() -> None:
    limits = {exact.unit_limit_for("job-1", attempt) for attempt in range(exact.UNIT_LIMIT_VARIANTS)}
    assert len(limits) == exact.UNIT_LIMIT_VARIANTS
    assert min(limits) >= exact.UNIT_LIMIT
    assert exact.unit_limit_for("job-1") != exact.unit_limit_for("job-2")


@pytest.mark.parametrize(
    "text", [None, 7, "", "not base64!", "AAAA", "A" * 5000, base64.b64encode(b"\xff" * 400).decode()]
)
def test_what_is_no_transaction_is_refused(text: object) -> None:
    assert reason(text) is Reason.SVM_DECODE_FAILED


def test_another_encoding_of_the_same_transaction_is_refused() -> None:
    """Two encodings would be two payments to a cache and one to the network."""
    data = base64.b64decode(good())
    assert reason(base64.b64encode(data + b"\0").decode()) is Reason.SVM_DECODE_FAILED
    assert reason(base64.b64encode(b"\x82\x00" + data[1:]).decode()) is Reason.SVM_DECODE_FAILED


def test_legacy_transactions_and_lookup_tables_are_refused() -> None:
    legacy = Message.new_with_blockhash(instructions(), SPONSOR.pubkey(), BLOCKHASH)
    text = bytes(VersionedTransaction.populate(legacy, [Signature.default()] * 2))
    assert reason(base64.b64encode(text).decode()) is Reason.SVM_DECODE_FAILED
    table = AddressLookupTableAccount(Pubkey.new_unique(), [DESTINATION])
    looked_up = MessageV0.try_compile(SPONSOR.pubkey(), instructions(), [table], BLOCKHASH)
    assert looked_up.address_table_lookups
    assert reason(signed(looked_up)) is Reason.SVM_DECODE_FAILED


def test_a_transaction_larger_than_a_packet_is_refused() -> None:
    assert reason(of([*instructions()[:3], memo(b"x" * 1200)])) is Reason.SVM_DECODE_FAILED


def test_a_third_signature_is_not_sponsored() -> None:
    assert reason(of([*instructions()[:3], memo(b"m", [OTHER.pubkey()])], signers=3)) is Reason.SVM_DECODE_FAILED


def test_the_payer_must_be_the_second_signer() -> None:
    """A stranger's transfer that is signed by somebody else for something else."""
    made = instructions()
    accounts = [*made[2].accounts[:3], AccountMeta(BUYER.pubkey(), False, False)]
    made[2] = Instruction(TOKEN_PROGRAM, made[2].data, accounts)
    made[3] = memo(b"m", [OTHER.pubkey()])
    assert reason(of(made)) is Reason.SVM_DECODE_FAILED


LAYOUTS: dict[str, tuple[Callable[[list[Instruction]], list[Instruction]], Reason]] = {
    "too few": (lambda made: [made[0], made[2]], Reason.SVM_INSTRUCTION_COUNT),
    "too many": (lambda made: [*made, *[memo(b"x")] * 3], Reason.SVM_INSTRUCTION_COUNT),
    "no limit": (lambda made: [made[1], made[1], *made[2:]], Reason.SVM_COMPUTE_LIMIT),
    "limit of another program": (lambda made: [memo(b"\x02" + b"0000"), *made[1:]], Reason.SVM_COMPUTE_LIMIT),
    "limit with more bytes": (
        lambda made: [Instruction(COMPUTE_BUDGET_PROGRAM, b"\x02" + b"\0" * 5, []), *made[1:]],
        Reason.SVM_COMPUTE_LIMIT,
    ),
    "no price": (lambda made: [made[0], made[0], *made[2:]], Reason.SVM_COMPUTE_PRICE),
    "short price": (
        lambda made: [made[0], Instruction(COMPUTE_BUDGET_PROGRAM, b"\x03\0", []), *made[2:]],
        Reason.SVM_COMPUTE_PRICE,
    ),
    "dear price": (
        lambda made: [made[0], compute_unit_price(5_000_001), *made[2:]],
        Reason.SVM_COMPUTE_PRICE_TOO_HIGH,
    ),
    "transfer later": (lambda made: [made[0], made[1], made[3], made[2]], Reason.SVM_NO_TRANSFER),
    "unchecked transfer": (
        lambda made: [*made[:2], Instruction(TOKEN_PROGRAM, b"\x03" + b"\0" * 8, made[2].accounts), made[3]],
        Reason.SVM_NO_TRANSFER,
    ),
    "longer transfer": (
        lambda made: [*made[:2], Instruction(TOKEN_PROGRAM, bytes(made[2].data) + b"\0", made[2].accounts)],
        Reason.SVM_NO_TRANSFER,
    ),
    "multisig": (
        lambda made: [
            *made[:2],
            Instruction(
                TOKEN_PROGRAM, made[2].data, [*made[2].accounts, AccountMeta(Pubkey.new_unique(), False, False)]
            ),
        ],
        Reason.SVM_NO_TRANSFER,
    ),
    "second transfer": (lambda made: [*made[:3], transfer(1)], Reason.SVM_UNKNOWN_FOURTH),
    "sol at the end": (
        lambda made: [*made, transfer_sol(BUYER.pubkey(), OTHER.pubkey(), 1)],
        Reason.SVM_UNKNOWN_FIFTH,
    ),
    "sol at the very end": (
        lambda made: [*made, memo(b"2"), transfer_sol(BUYER.pubkey(), OTHER.pubkey(), 1)],
        Reason.SVM_UNKNOWN_SIXTH,
    ),
    "more compute budget": (lambda made: [*made, compute_unit_limit(1_000_000)], Reason.SVM_UNKNOWN_FIFTH),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_any_other_layout_is_refused_with_its_own_reason(name: str) -> None:
    change, expected = LAYOUTS[name]
    assert reason(of(change(instructions()))) is expected


def test_memos_and_lighthouse_may_follow_the_transfer() -> None:
    made = [*instructions(), Instruction(LIGHTHOUSE_PROGRAM, b"\1", []), Instruction(LIGHTHOUSE_PROGRAM, b"\2", [])]
    assert parse_transfer(of(made)).memos == (b"m" * 32,)
    assert parse_transfer(of(instructions()[:3])).memos == ()


@pytest.mark.parametrize(
    ("changes", "wanted", "expected"),
    [
        ({}, {"scheme": "upto"}, Reason.UNSUPPORTED_SCHEME),
        ({}, {"extra": {}}, Reason.SVM_FEE_PAYER_MISSING),
        ({}, {"extra": {"feePayer": "nobody"}}, Reason.INVALID_REQUIREMENTS),
        ({}, {"pay_to": "0x" + "1" * 40}, Reason.INVALID_REQUIREMENTS),
        ({}, {"asset": "USDC"}, Reason.INVALID_REQUIREMENTS),
        ({}, {"extra": {"feePayer": str(OTHER.pubkey())}}, Reason.SVM_FEE_PAYER_NOT_MANAGED),
        ({"fee_payer": OTHER.pubkey()}, {}, Reason.SVM_FEE_PAYER_NOT_MANAGED),
        ({"token": Token(Pubkey.from_bytes(b"\5" * 32), 6)}, {}, Reason.SVM_MINT_MISMATCH),
        ({"payee": OTHER.pubkey()}, {}, Reason.SVM_RECIPIENT_MISMATCH),
        ({}, {"pay_to": str(OTHER.pubkey())}, Reason.SVM_RECIPIENT_MISMATCH),
        ({"payee": BUYER.pubkey()}, {"pay_to": str(BUYER.pubkey())}, Reason.SVM_RECIPIENT_MISMATCH),
        ({"amount": PRICE - 1}, {}, Reason.SVM_AMOUNT_INSUFFICIENT),
        ({"amount": PRICE + 1}, {}, Reason.SVM_AMOUNT_MISMATCH),
    ],
)
def test_terms_that_differ_are_refused_with_their_own_reason(
    changes: dict[str, object], wanted: dict[str, object], expected: Reason
) -> None:
    assert verdict(good(**changes), asked(**wanted)) is expected


def test_a_payment_for_another_network_is_refused() -> None:
    assert verdict(good(), asked(), network="solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z") is Reason.NETWORK_MISMATCH


def test_more_than_the_price_is_refused_where_the_official_package_takes_it() -> None:
    from x402.mechanisms.svm.exact import ExactSvmFacilitatorScheme
    from x402.mechanisms.svm.signers import FacilitatorKeypairSigner

    class Willing(FacilitatorKeypairSigner):
        def simulate_transaction(self, tx_base64: str, network: str) -> None:
            return None

    text = good(amount=PRICE + 1)
    payload = PaymentPayload(payload={"transaction": text}, accepted=asked())
    official = ExactSvmFacilitatorScheme(Willing([SPONSOR]))
    assert official.verify(payload, asked()).is_valid
    assert verdict(text, asked()) is Reason.SVM_AMOUNT_MISMATCH


@pytest.mark.parametrize("program", [MEMO_PROGRAM, LIGHTHOUSE_PROGRAM])
def test_a_fee_payer_in_any_instruction_is_refused_where_the_official_package_takes_it(program: Pubkey) -> None:
    from x402.mechanisms.svm.exact import ExactSvmFacilitatorScheme
    from x402.mechanisms.svm.signers import FacilitatorKeypairSigner

    class Willing(FacilitatorKeypairSigner):
        def simulate_transaction(self, tx_base64: str, network: str) -> None:
            return None

    text = of([*instructions()[:3], Instruction(program, b"1", [AccountMeta(SPONSOR.pubkey(), True, True)])])
    payload = PaymentPayload(payload={"transaction": text}, accepted=asked())
    assert ExactSvmFacilitatorScheme(Willing([SPONSOR])).verify(payload, asked()).is_valid
    assert verdict(text, asked()) is Reason.SVM_FEE_PAYER_IN_ACCOUNTS


def test_a_sponsor_never_pays_with_its_own_tokens() -> None:
    mine = transfer_tokens(SPONSOR.pubkey(), DESTINATION, PRICE, USDC_TOKEN)
    made = [*instructions()[:2], mine, memo(b"m", [BUYER.pubkey()])]
    assert reason(of(made)) is Reason.SVM_DECODE_FAILED  # the authority is slot 0, not slot 1
    accounts = list(instructions()[2].accounts)
    accounts[0] = AccountMeta(USDC_TOKEN.account_of(SPONSOR.pubkey()), False, True)
    delegated = Instruction(TOKEN_PROGRAM, instructions()[2].data, accounts)
    assert verdict(of([*instructions()[:2], delegated]), asked()) is Reason.SVM_FEE_PAYER_TRANSFERRING


@pytest.mark.parametrize(
    ("memos", "wanted", "expected"),
    [
        ([b"order 7"], "order 7", None),
        ([b"order 8"], "order 7", Reason.SVM_MEMO_MISMATCH),
        ([b"\xff\xfe"], "order 7", Reason.SVM_MEMO_MISMATCH),
        ([], "order 7", Reason.SVM_MEMO_COUNT),
        ([b"order 7", b"order 7"], "order 7", Reason.SVM_MEMO_COUNT),
        ([b"x" * 300], "x" * 300, Reason.INVALID_REQUIREMENTS),
    ],
)
def test_the_sellers_memo_is_there_once_and_exact(memos: list[bytes], wanted: str, expected: Reason | None) -> None:
    text = of([*instructions()[:3], *(memo(each) for each in memos)])
    terms = asked(extra={"feePayer": str(SPONSOR.pubkey()), "memo": wanted})
    assert verdict(text, terms) is expected


def test_v2_payments_meet_the_requirement_they_name_and_v1_payments_the_one_they_pay() -> None:
    cheap, dear = asked(amount="1"), asked()
    text = good()
    named = present(PaymentPayload(payload={"transaction": text}, accepted=dear))
    assert requirement_for(named, [cheap, dear]) is dear
    other = present(PaymentPayload(payload={"transaction": text}, accepted=asked(amount="2")))
    assert requirement_for(other, [cheap, dear]) is None
    first = present(PaymentPayloadV1(scheme="exact", network="solana-devnet", payload={"transaction": text}))
    assert requirement_for(first, [cheap, dear]) is dear
    assert requirement_for(first, [cheap]) is cheap
    assert requirement_for(first, []) is None


def test_a_payment_is_named_by_what_is_signed_and_not_by_slot_0() -> None:
    text = good()
    data = bytearray(base64.b64decode(text))
    data[1:65] = b"\x09" * 64
    varied = base64.b64encode(bytes(data)).decode()
    names = {
        spent_by(present(PaymentPayload(payload={"transaction": each}, accepted=asked())), asked()).payment_id
        for each in (text, varied)
    }
    assert names == {f"{NETWORK}:{parse_transfer(text).hash}"}


@pytest.mark.parametrize(
    "change",
    [
        partial(exact_on_solana, Money(ASSET, 0), str(SELLER.pubkey()), fee_payer=str(SPONSOR.pubkey())),
        partial(exact_on_solana, Money(ASSET, 1), "nobody", fee_payer=str(SPONSOR.pubkey())),
        partial(exact_on_solana, Money(ASSET, 1), str(SELLER.pubkey()), fee_payer="nobody"),
        partial(exact_on_solana, Money(ASSET, 1), str(SELLER.pubkey()), fee_payer=str(SPONSOR.pubkey()), memo=""),
        partial(
            exact_on_solana, Money(ASSET, 1), str(SELLER.pubkey()), fee_payer=str(SPONSOR.pubkey()), memo="x" * 257
        ),
    ],
)
def test_a_price_that_cannot_be_asked_is_refused(change: Callable[[], PaymentRequirements]) -> None:
    with pytest.raises(InvalidInput):
        change()


@given(seed=st.integers(0, 2**32), cut=st.integers(0, 600), flips=st.integers(0, 6))
@settings(max_examples=1500, deadline=None)
def test_no_bytes_make_the_reader_do_anything_but_read_or_refuse(seed: int, cut: int, flips: int) -> None:
    dice = random.Random(seed)
    data = bytearray(base64.b64decode(good()))
    for _ in range(flips):
        data[dice.randrange(len(data))] = dice.randrange(256)
    text = base64.b64encode(bytes(data[: cut or None] if cut < len(data) else data)).decode()
    try:
        read = parse_transfer(text)
    except WireError as refused:
        assert refused.reason in Reason
    else:
        assert bytes(read.transaction) == base64.b64decode(text)
        mine = parse_transfer(good())
        untouched = (read.hash, read.transaction.signatures[1]) == (mine.hash, mine.transaction.signatures[1])
        assert read.signed_by_payer() is untouched
