"""Limits at, just below and just above; approvals constraint by constraint; terms, statements and stuck money."""

from __future__ import annotations

import csv
import io
from base64 import b64encode
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import BudgetExceeded, Conflict, InsufficientFunds, InvalidInput, NotAllowed, NotFound
from agentnexus.core.money import Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.door import Line
from agentnexus.ledger.limits import Counter, Scope, Usage, day_label, decide, minute_label
from agentnexus.ledger.mandates import (
    CONSTRAINTS_MAX,
    NAMES_MAX,
    Constraint,
    Mandate,
    permission_of,
)
from agentnexus.ledger.memory import MemoryBooks
from agentnexus.ledger.model import (
    ATOMIC_MAX,
    NAME_MAX_CHARS,
    BudgetState,
    Move,
    ReservationState,
    Terms,
    TransferKind,
    ceilings,
    check_amount,
)
from agentnexus.ledger.statements import COLUMNS, to_csv, to_json
from agentnexus.ledger.wallet_signatures import WalletSignatures, message_text, typed_data
from agentnexus.platform.signing import Ed25519Signer
from tests.ledger.conftest import SATS, SELLER, USDC, WALLET, Spender, usdc

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
CURRENCY = USDC.caip19


def node(identifier: str = "b", **limits: int) -> BudgetState:
    amounts = {name: Money(USDC, atomic) for name, atomic in limits.items()}
    return BudgetState(identifier, (identifier,), "owner", USDC, ceilings(Limits(**amounts), USDC, None, None), NOON)


def terms(atomic: int, **more: str) -> Terms:
    given = {"seller": "s", "capability": "c", "task": "t", "tick": "7", **more}
    return Terms("b", WALLET, SELLER, Money(USDC, atomic), **given)


