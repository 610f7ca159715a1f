"""Signed approvals: only what a wallet signed, by the right wallet, can be spent."""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import BudgetExceeded, Conflict, InvalidInput, NexusError, NotAllowed, NotFound
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.ledger.grants import Grants
from agentnexus.ledger.mandates import Constraint, Mandate, ed25519_message, permission_of, typed_data
from agentnexus.platform.database import Database
from agentnexus.platform.signing import Ed25519Signer
from tests.ledger.conftest import SATS, USDC, WALLET, Spender, usdc

OWNER = Account.from_key("0x" + "11" * 32)
OTHER = Account.from_key("0x" + "22" * 32)
OWNER_ID = f"evm:{OWNER.address.lower()}"
BUDGET: Constraint = {"type": "payment.budget", "max": "5", "currency": USDC.caip19}


def mandate(clock: ManualClock, *constraints: Constraint, **fields: object) -> Mandate:
    now = int(clock.now().timestamp())
    given = {
        "jti": "session-1",
        "iss": OWNER_ID,
        "cnf": "ed25519:" + "ab" * 32,
        "constraints": constraints or (BUDGET,),
        "iat": now,
        "exp": now + 3600,
    }
    return Mandate.model_validate(given | fields)


def signed(document: Mandate, account: object = OWNER) -> str:
    message = encode_typed_data(full_message=typed_data(document, USDC))
    signature: str = account.sign_message(message).signature.hex()  # type: ignore[attr-defined]  # eth-account is untyped
    return signature


@pytest.fixture
async def spender(database: Database, clock: ManualClock) -> Spender:
    books = Books(database, clock)
    await books.deposit("funding", WALLET, usdc("1000"))
    return Spender(books, "session-1")


@pytest.fixture
def grants(spender: Spender, clock: ManualClock) -> Grants:
    assert isinstance(spender.books, Books)
    return Grants(spender.books, clock)


async def test_a_wallets_signature_opens_a_budget_with_what_it_signed(
    spender: Spender, grants: Grants, clock: ManualClock
) -> None:
    document = mandate(
        clock,
        BUDGET,
        {"type": "payment.amount_range", "max": "2", "currency": USDC.caip19},
        {"type": "agentnexus.limit", "name": "per_hour", "max": "3", "currency": USDC.caip19},
        {"type": "payment.allowed_payees", "allowed": ("evm:0xbbbb",)},
        {"type": "agentnexus.allowed_capabilities", "allowed": ("pdf.extract", "text.summarize")},
    )
    status = await grants.approve(document, signed(document), USDC)
    assert (status.id, status.owner, status.grant_id) == ("session-1", OWNER_ID, "session-1")
    assert status.limits == Limits(total=usdc("5"), per_payment=usdc("2"), per_hour=usdc("3"))
    assert status.expires_at == clock.now() + timedelta(hours=1)
    await spender.reserve("a", "2")
    for key, terms in {"seller": {"seller": "evm:0xcc"}, "amount": {"amount": "2.1"}, "hour": {"amount": "2"}}.items():
        with pytest.raises(BudgetExceeded):
            await spender.reserve(key, **terms)  # type: ignore[arg-type]  # each names one term


async def test_an_ed25519_key_can_approve_too(spender: Spender, grants: Grants, clock: ManualClock) -> None:
    signer = Ed25519Signer.from_seed(b"\x07" * 32)
    document = mandate(clock, iss=signer.public_id)
    signature = b64encode(await signer.sign(ed25519_message(document))).decode()
    status = await grants.approve(document, signature, USDC)
    assert status.owner == signer.public_id
    await spender.reserve("a", "5")
    bare = b64encode(await signer.sign(ed25519_message(document).partition(b"\n")[2])).decode()
    with pytest.raises(NotAllowed):
        await grants.approve(document, bare, USDC)


async def test_a_signature_over_anything_else_is_refused(grants: Grants, clock: ManualClock) -> None:
    document = mandate(clock)
    signature = signed(document)
    changed = [
        mandate(clock, {"type": "payment.budget", "max": "50", "currency": USDC.caip19}),
        mandate(clock, jti="session-2"),
        mandate(clock, exp=document.exp + 1),
        mandate(clock, cnf="somebody else"),
        mandate(clock, parent="org"),
        mandate(clock, iss=f"evm:{OTHER.address.lower()}"),
    ]
    for other in changed:
        with pytest.raises(NotAllowed) as caught:
            await grants.approve(other, signature, USDC)
        assert caught.value.details["signer"] == other.iss
    with pytest.raises(NotFound):
        await grants.get("session-1")


@pytest.mark.parametrize(
    "signature", ["", "0x", "zz", "0x" + "00" * 65, "0x" + "ff" * 65, "11" * 64, "11" * 66, "0x" + "11" * 65, "é"]
)
async def test_a_malformed_signature_is_just_not_allowed(grants: Grants, clock: ManualClock, signature: str) -> None:
    with pytest.raises(NotAllowed):
        await grants.approve(mandate(clock), signature, USDC)
    with pytest.raises(NotAllowed):
        await grants.approve(mandate(clock, iss="ed25519:" + "ab" * 32), signature, USDC)


