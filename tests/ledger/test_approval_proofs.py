"""Proofs by wallets: golden vectors, wrong chains, smart accounts, and which wallets speak for whom."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import BudgetExceeded, InvalidInput, NexusError, NotAllowed, NotFound
from agentnexus.core.money import Money
from agentnexus.core.payments import Limits
from agentnexus.ledger.approvals import Charge
from agentnexus.ledger.books import Books
from agentnexus.ledger.grants import ANY, Grants, revocation_of
from agentnexus.ledger.mandates import Constraint, Mandate, Revocation, WalletLink
from agentnexus.ledger.wallet_signatures import Document, WalletSignatures, message_text, to_sign, typed_data
from agentnexus.platform.database import Database
from tests.ledger.conftest import SATS, SELLER, USDC, WALLET, Spender, usdc
from tests.ledger.test_processes import answers_of, spending
from tests.ledger.wallets import (
    BUDGET,
    NODE,
    OTHER,
    OTHER_ID,
    OWNER,
    OWNER_ID,
    SOLANA,
    grants_of,
    mandate,
    signed,
    signed_by_solana,
)

VECTORS = Path(__file__).parent / "vectors" / "approvals.json"
KINDS = {each.model_fields["vct"].default: each for each in (Mandate, Revocation, WalletLink)}


@pytest.fixture
async def books(database: Database, clock: ManualClock) -> Books:
    opened = Books(database, clock)
    await opened.deposit("funding", WALLET, usdc("1000"))
    await opened.budgets.create("user:ada", owner="ada", asset=USDC, limits=Limits(total=usdc("100")))
    return opened


@pytest.fixture
def grants(books: Books, clock: ManualClock) -> Grants:
    return grants_of(books, clock)


async def link(grants: Grants, wallet: str = OWNER_ID) -> None:
    proof = grants.approvers.proof("ada", wallet)
    await grants.approvers.link(proof, signed(proof, OWNER if wallet == OWNER_ID else OTHER))


def hers(clock: ManualClock, *constraints: Constraint, **fields: object) -> Mandate:
    return mandate(clock, *constraints, **{"parent": "user:ada", **fields})


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_text()), ids=lambda vector: vector["name"])
async def test_every_golden_vector_is_what_wallets_sign(vector: dict[str, object]) -> None:
    """Other programs build on these bytes: a change here breaks every approval that is out there."""
    given = vector["document"]
    assert isinstance(given, dict)
    document: Document = KINDS[given["vct"]].model_validate(given)
    network = str(vector["network"])
    if "digest" in vector:
        message = encode_typed_data(full_message=typed_data(document, network))
        assert "0x" + keccak(b"\x19" + message.version + message.header + message.body).hex() == vector["digest"]
        assert signed(document, OWNER, network) == vector["signature"]
    else:
        assert message_text(document) == vector["message"]
        assert await signed_by_solana(document) == vector["signature"]
    await WalletSignatures(network).check(document, str(vector["signature"]))


async def test_a_signature_for_another_chain_is_worth_nothing_here(grants: Grants, clock: ManualClock) -> None:
    await link(grants)
    document = hers(clock)
    with pytest.raises(NotAllowed, match="not signed by"):
        await grants.approve(document, signed(document, network="eip155:8453"))


async def test_a_mandate_for_another_asset_node_or_without_a_total_is_refused(
    grants: Grants, clock: ManualClock
) -> None:
    await link(grants)
    for document, problem in (
        (hers(clock, {**BUDGET, "currency": SATS.caip19}), InvalidInput),
        (hers(clock, cnf="ed25519:" + "cd" * 32), NotAllowed),
        (hers(clock, {"type": "payment.amount_range", "max": "1", "currency": USDC.caip19}), InvalidInput),
        (hers(clock, jti="a\nb"), InvalidInput),
        (hers(clock, parent="user:nobody"), NotFound),
    ):
        with pytest.raises(problem):
            await grants.approve(document, signed(document))
    assert await grants.list("ada") == []


async def test_only_a_linked_wallet_speaks_for_an_account(grants: Grants, clock: ManualClock) -> None:
    document = hers(clock)
    with pytest.raises(NotAllowed, match="may not approve"):
        await grants.approve(document, signed(document))
    await link(grants)
    with pytest.raises(NotFound):  # to a stranger the budget does not exist
        await grants.approve(document, signed(document), owner="eve")
    status = await grants.approve(document, signed(document), owner="ada")
    assert (status.owner, status.parent) == ("ada", "user:ada")
    thief = hers(clock, iss=OTHER_ID)
    with pytest.raises(NotAllowed, match="may not approve"):
        await grants.approve(thief, signed(thief, OTHER))


async def test_a_stolen_token_cannot_bring_in_the_thiefs_wallet(grants: Grants) -> None:
    await link(grants)
    proof = grants.approvers.proof("ada", OTHER_ID)
    with pytest.raises(NotAllowed, match="another wallet of yours"):
        await grants.approvers.link(proof, signed(proof, OTHER))
    with pytest.raises(NotAllowed):  # the thief cannot vouch for himself, nor with a signature over something else
        await grants.approvers.link(proof, signed(proof, OTHER), vouching=(OWNER_ID, signed(proof, OWNER)))
    await grants.drop_wallet("ada", OWNER_ID)
    with pytest.raises(NotAllowed, match="another wallet of yours"):  # dropping the owner's wallet opens no door either
        await grants.approvers.link(proof, signed(proof, OTHER))


async def test_a_linked_wallet_lets_another_in(grants: Grants) -> None:
    await link(grants)
    proof = grants.approvers.proof("ada", SOLANA.public_id)
    vouched = signed(proof.model_copy(update={"iss": OWNER_ID}), OWNER)
    await grants.approvers.link(proof, await signed_by_solana(proof), vouching=(OWNER_ID, vouched))
    assert {each.wallet for each in await grants.approvers.of("ada")} == {OWNER_ID, SOLANA.public_id}


async def test_of_two_first_wallets_at_one_instant_one_gets_in(grants: Grants) -> None:
    async def attempt(wallet: str) -> bool:
        try:
            await link(grants, wallet)
        except NotAllowed:
            return False
        return True

    assert sorted(await asyncio.gather(attempt(OWNER_ID), attempt(OTHER_ID))) == [False, True]


async def test_a_proof_counts_for_ten_minutes_on_one_node(grants: Grants, clock: ManualClock) -> None:
    proof = grants.approvers.proof("ada", OWNER_ID)
    foreign = proof.model_copy(update={"cnf": "another node"})
    with pytest.raises(NotAllowed, match="another node"):
        await grants.approvers.link(foreign, signed(foreign))
    clock.advance(601)
    with pytest.raises(InvalidInput, match="too old"):
        await grants.approvers.link(proof, signed(proof))
    with pytest.raises(NotFound):
        await grants.approvers.unlink("ada", OWNER_ID)


class Contract:
    """A smart account that approves one signature for one digest."""

    address = "0x" + "c0" * 20

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes, bytes]] = []

    async def approves(self, network: str, address: str, digest: bytes, signature: bytes) -> bool:
        self.asked.append((network, address, digest, signature))
        return address == self.address and signature == b"yes"


async def test_a_smart_account_is_asked_whether_it_signed(books: Books, clock: ManualClock) -> None:
    contract = Contract()
    grants = grants_of(books, clock, contract)
    document = mandate(clock, iss=f"evm:{contract.address}")
    await grants.approve(document, "0x" + b"yes".hex())
    message = encode_typed_data(full_message=typed_data(document, USDC.network))
    digest = keccak(b"\x19" + message.version + message.header + message.body)
    assert contract.asked == [(USDC.network, contract.address, digest, b"yes")]
    for refused in (b"no".hex(), "00" * 9000, "xyz"):
        with pytest.raises(NotAllowed):
            await grants.approve(document, refused)
    with pytest.raises(NotAllowed):  # without somebody to ask, only keys can sign
        await grants_of(books, clock).approve(document, "0x" + b"yes".hex())


async def test_the_wallet_itself_can_take_its_approval_back(grants: Grants, books: Books, clock: ManualClock) -> None:
    await link(grants)
    document = hers(clock)
    await grants.approve(document, signed(document))
    revocation = revocation_of(document)
    for signature in (signed(revocation, OTHER), signed(document), "0x", signed(revocation, network="eip155:1")):
        with pytest.raises(NotAllowed):
            await grants.revoke_signed(document.grant_id, signature)
    assert (await grants.status(document.grant_id)).open
    assert not (await grants.revoke_signed(document.grant_id, signed(revocation))).open
    assert (await grants.get(document.grant_id)).revocation == signed(revocation)
    with pytest.raises(BudgetExceeded) as caught:
        await Spender(books, document.grant_id).reserve("late", "0.01")
    assert caught.value.details["limit"] == "revoked"


async def test_unlinking_a_wallet_takes_back_what_it_approved(grants: Grants, clock: ManualClock) -> None:
    await link(grants)
    for number in range(3):
        document = hers(clock, jti=f"s-{number}")
        await grants.approve(document, signed(document))
    assert len(await grants.drop_wallet("ada", OWNER_ID)) == 3
    assert [status.open for _, status in await grants.list("ada")] == [False] * 3
    with pytest.raises(NotAllowed):
        document = hers(clock, jti="s-4")
        await grants.approve(document, signed(document))


async def test_approvals_are_their_owners_business(grants: Grants, clock: ManualClock) -> None:
    await link(grants)
    document = hers(clock)
    await grants.approve(document, signed(document))
    with pytest.raises(NotFound):
        await grants.get(document.grant_id, owner="eve")
    with pytest.raises(NotFound):
        await grants.revoke(document.grant_id, owner="eve")
    with pytest.raises(NotFound):
        await grants.choose("eve", document.grant_id, [])
    assert await grants.list("eve") == []
    ((grant, status),) = await grants.list("ada")
    assert grant.to_json(status)["state"] == "open"


def charge(amount: str | None, capability: str = "pdf.extract", seller: str = "evm:0xbbbb") -> Charge:
    return Charge(capability, seller, None if amount is None else usdc(amount))


@pytest.mark.parametrize(
    ("charges", "objection"),
    [
        ([charge("2"), charge("2"), charge("1")], ""),
        ([], ""),
        ([charge("2.000001")], "allows 2.00 USDC per payment"),
        ([charge("2"), charge("2"), charge("1.000001")], "left of the approval's total"),
        ([charge("1", "text.summarize")], "does not name text.summarize"),
        ([charge("1", seller="evm:0xcc")], "does not name the seller"),
        ([charge(None)], "no price yet"),
        ([Charge("pdf.extract", "evm:0xbbbb", Money(SATS, 1))], "costs sat"),
    ],
)
async def test_a_plan_goes_ahead_only_within_what_was_signed(
    grants: Grants, clock: ManualClock, charges: list[Charge], objection: str
) -> None:
    await link(grants)
    document = hers(
        clock,
        BUDGET,
        {"type": "payment.amount_range", "max": "2", "currency": USDC.caip19},
        {"type": "payment.allowed_payees", "allowed": ("evm:0xbbbb",)},
        {"type": "agentnexus.allowed_capabilities", "allowed": ("pdf.extract",)},
    )
    await grants.approve(document, signed(document))
    for wanted in (ANY, document.grant_id):
        answer = await grants.choose("ada", wanted, charges)
        assert answer.given == (not objection)
        assert objection in answer.objection
        assert bool(answer.objection) == bool(objection)


async def test_any_approval_means_the_first_to_expire_of_those_that_allow_it(
    grants: Grants, books: Books, clock: ManualClock
) -> None:
    await link(grants)
    assert (await grants.choose("ada", ANY, [charge("1")])).objection == "no approval is open"
    now = int(clock.now().timestamp())
    small = hers(clock, {**BUDGET, "max": "1"}, jti="small", exp=now + 100)
    large = hers(clock, jti="large")
    for document in (large, small):
        await grants.approve(document, signed(document))
    assert (await grants.choose("ada", ANY, [charge("1")])).grant_id == small.grant_id
    assert (await grants.choose("ada", ANY, [charge("1.5")])).grant_id == large.grant_id
    await Spender(books, small.grant_id).reserve("used", "0.5")
    assert (await grants.choose("ada", ANY, [charge("1")])).grant_id == large.grant_id
    assert "0.5" in (await grants.choose("ada", small.grant_id, [charge("1")])).objection
    await grants.revoke(large.grant_id)
    assert (await grants.choose("ada", large.grant_id, [])).objection == "the approval is revoked"
    clock.advance(100)
    assert (await grants.choose("ada", small.grant_id, [])).objection == "the approval is expired"


async def test_200_spenders_in_4_processes_never_pass_a_signed_limit_by_one_unit(
    database: Database, database_url: str
) -> None:
    async with Books(database) as books:
        grants = grants_of(books, books._clock)
        await books.deposit("funding", "wallet:0", usdc("0.002"))
        document = mandate(books._clock, {**BUDGET, "max": "0.000701"})
        await grants.approve(document, signed(document))
        await books.budgets.create("agent", parent=document.grant_id)
        async with spending(database_url, "same_budget", ["a", "b", "c", "d"], 50, 6) as processes:
            answers = [str(answer["answer"]) for answer in await answers_of(processes)]
        assert (answers.count("ok"), answers.count("total")) == (701, 499)
        status = await grants.status(document.grant_id)
        assert (status.spent + status.reserved, status.left["total"]) == (usdc("0.000701"), usdc("0"))
        assert len(await grants.uses(document.grant_id)) == 701
        assert (await books.check()).clean


async def test_from_the_moment_of_a_revocation_nothing_more_is_reserved(books: Books, grants: Grants) -> None:
    """Spenders run while the wallet takes its approval back: what was reserved may settle, nothing comes after."""
    document = mandate(books._clock, {**BUDGET, "max": "100"})
    await grants.approve(document, signed(document))
    rival = Books(books.db, books._clock)
    spent: list[str] = []
    revoked = asyncio.Event()
    late: list[str] = []

    async def spend(number: int) -> None:
        spender = Spender(rival if number % 2 else books, document.grant_id)
        for turn in range(40):
            after = revoked.is_set()
            key = f"{number}:{turn}"
            try:
                await spender.reserve(key, "0.01")
            except NexusError as error:
                assert error.details["limit"] == "revoked"
                return
            (late if after else spent).append(key)
            await spender.books.capture(key)

    async def revoke() -> None:
        while len(spent) < 20:
            await asyncio.sleep(0)
        await grants.revoke_signed(document.grant_id, signed(revocation_of(document)))
        revoked.set()

    await asyncio.gather(revoke(), *(spend(number) for number in range(8)))
    assert late == []
    status = await grants.status(document.grant_id)
    assert status.spent == usdc("0.01") * len(spent)
    assert not status.reserved
    assert (await books.balance(SELLER, USDC)).posted == status.spent
    await rival.close()


def test_each_kind_of_wallet_is_told_what_to_sign(clock: ManualClock) -> None:
    assert to_sign(mandate(clock), USDC.network)["scheme"] == "eip712"
    shown = to_sign(mandate(clock, iss=SOLANA.public_id), USDC.network)
    assert str(shown["message"]).startswith("AgentNexus asks you to approve spending.\n")


def test_the_documents_of_a_wallet_can_never_pass_for_each_other(clock: ManualClock) -> None:
    document = mandate(clock, iss=SOLANA.public_id)
    proof = WalletLink(iss=SOLANA.public_id, owner="ada", cnf=NODE, iat=0)
    first_lines = {message_text(each).splitlines()[0] for each in (document, revocation_of(document), proof)}
    types = {typed_data(each, USDC.network)["primaryType"] for each in (document, revocation_of(document), proof)}
    assert (len(first_lines), len(types)) == (3, 3)


async def test_two_wallets_may_pick_one_nonce(grants: Grants, clock: ManualClock) -> None:
    """Nobody can take a nonce, or the name of a budget, away from anybody else."""
    ours, theirs = mandate(clock, jti="user:ada"), mandate(clock, jti="user:ada", iss=OTHER_ID)
    await grants.approve(theirs, signed(theirs, OTHER))
    assert (await grants.approve(ours, signed(ours))).owner == OWNER_ID
    assert (await grants._books.budgets.status("user:ada")).owner == "ada"