def used(scope: Scope, label: str, atomic: int) -> Usage:
    return {("b", scope): {label: Counter(spent=atomic // 2, reserved=atomic - atomic // 2)}}


LABELS = {
    "per_task": (Scope.TASK, "t"),
    "per_tick": (Scope.TICK, "7"),
    "per_seller": (Scope.SELLER, "s"),
    "per_capability": (Scope.CAPABILITY, "c"),
    "per_hour": (Scope.MINUTE, minute_label(NOON)),
    "per_day": (Scope.DAY, day_label(NOON)),
}


@pytest.mark.parametrize("limit", LABELS)
@pytest.mark.parametrize(
    ("before", "asked", "fits"),
    [
        (0, 99, True),
        (0, 100, True),
        (0, 101, False),
        (60, 39, True),
        (60, 40, True),
        (60, 41, False),
        (99, 1, True),
        (100, 1, False),
        (101, 1, False),
    ],
)
def test_a_counted_limit_lets_through_exactly_its_rest(limit: str, before: int, asked: int, fits: bool) -> None:
    scope, label = LABELS[limit]
    rejection = decide([node(**{limit: 100})], used(scope, label, before), terms(asked), 0, NOON)
    assert (rejection is None) is fits
    if rejection is not None:
        assert (rejection.limit, rejection.left.atomic) == (limit, max(100 - before, 0))
        assert rejection.asked.atomic == asked


@pytest.mark.parametrize("limit", ["per_task", "per_tick", "per_seller", "per_capability"])
def test_another_label_has_a_rest_of_its_own(limit: str) -> None:
    scope, label = LABELS[limit]
    usage = used(scope, label + "-other", 100)
    assert decide([node(**{limit: 100})], usage, terms(100), 0, NOON) is None


@pytest.mark.parametrize(
    ("limits", "reserved", "spent", "available", "asked", "expected"),
    [
        ({"per_payment": 10}, 0, 0, 0, 10, None),
        ({"per_payment": 10}, 0, 0, 0, 11, ("per_payment", 10)),
        ({"total": 100}, 0, 0, 0, 100, None),
        ({"total": 100}, 0, 0, 0, 101, ("total", 100)),
        ({"total": 100}, 30, 30, 0, 40, None),
        ({"total": 100}, 30, 30, 0, 41, ("total", 40)),
        ({"total": 100}, 100, 0, 0, 1, ("total", 0)),
        ({"total": 100, "keep_back": 20}, 0, 0, 0, 80, None),
        ({"total": 100, "keep_back": 20}, 0, 0, 0, 81, ("keep_back", 80)),
        ({"total": 100, "keep_back": 20}, 0, 0, 0, 100, ("keep_back", 80)),
        ({"total": 100, "keep_back": 20}, 0, 0, 0, 101, ("total", 80)),
        ({"total": 100, "keep_back": 100}, 0, 0, 0, 1, ("keep_back", 0)),
        ({"keep_back": 20}, 0, 0, 100, 80, None),
        ({"keep_back": 20}, 0, 0, 100, 81, ("keep_back", 80)),
        ({"keep_back": 20}, 0, 0, 10, 1, ("keep_back", 0)),
        ({"total": 100, "per_payment": 10}, 95, 0, 0, 20, ("total", 5)),
        ({}, 10**15, 10**15, 0, 10**15, None),
    ],
)
def test_the_whole_budget_and_its_reserve(
    limits: dict[str, int], reserved: int, spent: int, available: int, asked: int, expected: tuple[str, int] | None
) -> None:
    budget = node(**limits)
    budget.reserved, budget.spent = reserved, spent
    rejection = decide([budget], {}, terms(asked), available, NOON)
    assert (None if rejection is None else (rejection.limit, rejection.left.atomic)) == expected


@pytest.mark.parametrize(
    ("seconds", "fits"), [(0, False), (59, False), (3599, False), (3600, False), (3659, False), (3660, True)]
)
def test_a_full_hour_frees_when_its_last_minute_is_gone(seconds: int, fits: bool) -> None:
    usage = used(Scope.MINUTE, minute_label(NOON), 100)
    rejection = decide([node(per_hour=100)], usage, terms(1), 0, NOON + timedelta(seconds=seconds))
    assert (rejection is None) is fits
    if rejection is not None:
        assert rejection.frees_at == NOON + timedelta(minutes=61)


@pytest.mark.parametrize(
    ("asked", "frees_after_minutes"), [(1, 61), (10, 61), (11, 71), (30, 71), (31, 81), (60, 81), (61, None)]
)
def test_an_hour_frees_as_soon_as_enough_of_it_is_gone(asked: int, frees_after_minutes: int | None) -> None:
    minutes = {
        minute_label(NOON): Counter(spent=10),
        minute_label(NOON + timedelta(minutes=10)): Counter(reserved=20),
        minute_label(NOON + timedelta(minutes=20)): Counter(spent=15, reserved=15),
    }
    now = NOON + timedelta(minutes=30)
    rejection = decide([node(per_hour=60)], {("b", Scope.MINUTE): minutes}, terms(asked), 0, now)
    assert rejection is not None
    expected = None if frees_after_minutes is None else NOON + timedelta(minutes=frees_after_minutes)
    assert rejection.frees_at == expected


@pytest.mark.parametrize(
    ("now", "frees_at"),
    [
        (datetime(2026, 11, 20, 0, 0, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)),
        (datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC)),
        (datetime(2024, 2, 28, 12, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)),
        (datetime(2023, 2, 28, 12, tzinfo=UTC), datetime(2023, 3, 1, tzinfo=UTC)),
        (datetime(2026, 12, 31, 12, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_full_day_frees_at_the_next_midnight(now: datetime, frees_at: datetime) -> None:
    rejection = decide([node(per_day=100)], used(Scope.DAY, day_label(now), 100), terms(1), 0, now)
    assert rejection is not None
    assert rejection.frees_at == frees_at
    assert frees_at.isoformat()[:10] in rejection.to_error().next_step


@pytest.mark.parametrize(
    ("budget", "limits", "command"),
    [
        ("user:ann", {"per_payment": 5}, "raise it: `nexus budget --set per_payment=0.000007`"),
        ("user:ann", {"total": 5}, "choose something cheaper, or raise it: `nexus budget --set total=AMOUNT`"),
        ("user:ann", {"per_day": 5}, "choose something cheaper, or raise it: `nexus budget --set per_day=AMOUNT`"),
        ("user:ann", {"per_seller": 5}, "choose something cheaper or have the budget's owner raise it"),
        ("user:ann/project", {"per_payment": 5}, "choose something cheaper or have the budget's owner raise it"),
        ("workflow:wf_1", {"total": 5}, "choose something cheaper or have the budget's owner raise it"),
    ],
)
def test_who_may_raise_a_limit_is_told_with_what_command(budget: str, limits: dict[str, int], command: str) -> None:
    rejection = decide([node(budget, **limits)], {}, terms(7), 0, NOON)
    assert rejection is not None
    assert rejection.to_error().next_step.endswith(command)


@pytest.mark.parametrize(
    ("change", "limit", "advice"),
    [
        ({"revoked_at": NOON}, "revoked", "new approval"),
        ({"expires_at": NOON}, "expiry", "new approval"),
        ({"expires_at": NOON - timedelta(seconds=1)}, "expiry", "new approval"),
        ({"expires_at": NOON + timedelta(microseconds=1)}, None, ""),
    ],
)
def test_a_closed_budget_says_why(change: dict[str, datetime], limit: str | None, advice: str) -> None:
    budget = node(total=100)
    for name, value in change.items():
        setattr(budget, name, value)
    rejection = decide([budget], {}, terms(1), 0, NOON)
    assert (None if rejection is None else rejection.limit) == limit
    if rejection is not None:
        assert advice in rejection.to_error().next_step


@given(st.lists(st.integers(1, 100), min_size=1, max_size=5), st.integers(1, 120))
def test_a_path_lets_through_what_its_tightest_node_does(totals: list[int], asked: int) -> None:
    path = [node(f"n{number}", total=total) for number, total in enumerate(totals)]
    rejection = decide(path, {}, terms(asked), 0, NOON)
    assert (rejection is None) == (asked <= min(totals))
    if rejection is not None:
        assert rejection.left.atomic == min(totals)


@pytest.mark.parametrize(
    ("atomic", "fits"), [(1, True), (ATOMIC_MAX, True), (0, False), (-1, False), (ATOMIC_MAX + 1, False)]
)
def test_amounts_are_positive_and_fit_their_column(atomic: int, fits: bool) -> None:
    if fits:
        assert check_amount(Money(USDC, atomic)).atomic == atomic
        return
    with pytest.raises(InvalidInput, match="must be positive") as caught:
        check_amount(Money(USDC, atomic), "fee")
    assert caught.value.details == {"field": "fee"}


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"total": Money(SATS, 5)}, "total"),
        ({"per_hour": Money(USDC, -1)}, "per_hour"),
        ({"per_hour": Money(USDC, ATOMIC_MAX + 1)}, "per_hour"),
        ({"total": Money(USDC, 5), "keep_back": Money(USDC, 6)}, "keep_back"),
    ],
)
def test_limits_that_make_no_sense_are_named(limits: dict[str, Money], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ceilings(Limits(**limits), USDC, None, None)
    assert caught.value.details["field"] == field
    assert caught.value.next_step


@pytest.mark.parametrize("field", ["seller", "capability", "task", "tick", "rail"])
@pytest.mark.parametrize("text", ["x" * (NAME_MAX_CHARS + 1), "a\nb", "a\x00", "\u202e", "\ud800", "a\u2028b"])
def test_terms_carry_only_printable_text(field: str, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Terms(None, WALLET, SELLER, usdc("1"), **{field: text})
    assert caught.value.details == {"field": field}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"payer": ""}, "payer_account"),
        ({"payee": ""}, "payee_account"),
        ({"payee": WALLET}, "payee_account"),
        ({"budget_id": ""}, "budget_id"),
        ({"amount": usdc("0")}, "amount"),
        ({"amount": usdc("-1")}, "amount"),
    ],
)
def test_terms_name_what_is_wrong(changes: dict[str, object], field: str) -> None:
    given = {"budget_id": None, "payer": WALLET, "payee": SELLER, "amount": usdc("1"), **changes}
    with pytest.raises(InvalidInput) as caught:
        Terms(**given)  # type: ignore[arg-type]  # the point of the test
    assert caught.value.details["field"] == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"debit": ""}, "from_account"),
        ({"credit": ""}, "to_account"),
        ({"credit": WALLET}, "to_account"),
        ({"amount": usdc("0")}, "amount"),
        ({"kind": TransferKind.CAPTURE}, "kind"),
        ({"memo": "a\nb"}, "memo"),
        ({"correlation": "\x00"}, "correlation"),
    ],
)
def test_moves_name_what_is_wrong(changes: dict[str, object], field: str) -> None:
    given = {"key": "k", "kind": TransferKind.MOVE, "debit": WALLET, "credit": SELLER, "amount": usdc("1"), **changes}
    with pytest.raises(InvalidInput) as caught:
        Move(**given)  # type: ignore[arg-type]  # the point of the test
    assert caught.value.details["field"] == field