async def test_only_the_parents_owner_can_cut_a_session_from_it(
    spender: Spender, grants: Grants, clock: ManualClock
) -> None:
    await spender.books.budgets.create("org", owner=OWNER_ID, asset=USDC, limits=Limits(total=usdc("3")))
    thief = mandate(clock, parent="org", iss=f"evm:{OTHER.address.lower()}")
    with pytest.raises(NotAllowed, match="may not approve"):
        await grants.approve(thief, signed(thief, OTHER), USDC)
    document = mandate(clock, parent="org")
    await grants.approve(document, signed(document), USDC)
    with pytest.raises(BudgetExceeded) as caught:
        await spender.reserve("a", "4")
    assert caught.value.details["budget"] == "org"


async def test_the_caller_can_say_which_wallets_belong_to_the_owner(
    spender: Spender, grants: Grants, clock: ManualClock
) -> None:
    await spender.books.budgets.create("user", owner="user-1", asset=USDC)
    document = mandate(clock, parent="user")
    with pytest.raises(NotAllowed):
        await grants.approve(document, signed(document), USDC)
    status = await grants.approve(document, signed(document), USDC, signers=[OWNER_ID])
    assert (status.owner, status.parent) == ("user-1", "user")


async def test_a_replayed_approval_gives_no_second_allowance(
    spender: Spender, grants: Grants, clock: ManualClock
) -> None:
    document = mandate(clock)
    await grants.approve(document, signed(document), USDC)
    await spender.reserve("a", "4")
    assert (await grants.approve(document, signed(document), USDC)).left["total"] == usdc("1")
    other = mandate(clock, cnf="another agent")
    with pytest.raises(Conflict):
        await grants.approve(other, signed(other), USDC)


async def test_an_approval_counts_only_in_its_time(grants: Grants, clock: ManualClock) -> None:
    now = int(clock.now().timestamp())
    for times in ({"exp": now}, {"iat": now + 400, "exp": now + 900}, {"iat": now + 100, "exp": now + 50}):
        document = mandate(clock, **times)
        with pytest.raises(InvalidInput):
            await grants.approve(document, signed(document), USDC)


async def test_a_revoked_session_spends_nothing_and_a_replay_does_not_reopen_it(
    spender: Spender, grants: Grants, clock: ManualClock
) -> None:
    document = mandate(clock)
    await grants.approve(document, signed(document), USDC)
    assert not (await grants.revoke("session-1")).open
    assert not (await grants.approve(document, signed(document), USDC)).open
    with pytest.raises(BudgetExceeded):
        await spender.reserve("a", "1")
    with pytest.raises(NotAllowed, match="signed"):
        await spender.books.budgets.change("session-1", Limits(total=usdc("50")))
    with pytest.raises(NotFound):
        await grants.revoke("no such session")


async def test_every_use_of_a_session_is_on_record(spender: Spender, grants: Grants, clock: ManualClock) -> None:
    document = mandate(clock)
    await grants.approve(document, signed(document), USDC)
    await spender.budget("below", parent="session-1", total="2")
    await spender.reserve("a", "1")
    clock.advance(1)
    await spender.reserve("b", "2", budget_id="below")
    await spender.reserve("elsewhere", budget_id=None)
    assert [use.key for use in await grants.uses("session-1")] == ["b", "a"]
    grant = await grants.get("session-1")
    assert (grant.mandate, grant.signature, grant.id) == (document, signed(document), "session-1")


@pytest.mark.parametrize(
    "constraint",
    [
        {"type": "payment.execution_date", "not_before": "2026-01-01"},
        {"type": "payment.budget", "max": "5", "currency": SATS.caip19},
        {"type": "payment.budget", "max": "5"},
        {"type": "payment.budget", "max": "five", "currency": USDC.caip19},
        {"type": "payment.budget", "max": "0.0000001", "currency": USDC.caip19},
        {"type": "payment.budget", "max": "5", "currency": USDC.caip19, "soft": "yes"},
        {"type": "payment.amount_range", "min": "1", "max": "5", "currency": USDC.caip19},
        {"type": "agentnexus.limit", "name": "per_moon", "max": "5", "currency": USDC.caip19},
        {"type": "payment.allowed_payees", "allowed": "evm:0xbbbb"},
        {"type": "payment.allowed_payees"},
        {},
    ],
    ids=str,
)
async def test_a_constraint_that_cannot_be_enforced_is_refused(
    grants: Grants, clock: ManualClock, constraint: Constraint
) -> None:
    document = mandate(clock, constraint)
    with pytest.raises(NexusError) as caught:
        await grants.approve(document, signed(document), USDC)
    assert isinstance(caught.value, InvalidInput)


def test_a_limit_given_twice_is_refused(clock: ManualClock) -> None:
    with pytest.raises(InvalidInput, match="twice"):
        permission_of(mandate(clock, BUDGET, BUDGET), USDC)


def test_a_wallet_cannot_sign_for_an_asset_off_its_chains(clock: ManualClock) -> None:
    with pytest.raises(InvalidInput, match="EVM"):
        typed_data(mandate(clock), SATS)
