"""Workflows under signed grants: they go ahead within what was signed, and ask a person beyond it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from eth_account.signers.local import LocalAccount

from agentnexus.core.clock import ManualClock
from agentnexus.core.events import Event, EventName
from agentnexus.core.offers import Need
from agentnexus.core.payments import Limits
from agentnexus.hiring.model import Hired
from agentnexus.ledger.approvers import Approvers
from agentnexus.ledger.books import Books
from agentnexus.ledger.budgets import BudgetStatus
from agentnexus.ledger.grants import ANY, Grants, revocation_of
from agentnexus.ledger.mandates import Constraint
from agentnexus.ledger.wallet_signatures import WalletSignatures
from agentnexus.platform.blobs import MemoryBlobs
from agentnexus.platform.database import Database
from agentnexus.workflows.engine.memory import MemoryJournal
from agentnexus.workflows.granting import charges_of
from agentnexus.workflows.model import Plan, PlanStep, StepOffer, Workflow, WorkflowStatus
from agentnexus.workflows.service import Workflows
from agentnexus.workflows.worker import open_room
from tests.ledger.wallets import NODE, OWNER, OWNER_ID, mandate, signed

from .catalogue import USDC, agent_offers
from .conftest import Bench
from .scripted import ScriptedHirer

DOLLAR = USDC.parse("1")
PAYER, PAYEE = "wallet:ann", "seller:any"
TASK = "Extract the text of the report"


def budget(most: str) -> Constraint:
    return {"type": "payment.budget", "max": most, "currency": USDC.caip19}


class PayingHirer(ScriptedHirer):
    """Reserves and captures in the real ledger for every hire; `after` is called with each capability that was paid."""

    def __init__(self, books: Books) -> None:
        super().__init__(agent_offers())
        self._books = books
        self.after: Callable[[str], Awaitable[None]] | None = None

    async def hire(self, need: Need, *, budget_id: str, key: str, **more: object) -> Hired:
        offer = next(each for each in self.catalogue if each.capability.name == need.capability)
        await self._books.reserve(
            key, budget_id=budget_id, payer_account=PAYER, payee_account=PAYEE, amount=offer.price.maximum,
            seller=offer.seller.key, capability=offer.capability.name,
        )  # fmt: skip
        hired = await super().hire(need, budget_id=budget_id, key=key, **more)  # type: ignore[arg-type]  # passed on
        await self._books.capture(key)
        if self.after is not None:
            await self.after(offer.capability.name)
        return hired


@dataclass
class House:
    bench: Bench
    books: Books
    grants: Grants | None
    hirer: PayingHirer

    async def sign(self, *constraints: Constraint, account: LocalAccount = OWNER, **fields: object) -> str:
        assert self.grants is not None
        document = mandate(self.bench.clock, *constraints, **{"parent": "user:ann", **fields})
        return (await self.grants.approve(document, signed(document, account, USDC.network))).id

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Workflows]:
        async def root(user_id: str) -> str:
            return f"user:{user_id}"

        engine = self.bench.engine()
        room = open_room(
            engine, hirer=self.hirer, budgets=self.books.budgets, blobs=MemoryBlobs(),
            clock=self.bench.clock, root_budget=root, approvals=self.grants,
        )  # fmt: skip
        async with self.bench.working(engine), asyncio.timeout(30):
            yield room.workflows

    async def budget_of(self, workflow: Workflow) -> BudgetStatus:
        return await self.books.budgets.status(f"workflow:{workflow.id}")


@pytest.fixture
async def house(database: Database, clock: ManualClock) -> AsyncIterator[House]:
    async with Books(database, clock) as books:
        await books.deposit("funding", PAYER, USDC.parse("100"))
        await books.budgets.create("user:ann", owner="ann", asset=USDC, limits=Limits(per_day=USDC.parse("50")))
        approvers = Approvers(database, clock, WalletSignatures(USDC.network), NODE)
        proof = approvers.proof("ann", OWNER_ID)
        await approvers.link(proof, signed(proof, OWNER, USDC.network))
        yield House(
            Bench(MemoryJournal(clock), clock), books, Grants(books, clock, USDC, approvers), PayingHirer(books)
        )


async def start(workflows: Workflows, grant: str, **more: object) -> Workflow:
    files = [await workflows.add_file("report.pdf", b"%PDF-1.4 some", "application/pdf")]
    made = await workflows.create("ann", TASK, files, max_cost=DOLLAR, grant=grant, **more)  # type: ignore[arg-type]
    return await workflows.settle_at(made.id, "ann")


async def told(workflows: Workflows, workflow: Workflow, name: EventName) -> Event | None:
    async for event in workflows.events(workflow.id, "ann"):
        if event.name is name:
            return event
        if workflow.status is WorkflowStatus.AWAITING_APPROVAL and event.name is EventName.WORKFLOW_AWAITING_APPROVAL:
            return None
    return None


@pytest.mark.parametrize("by_id", [True, False])
async def test_a_plan_within_a_grant_runs_without_asking_and_spends_from_it(house: House, by_id: bool) -> None:
    grant = await house.sign(budget("5"))
    async with house.working() as workflows:
        workflow = await start(workflows, grant if by_id else ANY)
        assert workflow.status is WorkflowStatus.COMPLETED
        approved = await told(workflows, workflow, EventName.WORKFLOW_APPROVED)
        assert approved is not None
        assert approved.data["by"] == grant
        assert await told(workflows, workflow, EventName.WORKFLOW_AWAITING_APPROVAL) is None
    status = await house.budget_of(workflow)
    assert (status.parent, status.owner) == (grant, "ann")


@pytest.mark.parametrize(
    ("constraints", "objection"),
    [
        ((budget("0.001"),), "left of the approval's total"),
        ((budget("5"), {"type": "agentnexus.allowed_capabilities", "allowed": ("text.summarize",)}), "does not name"),
        ((budget("5"), {"type": "payment.allowed_payees", "allowed": ("evm:0xcc",)}), "does not name the seller"),
        ((budget("5"), {"type": "payment.amount_range", "max": "0.001", "currency": USDC.caip19}), "per payment"),
    ],
)
async def test_a_plan_beyond_the_grant_asks_a_person_and_says_why(
    house: House, constraints: tuple[Constraint, ...], objection: str
) -> None:
    grant = await house.sign(*constraints)
    async with house.working() as workflows:
        workflow = await start(workflows, grant, auto_approve=True)
        assert workflow.status is WorkflowStatus.AWAITING_APPROVAL
        asked = await told(workflows, workflow, EventName.WORKFLOW_AWAITING_APPROVAL)
        assert asked is not None
        assert objection in str(asked.data["objection"])
        await workflows.approve(workflow.id, "ann")
        done = await workflows.result(workflow.id, "ann")
        assert done.status is WorkflowStatus.COMPLETED
    assert (await house.budget_of(workflow)).parent == "user:ann"


async def test_grants_of_others_and_those_that_ended_approve_nothing(house: House) -> None:
    assert house.grants is not None
    await house.books.budgets.create("user:eve", owner="eve", asset=USDC)
    proof = house.grants.approvers.proof("eve", OWNER_ID)
    await house.grants.approvers.link(proof, signed(proof, OWNER, USDC.network))
    foreign = await house.sign(budget("5"), jti="eve", parent="user:eve")
    revoked = await house.sign(budget("5"), jti="revoked")
    await house.grants.revoke(revoked)
    short = await house.sign(budget("5"), jti="short", exp=int(house.bench.clock.now().timestamp()) + 10)
    house.bench.clock.advance(11)
    async with house.working() as workflows:
        for wanted in (foreign, revoked, short, "grant_of_nobody", ANY):
            workflow = await start(workflows, wanted, auto_approve=True)
            assert workflow.status is WorkflowStatus.AWAITING_APPROVAL, wanted
            await workflows.cancel(workflow.id, "ann")


async def test_a_node_without_grants_asks_a_person(house: House) -> None:
    house.grants = None
    async with house.working() as workflows:
        workflow = await start(workflows, ANY, auto_approve=True)
        assert workflow.status is WorkflowStatus.AWAITING_APPROVAL
        await workflows.cancel(workflow.id, "ann")


async def test_what_the_grant_approved_stays_approved_after_a_restart_but_not_after_its_revocation(
    house: House,
) -> None:
    """The decision is journalled; whether money may move is asked of the budget every time."""
    assert house.grants is not None
    grant = await house.sign(budget("5"))
    async with house.working() as workflows:
        workflow = await start(workflows, grant)
        assert workflow.status is WorkflowStatus.COMPLETED
    await house.grants.revoke(grant)
    async with house.working() as workflows:
        assert (await workflows.get(workflow.id, "ann")).status is WorkflowStatus.COMPLETED
        assert (await start(workflows, grant)).status is WorkflowStatus.AWAITING_APPROVAL


async def test_a_grant_taken_back_in_the_middle_stops_the_very_next_payment(house: House) -> None:
    assert house.grants is not None
    grants = house.grants
    document = mandate(house.bench.clock, budget("5"), parent="user:ann")
    await grants.approve(document, signed(document, OWNER, USDC.network))

    async def revoke(_capability: str) -> None:
        await grants.revoke_signed(document.grant_id, signed(revocation_of(document), OWNER, USDC.network))

    house.hirer.after = revoke
    async with house.working() as workflows:
        files = [await workflows.add_file("report.pdf", b"%PDF-1.4 some", "application/pdf")]
        made = await workflows.create("ann", "Summarise this report", files, max_cost=DOLLAR, grant=document.grant_id)
        done = await workflows.result(made.id, "ann")
    assert done.plan is not None
    assert len(done.plan.steps) > 1
    assert done.status is WorkflowStatus.FAILED
    assert done.error is not None
    assert done.error["code"] == "budget_exceeded"
    uses = await grants.uses(document.grant_id)
    assert [use.state.value for use in uses] == ["posted"]
    assert (await grants.status(document.grant_id)).spent == uses[0].captured_money
    assert (await house.books.balance(PAYEE, USDC)).posted == uses[0].captured_money
    assert (await house.books.check()).clean


def test_what_is_done_here_needs_no_price_to_be_approved() -> None:
    hired = PlanStep(id="s1", title="", capability="a.b", offer=StepOffer.of(agent_offers()[0]))
    choose = {"op": "choose", "when": {"value": {"$step": "s1"}, "test": "empty"}, "then": 0, "otherwise": 1}
    local = PlanStep.model_validate({"id": "s2", "title": "", "transform": choose})
    charges = charges_of(Plan(planner="hand", steps=(hired, local)))
    assert [charge.capability for charge in charges] == ["a.b"]
    assert charges[0].amount is not None