SIGNER = Ed25519Signer.from_seed(b"\x05" * 32)


def mandate(*constraints: Constraint, **fields: object) -> Mandate:
    given = {"jti": "s-1", "iss": SIGNER.public_id, "cnf": "agent", "constraints": constraints, "iat": 1, "exp": 2}
    return Mandate.model_validate({**given, **fields})


def limit(name: str, most: str = "5") -> Constraint:
    return {"type": "agentnexus.limit", "name": name, "max": most, "currency": CURRENCY}


@pytest.mark.parametrize("name", list(Limits.model_fields))
def test_every_limit_can_be_signed(name: str) -> None:
    permission = permission_of(mandate(limit(name)), USDC)
    assert permission.limits == Limits(**{name: usdc("5")})
    assert (permission.sellers, permission.capabilities) == (None, None)


@pytest.mark.parametrize(
    ("constraint", "limits"),
    [
        ({"type": "payment.budget", "max": "5", "currency": CURRENCY}, {"total": "5"}),
        ({"type": "payment.amount_range", "max": "1", "currency": CURRENCY}, {"per_payment": "1"}),
        ({"type": "payment.amount_range", "min": "0", "max": "0.5", "currency": CURRENCY}, {"per_payment": "0.5"}),
    ],
)
def test_the_vocabulary_of_the_open_mandate_is_understood(constraint: Constraint, limits: dict[str, str]) -> None:
    expected = Limits(**{name: usdc(amount) for name, amount in limits.items()})
    assert permission_of(mandate(constraint), USDC).limits == expected


