"""The pages' doors over the real services: workflows on the engine, listings in the database, offers of hiring."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal

import pytest

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import AgentRefused, Conflict, NoOffer, NotFound
from agentnexus.core.events import Event, EventName
from agentnexus.core.offers import Need
from agentnexus.hiring.model import RankedOffer, SourceHealth
from agentnexus.marketplace.listings.service import Listings, Till
from agentnexus.platform.blobs import MemoryBlobs
from agentnexus.platform.database import Database
from agentnexus.web.adapters.catalogue import ListingCatalogue
from agentnexus.web.adapters.economy import HouseEconomy
from agentnexus.web.adapters.events import RunLog
from agentnexus.web.adapters.lifting import lift_files
from agentnexus.web.adapters.runs import WorkflowRuns
from agentnexus.web.doors import AgentQuery, NewTask
from agentnexus.web.forms import Upload
from agentnexus.web.views.agents import AgentView
from agentnexus.web.views.runs import RunView
from agentnexus.workflows.engine.memory import MemoryJournal
from agentnexus.workflows.worker import open_room
from tests.marketplace.test_listings import bundle, put
from tests.web import samples
from tests.workflows.catalogue import USDC, agent_offers
from tests.workflows.conftest import Bench
from tests.workflows.scripted import ScriptedBudgets, ScriptedHirer

LIMIT = USDC.parse("0.5")
PDF = AgentView(
    id="pdf.extract", name="PDF extractor", summary="", price="0.02 USDC", amount=USDC.parse("0.02"),
    capability="pdf.extract", input_schema=samples.PDF_INPUT,
)  # fmt: skip


class Room:
    """Workflows on an engine in memory, hiring from a script."""

    def __init__(self, clock: ManualClock) -> None:
        self.bench = Bench(MemoryJournal(clock), clock)
        self.hirer = ScriptedHirer(agent_offers())
        self.blobs = MemoryBlobs()
        self.room = open_room(
            self.bench.engine(), hirer=self.hirer, budgets=ScriptedBudgets(), blobs=self.blobs, clock=clock
        )
        self.runs = WorkflowRuns(self.room.workflows)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[WorkflowRuns]:
        async with self.bench.working(self.room.engine), asyncio.timeout(30):
            yield self.runs


@pytest.fixture
def room(clock: ManualClock) -> Room:
    return Room(clock)


def task(text: str = "Summarise the report", key: str = "") -> NewTask:
    return NewTask(text, [Upload("report.pdf", "application/pdf", b"%PDF data")], LIMIT, key=key)


async def views_until(runs: WorkflowRuns, run_id: str, state: str) -> list[RunView]:
    seen: list[RunView] = []
    async for view in runs.follow("ann", run_id):
        seen.append(view)
        if view.state.name == state:
            return seen
    return seen


async def test_a_task_waits_for_approval_then_runs_to_its_result(room: Room) -> None:
    async with room.working() as runs:
        run_id = await runs.create("ann", task())
        waiting = (await views_until(runs, run_id, "awaiting_approval"))[-1]
        assert waiting.can_approve
        assert waiting.money.expected == "0.03 USDC"
        assert [step.seller for step in waiting.steps]
        assert waiting.files == (("report.pdf", "9 bytes"),)
        await runs.approve("ann", run_id)
        done = (await views_until(runs, run_id, "completed"))[-1]
    assert done.final
    assert done.money.spent == "0.03 USDC"
    assert [step.state.name for step in done.steps] == ["completed", "completed"]
    assert done.steps[1].depends_on == ("s1",)
    assert [receipt.amount for receipt in done.receipts] == ["0.02 USDC", "0.01 USDC"]
    assert done.blocks
    texts = [line.text for line in done.log]
    assert "Everything is done" in texts
    assert any("half way" in text for text in texts)
    assert any(text.endswith("seller paid, 0.02 USDC") for text in texts)
    again = await runs.view("ann", run_id)
    assert again == done


async def test_the_same_form_sent_twice_is_one_task(room: Room) -> None:
    async with room.working() as runs:
        first = await runs.create("ann", task(key="k1"))
        assert await runs.create("ann", task(key="k1")) == first
        assert await runs.create("ann", task("Summarise it again", key="k1")) != first
        assert await runs.create("ben", task(key="k1")) != first


async def test_a_single_run_is_paid_at_most_its_price_and_its_file_is_kept_as_a_blob(room: Room) -> None:
    value: dict[str, object] = {"file": base64.b64encode(b"%PDF data").decode(), "want": ["text"]}
    async with room.working() as runs:
        run_id = await runs.run_agent("ann", PDF, value, "k")
        assert await runs.run_agent("ann", PDF, value, "k") == run_id
        done = (await views_until(runs, run_id, "completed"))[-1]
        workflow = await room.room.workflows.get(run_id, "ann")
    assert workflow.plan is not None
    assert workflow.plan.steps[0].input == {"file": {"$file": 0}, "want": ["text"]}
    assert workflow.max_cost == USDC.parse("0.02")
    assert room.hirer.needs[f"{run_id}:s1:1"].input == value
    assert done.agent_id == "pdf.extract"
    assert await runs.result("ann", run_id) == {"result": {"text": "pdf.extract done", "answer": "yes"}}
    receipt = await runs.receipt("ann", run_id, done.receipts[0].id)
    assert receipt["status"] == "settled"


async def test_a_seller_that_fails_leaves_a_plain_word_about_the_refund(room: Room) -> None:
    async def refuse(_need: Need, _key: str) -> object:
        raise AgentRefused("the file is encrypted", next_step="remove the password")

    room.hirer.acts["pdf.extract"] = refuse
    async with room.working() as runs:
        run_id = await runs.run_agent("ann", PDF, {"file": "AAAA"}, "")
        failed = (await views_until(runs, run_id, "failed"))[-1]
    assert failed.problem is not None
    assert (failed.problem.message, failed.problem.next_step) == ("The file is encrypted.", "Remove the password.")
    assert failed.money.refunded == "0.02 USDC"
    assert failed.money.spent == ""
    (receipt,) = failed.receipts
    assert receipt.state.label == "Refunded"
    assert receipt.amount == "0.00 USDC"


async def test_a_task_is_stopped_and_a_strangers_is_not_found(room: Room) -> None:
    async with room.working() as runs:
        run_id = await runs.create("ann", task())
        await views_until(runs, run_id, "awaiting_approval")
        for call in (runs.view, runs.cancel, runs.approve, runs.result):
            with pytest.raises(NotFound):
                await call("ben", run_id)
        with pytest.raises(NotFound):
            await runs.receipt("ann", run_id, "rct_other")
        with pytest.raises(NotFound):
            await runs.result("ann", run_id)
        await runs.cancel("ann", run_id)
        cancelled = (await views_until(runs, run_id, "cancelled"))[-1]
        with pytest.raises(Conflict):
            await runs.cancel("ann", run_id)
    assert cancelled.final
    assert cancelled.money.spent == ""


async def test_a_run_whose_seller_the_market_chooses_goes_on_to_the_next_seller(room: Room) -> None:
    async with room.working() as runs:
        run_id = await runs.run_agent("ann", PDF, {"file": "AAAA"}, "k", any_seller=True)
        assert await runs.run_agent("ann", PDF, {"file": "AAAA"}, "k", any_seller=True) == run_id
        assert await runs.run_agent("ann", PDF, {"file": "AAAA"}, "k") != run_id
        views = await views_until(runs, run_id, "completed")
    shown = views[-1]
    assert shown.text == f"{PDF.name}, from whoever sells it best"
    assert [step.capability for step in shown.steps] == ["pdf.extract"]
    assert (shown.planner, shown.agent_id, shown.can_keep) == ("", "", True)
    assert shown.money.limit == PDF.price


async def test_an_agent_that_nobody_sells_any_more_is_said_so(room: Room) -> None:
    async with room.working() as runs:
        with pytest.raises(NoOffer):
            await runs.run_agent("ann", replace(PDF, id="gone", capability="pdf.gone"), {}, "")


async def test_tasks_are_listed_newest_first_with_what_they_cost(room: Room) -> None:
    async with room.working() as runs:
        run_id = await runs.run_agent("ann", PDF, {"file": "AAAA"}, "")
        await views_until(runs, run_id, "completed")
        room.bench.clock.advance(5)
        newer = await runs.create("ann", task())
        listed, more = await runs.recent("ann")
    assert [each.id for each in listed] == [newer, run_id]
    assert listed[1].spent == "0.02 USDC"
    assert listed[1].steps == 1
    assert not more


def test_events_are_told_once_in_order_and_with_amounts() -> None:
    log = RunLog(assets={samples.USDC.caip19: samples.USDC})
    events = samples.sample_events(samples.sample_workflows()["wf_failed"])
    for event in [*events, *events]:
        log.feed(event)
    assert [line.sequence for line in log.lines] == sorted({line.sequence for line in log.lines})
    texts = [line.text for line in log.lines]
    assert "Analyse the figures in sales.csv: money set aside, 0.02 USDC" in texts
    assert "Analyse the figures in sales.csv: failed, the answer does not have the promised form" in texts


def test_an_event_with_strange_data_is_still_a_line() -> None:
    log = RunLog()
    data: dict[str, object] = {"step": 5, "amount": ["x"], "error": {"message": None}, "message": {"a": 1}}
    log.feed(Event(name=EventName.STEP_FAILED, subject="wf", sequence=1, at=samples.START, data=data))
    log.feed(Event(name=EventName.WORKFLOW_PLAN_READY, subject="wf", sequence=2, at=samples.START, data={"steps": [3]}))
    assert len(log.lines) == 2


def test_files_are_lifted_out_wherever_the_schema_has_them() -> None:
    data = base64.b64encode(b"abc").decode()
    value = {
        "question": "q",
        "sources": [{"name": "a.txt", "file": data}, {"name": "b", "text": data}, {"file": "no!"}],
    }
    lifted = lift_files(samples.QA_INPUT, value)
    assert lifted.files == [("a.txt", b"abc")]
    assert lifted.value["sources"] == [
        {"name": "a.txt", "file": {"$file": 0}},
        {"name": "b", "text": data},
        {"file": "no!"},
    ]


@pytest.fixture
async def listings(database: Database) -> Listings:
    made = Listings(database, ManualClock(samples.START), Till(samples.USDC, "USD Coin", "2"))
    priced = {"pricing": {"per_run": "0.01", "events": [{"name": "page", "price": "0.002", "maximum": 10}]}}
    await put(made, bundle("metered", **priced), bundle("plain", categories=["security"]))
    return made


async def test_the_catalogue_shows_what_manifests_say(listings: Listings) -> None:
    catalogue = ListingCatalogue(listings, "https://node.example/")
    page = await catalogue.search(AgentQuery())
    assert {agent.name for agent in page.agents} == {"Metered", "Plain"}
    assert dict(page.categories) == {"general": 1, "security": 1}
    assert page.total == 2
    (found,) = (await catalogue.search(AgentQuery(category="security"))).agents
    assert found.endpoint == "https://node.example/x402/agents/org.test.plain"
    metered = await catalogue.agent("org.test.metered")
    assert metered.price == "0.03 USDC"
    assert metered.price_note.startswith("at most; 0.01 USDC per run and 0.002 USDC per page")
    cheap = await catalogue.search(AgentQuery(max_price=samples.USDC.parse("0.04"), sort="price"))
    assert [agent.id for agent in cheap.agents] == ["org.test.metered"]
    with pytest.raises(NotFound):
        await catalogue.agent("org.test.nobody")


class _Markets:
    """What hiring says of two markets and four offers, one of them by a seller with a record."""

    async def offers(self, need: Need, *, limit: int) -> list[RankedOffer]:
        found = [offer for offer in agent_offers() if need.capability in (None, offer.capability.name)]
        return [
            RankedOffer(offer, offer.seller.key, Decimal(0), 0, 0, 0, 0, 0, reputation=4.62, new=number > 0)
            for number, offer in enumerate(found[:limit])
        ]

    def statistics(self) -> tuple[SourceHealth, ...]:
        return (
            SourceHealth("x402", asked=10, answered=10, offers=4),
            SourceHealth("shaky", asked=10, answered=5, failed=5, last_error="timed out"),
            SourceHealth("dead", asked=3, failed=3),
            SourceHealth("new"),
        )


async def test_the_economy_shows_every_offer_and_this_nodes_figures(room: Room, listings: Listings) -> None:
    economy = HouseEconomy(_Markets(), listings, room.room.workflows)
    offers = await economy.offers("")
    assert len(offers) == 4
    assert {offer.market for offer in offers} == {"x402"}
    assert [offer.capability for offer in await economy.offers("pdf.extract")] == ["pdf.extract"]
    assert dict(await economy.figures())["agents for hire"] == "2"
    assert [offer.reputation for offer in offers[:2]] == ["4.6 of 5", "new"]
    states = [(market.name, market.state.label, market.answered) for market in await economy.markets()]
    assert states == [
        ("x402", "Answering", "100 %"), ("shaky", "Some failures", "50 %"), ("dead", "Not answering", "0 %"),
        ("new", "Not asked yet", "none yet"),
    ]  # fmt: skip
