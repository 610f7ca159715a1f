"""Signed approvals: only what a wallet signed, by the right wallet, can be spent."""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta

import pytest

from agentnexus.core.canonical import canonical_json
from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import BudgetExceeded, Conflict, InvalidInput, NexusError, NotAllowed, NotFound
from agentnexus.core.payments import Limits
from agentnexus.ledger.books import Books
from agentnexus.ledger.grants import Grants
from agentnexus.ledger.mandates import Constraint, Mandate, permission_of
from agentnexus.ledger.wallet_signatures import typed_data
from agentnexus.platform.database import Database
from tests.ledger.conftest import SATS, USDC, WALLET, Spender, usdc
from tests.ledger.wallets import (
    BUDGET,
    NODE,
    OTHER,
    OTHER_ID,
    OWNER_ID,
    SOLANA,
    grants_of,
    mandate,
    signed,
    signed_by_solana,
)

GRANT = Mandate.model_validate(
    {"jti": "session-1", "iss": OWNER_ID, "cnf": NODE, "constraints": (), "iat": 0, "exp": 1}
).grant_id


@pytest.fixture
async def spender(database: Database, clock: ManualClock) -> Spender:
    books = Books(database, clock)
    await books.deposit("funding", WALLET, usdc("1000"))
    return Spender(books, GRANT)


@pytest.fixture
def grants(spender: Spender, clock: ManualClock) -> Grants:
    assert isinstance(spender.books, Books)
    return grants_of(spender.books, clock)


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
    status = await grants.approve(document, signed(document))
    assert (status.id, status.owner, status.grant_id) == (GRANT, OWNER_ID, GRANT)
    assert status.limits == Limits(total=usdc("5"), per_payment=usdc("2"), per_hour=usdc("3"))
    assert status.expires_at == clock.now() + timedelta(hours=1)
    await spender.reserve("a", "2")
    for key, terms in {"seller": {"seller": "evm:0xcc"}, "amount": {"amount": "2.1"}, "hour": {"amount": "2"}}.items():
        with pytest.raises(BudgetExceeded):
            await spender.reserve(key, **terms)


async def test_an_ed25519_wallet_can_approve_too(grants: Grants, spender: Spender, clock: ManualClock) -> None:
    document = mandate(clock, iss=SOLANA.public_id)
    status = await grants.approve(document, await signed_by_solana(document))
    assert status.owner == SOLANA.public_id
    await spender.reserve("a", "5", budget_id=document.grant_id)
    bare = b64encode(await SOLANA.sign(canonical_json(document))).decode()
    with pytest.raises(NotAllowed):
        await grants.approve(document, bare)


async def test_a_signature_over_anything_else_is_refused(grants: Grants, clock: ManualClock) -> None:
    document = mandate(clock)
    signature = signed(document)
    changed = [
        mandate(clock, {"type": "payment.budget", "max": "50", "currency": USDC.caip19}),
        mandate(clock, jti="session-2"),
        mandate(clock, exp=document.exp + 1),
        mandate(clock, parent="org"),
        mandate(clock, iss=OTHER_ID),
    ]
    for other in changed:
        with pytest.raises(NotAllowed) as caught:
            await grants.approve(other, signature)
        assert caught.value.details["signer"] == other.iss
    with pytest.raises(NotFound):
        await grants.get(GRANT)


@pytest.mark.parametrize(
    "signature", ["", "0x", "zz", "0x" + "00" * 65, "0x" + "ff" * 65, "11" * 64, "11" * 66, "0x" + "11" * 65, "é"]
)
async def test_a_malformed_signature_is_just_not_allowed(grants: Grants, clock: ManualClock, signature: str) -> None:
    with pytest.raises(NotAllowed):
        await grants.approve(mandate(clock), signature)
    with pytest.raises(NotAllowed):
        await grants.approve(mandate(clock, iss="ed25519:" + "ab" * 32), signature)


async def test_only_the_parents_owner_can_cut_a_session_from_it(
    spender: Spender, grants: Grants, clock: ManualClock
) -> None:
    await spender.books.budgets.create("org", owner=OWNER_ID, asset=USDC, limits=Limits(total=usdc("3")))
    thief = mandate(clock, parent="org", iss=OTHER_ID)
    with pytest.raises(NotAllowed, match="may not approve"):
        await grants.approve(thief, signed(thief, OTHER))
    document = mandate(clock, parent="org")
    await grants.approve(document, signed(document))
    with pytest.raises(BudgetExceeded) as caught:
        await spender.reserve("a", "4")
    assert caught.value.details["budget"] == "org"


async def test_a_replayed_approval_gives_no_second_allowance(
    spender: Spender, grants: Grants, clock: ManualClock
) -> None:
    document = mandate(clock)
    await grants.approve(document, signed(document))
    await spender.reserve("a", "4")
    assert (await grants.approve(document, signed(document))).left["total"] == usdc("1")
    other = mandate(clock, exp=document.exp + 60)
    with pytest.raises(Conflict):
        await grants.approve(other, signed(other))


async def test_an_approval_counts_only_in_its_time(grants: Grants, clock: ManualClock) -> None:
    now = int(clock.now().timestamp())
    for times in (
        {"exp": now},
        {"iat": now + 400, "exp": now + 900},
        {"iat": now + 100, "exp": now + 50},
        {"exp": now + 367 * 86_400},
    ):
        document = mandate(clock, **times)
        with pytest.raises(InvalidInput):
            await grants.approve(document, signed(document))


async def test_a_revoked_session_spends_nothing_and_a_replay_does_not_reopen_it(
    spender: Spender, grants: Grants, clock: ManualClock
) -> None:
    document = mandate(clock)
    await grants.approve(document, signed(document))
    assert not (await grants.revoke(GRANT)).open
    assert not (await grants.approve(document, signed(document))).open
    with pytest.raises(BudgetExceeded):
        await spender.reserve("a", "1")
    with pytest.raises(NotAllowed, match="signed"):
        await spender.books.budgets.change(GRANT, Limits(total=usdc("50")))
    with pytest.raises(NotFound):
        await grants.revoke("no such session")


async def test_every_use_of_a_session_is_on_record(spender: Spender, grants: Grants, clock: ManualClock) -> None:
    document = mandate(clock)
    await grants.approve(document, signed(document))
    await spender.budget("below", parent=GRANT, total="2")
    await spender.reserve("a", "1")
    clock.advance(1)
    await spender.reserve("b", "2", budget_id="below")
    await spender.reserve("elsewhere", budget_id=None)
    assert [use.key for use in await grants.uses(GRANT)] == ["b", "a"]
    grant = await grants.get(GRANT)
    assert (grant.mandate, grant.signature, grant.id) == (document, signed(document), GRANT)


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
        await grants.approve(document, signed(document))
    assert isinstance(caught.value, InvalidInput)


def test_a_limit_given_twice_is_refused(clock: ManualClock) -> None:
    with pytest.raises(InvalidInput, match="twice"):
        permission_of(mandate(clock, BUDGET, BUDGET), USDC)


def test_a_wallet_cannot_sign_for_an_asset_off_its_chains(clock: ManualClock) -> None:
    with pytest.raises(InvalidInput, match="EVM"):
        typed_data(mandate(clock), SATS.network)