@pytest.mark.parametrize(
    ("constraint", "sellers", "capabilities"),
    [
        ({"type": "payment.allowed_payees", "allowed": ("evm:0xa", "evm:0xb")}, {"evm:0xa", "evm:0xb"}, None),
        ({"type": "payment.allowed_payees", "allowed": ()}, set(), None),
        ({"type": "agentnexus.allowed_capabilities", "allowed": ("pdf.extract",)}, None, {"pdf.extract"}),
    ],
)
def test_names_that_are_allowed_are_the_only_ones(
    constraint: Constraint, sellers: set[str] | None, capabilities: set[str] | None
) -> None:
    permission = permission_of(mandate(constraint), USDC)
    assert (permission.sellers, permission.capabilities) == (sellers, capabilities)


@pytest.mark.parametrize(
    "constraints",
    [
        [{}],
        [{"type": ""}],
        [{"type": "payment.unknown"}],
        [{"type": "PAYMENT.BUDGET", "max": "5", "currency": CURRENCY}],
        [{"type": "payment.budget", "max": "5"}],
        [{"type": "payment.budget", "currency": CURRENCY}],
        [{"type": "payment.budget", "max": "5", "currency": "USDC"}],
        [{"type": "payment.budget", "max": "5", "currency": CURRENCY.upper()}],
        [{"type": "payment.budget", "max": ("5",), "currency": CURRENCY}],
        [{"type": "payment.budget", "max": "five", "currency": CURRENCY}],
        [{"type": "payment.budget", "max": "0.0000001", "currency": CURRENCY}],
        [{"type": "payment.budget", "max": "5", "currency": CURRENCY, "period": "day"}],
        [{"type": "payment.amount_range", "min": "1", "max": "5", "currency": CURRENCY}],
        [{"type": "payment.amount_range", "min": "0.0", "max": "5", "currency": CURRENCY}],
        [{"type": "payment.allowed_payees"}],
        [{"type": "payment.allowed_payees", "allowed": "evm:0xa"}],
        [{"type": "payment.allowed_payees", "allowed": ("a",), "denied": ("b",)}],
        [{"type": "payment.allowed_payees", "allowed": ("a",) * (NAMES_MAX + 1)}],
        [limit("per_week")],
        [limit("sellers")],
        [limit("__class__")],
        [{"type": "agentnexus.limit", "max": "5", "currency": CURRENCY}],
        [limit("total"), limit("total", "6")],
        [limit("total"), {"type": "payment.budget", "max": "6", "currency": CURRENCY}],
        [limit("per_payment"), {"type": "payment.amount_range", "max": "6", "currency": CURRENCY}],
        [{"type": "payment.allowed_payees", "allowed": ()}, {"type": "payment.allowed_payees", "allowed": ("a",)}],
    ],
)
def test_what_cannot_be_enforced_is_refused_and_never_ignored(constraints: list[Constraint]) -> None:
    with pytest.raises(InvalidInput) as caught:
        permission_of(mandate(*constraints), USDC)
    assert caught.value.details["field"] in ("constraints", "amount")


@pytest.mark.parametrize(
    "fields",
    [
        {"vct": "mandate.payment.open.2"},
        {"jti": ""},
        {"jti": "x" * 201},
        {"iss": "evm:0x" + "AB" * 20},
        {"iss": "evm:0x" + "ab" * 19},
        {"iss": "ed25519:" + "ab" * 31},
        {"iss": "ed25519:" + "ab" * 32 + "\n"},
        {"iss": "did:web:example.com"},
        {"cnf": ""},
        {"iat": -1},
        {"exp": 2**53},
        {"exp": 1.5},
        {"constraints": [{"type": "x"}] * (CONSTRAINTS_MAX + 1)},
        {"constraints": [{"type": 5}]},
        {"constraints": [{"type": "x", "max": 5}]},
        {"constraints": "all"},
        {"surprise": 1},
    ],
)
def test_a_mandate_of_another_shape_is_none(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        mandate(**fields)


async def test_a_signature_covers_every_word_of_the_mandate() -> None:
    document = mandate(limit("total"))
    signature = b64encode(await SIGNER.sign(message_text(document).encode())).decode()
    await SIGNATURES.check(document, signature)
    for change in ({"jti": "s-2"}, {"cnf": "other"}, {"exp": 3}, {"iat": 0}, {"parent": "p"}, {"constraints": ()}):
        with pytest.raises(NotAllowed, match="not signed by") as caught:
            await SIGNATURES.check(document.model_copy(update=change), signature)
        assert caught.value.details["signer"] == SIGNER.public_id


@pytest.mark.parametrize(
    "signature", ["", "=", "AAAA", "!" * 88, b64encode(bytes(64)).decode(), "\u00e9", "0x" + "00" * 65]
)
async def test_a_malformed_ed25519_signature_is_not_allowed(signature: str) -> None:
    with pytest.raises(NotAllowed):
        await SIGNATURES.check(mandate(limit("total")), signature)


def test_what_a_wallet_shows_holds_every_constraint_and_the_chain() -> None:
    document = mandate(
        limit("total"), {"type": "payment.allowed_payees", "allowed": ("b", "a")}, iss="evm:0x" + "ab" * 20
    )
    shown = typed_data(document, USDC.network)
    assert shown["domain"] == {"name": "AgentNexus", "version": "1", "chainId": 31337}
    message = shown["message"]
    assert isinstance(message, dict)
    assert message["constraints"] == [
        {"type": "agentnexus.limit", "value": f'{{"currency":"{CURRENCY}","max":"5","name":"total"}}'},
        {"type": "payment.allowed_payees", "value": '{"allowed":["b","a"]}'},
    ]


SIGNATURES = WalletSignatures(USDC.network)


def line(**changes: object) -> Line:
    given = {
        "at": datetime(2026, 11, 20, 12, 0, 1, 5, tzinfo=timezone(timedelta(hours=2))),
        "transfer_id": "t-1",
        "kind": TransferKind.DEPOSIT,
        "counterparty": "external:x",
        "amount": usdc("-1.5"),
        "balance": usdc("3"),
        "correlation": "",
        "memo": "",
    }
    return Line(**{**given, **changes})  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize("field", ["counterparty", "correlation", "memo"])
@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x")'])
def test_no_text_of_a_statement_is_a_formula(field: str, text: str) -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv([line(**{field: text})])))
    assert row[field] == f"'{text}"


@pytest.mark.parametrize("text", ["plain", "a,b", 'say "hi"', "two\nlines", "", " =1", "\u20ac", "1=1"])
def test_other_texts_of_a_statement_stay_as_they_are(text: str) -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv([line(memo=text)])))
    assert row["memo"] == text
    assert tuple(row) == COLUMNS
    assert (row["amount"], row["balance"]) == ("-1.500000", "3.000000")


def test_a_statement_of_nothing_has_its_header_and_knows_no_balance() -> None:
    assert to_csv([]).strip() == ",".join(COLUMNS)
    assert to_json("a", USDC, []) == {"account": "a", "asset": CURRENCY, "opening": None, "closing": None, "lines": []}


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=8))
def test_a_statement_opens_where_its_lines_begin_and_closes_where_they_end(amounts: list[int]) -> None:
    balance, lines = 0, []
    for amount in amounts:
        balance += amount
        lines.append(line(amount=Money(USDC, amount), balance=Money(USDC, balance)))
    body = to_json("a", USDC, lines)
    assert body["opening"] == USDC.zero().to_json()
    assert body["closing"] == Money(USDC, sum(amounts)).to_json()


async def test_money_moves_only_once_and_only_where_it_was_promised(spender: Spender) -> None:
    books = spender.books
    await spender.budget(total="10", per_payment="6")
    with pytest.raises(BudgetExceeded) as caught:
        await spender.reserve("big", "6.000001")
    assert caught.value.details["limit"] == "per_payment"
    first = await spender.reserve("one", "6")
    assert (first.state, first.captured) == (ReservationState.PENDING, 0)
    with pytest.raises(BudgetExceeded) as caught:
        await spender.reserve("two", "4.000001")
    assert (caught.value.details["limit"], caught.value.details["left"]) == ("total", "4.000000")
    await books.capture("one", usdc("5.999999"))
    assert (await books.budgets.status("budget")).left["total"] == usdc("4.000001")
    await spender.reserve("two", "4.000001")
    await books.void("two", "changed my mind")
    assert (await books.reservation("two")).reason == "changed my mind"
    assert (await books.balance(SELLER)).posted == usdc("5.999999")
    assert (await books.balance(WALLET)).available == usdc("994.000001")


@pytest.mark.parametrize("amount", ["1000.000001", "5000"])
async def test_more_than_an_account_has_is_never_promised(spender: Spender, amount: str) -> None:
    with pytest.raises(InsufficientFunds) as caught:
        await spender.reserve("k", amount, budget_id=None)
    assert caught.value.next_step
    with pytest.raises(NotFound):
        await spender.books.reservation("k")


@pytest.mark.parametrize("name", ["no-such-budget", "BUDGET", "budget "])
async def test_a_budget_is_found_by_its_exact_name(spender: Spender, name: str) -> None:
    await spender.budget(total="10")
    with pytest.raises(NotFound) as caught:
        await spender.reserve("k", "1", budget_id=name)
    assert caught.value.next_step


async def test_a_key_of_one_kind_is_free_for_another_and_taken_for_its_own(clock: ManualClock) -> None:
    books = MemoryBooks(clock)
    await books.deposit("k", WALLET, usdc("5"))
    await books.transfer("k", WALLET, SELLER, usdc("1"), TransferKind.FEE)
    await books.withdraw("k", WALLET, usdc("1"))
    with pytest.raises(Conflict):
        await books.deposit("k", WALLET, usdc("6"))
    assert (await books.balance(WALLET)).posted == usdc("3")


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3), st.integers(0, 50)), max_size=25))
async def test_whatever_is_reserved_captured_and_voided_the_books_agree(steps: list[tuple[int, int, int]]) -> None:
    books = MemoryBooks(ManualClock(NOON))
    await books.budgets.create("b", owner="o", asset=USDC, limits=Limits(total=Money(USDC, 300)))
    await books.deposit("d", WALLET, Money(USDC, 400))
    spent = held = 0
    for number, (amount, ending, part) in enumerate(steps):
        key = f"k{number}"
        try:
            await books.reserve(
                key, budget_id="b", payer_account=WALLET, payee_account=SELLER, amount=Money(USDC, amount)
            )
        except BudgetExceeded:
            assert spent + held + amount > 300
            continue
        held += amount
        if ending == 0:
            continue
        held -= amount
        if ending == 1:
            await books.void(key)
        else:
            taken = amount if ending == 2 else min(max(part, 1), amount)
            await books.capture(key, Money(USDC, taken))
            spent += taken
    status = await books.budgets.status("b")
    assert (status.spent.atomic, status.reserved.atomic) == (spent, held)
    assert status.left["total"].atomic == 300 - spent - held
    assert (await books.balance(WALLET)).available.atomic == 400 - spent - held
    report = await books.check()
    assert report.clean, report.to_json()
