"""Sample agents, plans and workflows in every state: what the preview server and the browser tests show."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

from agentnexus.core.events import Event, EventName
from agentnexus.core.money import Asset
from agentnexus.core.offers import Capability, Offer, Party, Price, Reputation
from agentnexus.core.payments import PaymentRecord, PaymentState, Receipt, ReceiptStatus
from agentnexus.web.views.agents import AgentView, ExampleView
from agentnexus.web.views.market import MarketView, OfferView
from agentnexus.web.views.runs import State
from agentnexus.workflows.model import (
    Estimate,
    FileRef,
    Plan,
    PlanStep,
    StepEstimate,
    StepOffer,
    StepState,
    StepStatus,
    Workflow,
    WorkflowStatus,
)

USDC = Asset("USDC", 6, "eip155:31337/erc20:0x5fbdb2315678afecb367f032d93f642f64180aa3")
START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>"
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 160"><rect width="320" height="160" fill="#f3f7f2"/>'
    '<g fill="#2f7d5b"><rect x="20" y="70" width="44" height="70"/><rect x="84" y="40" width="44" height="100"/>'
    '<rect x="148" y="90" width="44" height="50"/><rect x="212" y="20" width="44" height="120"/></g>'
    "<script>alert(3)</script></svg>"
)

PDF_INPUT = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "file": {
            "type": "string",
            "contentEncoding": "base64",
            "contentMediaType": "application/pdf",
            "description": "The PDF to read, at most 32 MB.",
        },
        "pages": {
            "anyOf": [{"type": "string", "pattern": r"^[0-9,\- ]+$", "maxLength": 60}, {"type": "null"}],
            "title": "Pages",
            "description": "Such as 1-3, 8. Empty means all.",
        },
        "want": {
            "type": "array",
            "uniqueItems": True,
            "items": {"enum": ["text", "tables", "meta"]},
            "default": ["text", "tables"],
            "title": "What to extract",
        },
        "max_tables": {"type": "integer", "minimum": 1, "maximum": 50, "default": 20},
        "keep_layout": {"type": "boolean", "default": False, "description": "Keep columns where the page has them."},
        "password": {"type": "string", "format": "password", "maxLength": 100},
    },
}
PDF_OUTPUT = {
    "type": "object",
    "required": ["result"],
    "properties": {
        "result": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "description": "Everything that can be read, page by page."},
                "pages": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"n": {"type": "integer"}, "text": {"type": "string"}},
                    },
                },
            },
        },
        "warnings": {"type": "array", "items": {"type": "string"}},
    },
}
QA_INPUT = {
    "type": "object",
    "required": ["question", "sources"],
    "properties": {
        "question": {"type": "string", "minLength": 3, "maxLength": 1000, "description": "In your own words."},
        "sources": {
            "type": "array",
            "minItems": 1,
            "maxItems": 20,
            "items": {"$ref": "#/$defs/Source"},
            "description": "What to look the answer up in.",
        },
        "top_k": {"type": "integer", "minimum": 1, "maximum": 20, "default": 5, "title": "Passages to return"},
        "style": {"enum": ["short", "full"], "default": "short"},
        "since": {"type": "string", "format": "date"},
    },
    "$defs": {
        "Source": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 100},
                "text": {"type": "string", "maxLength": 100000},
                "file": {"type": "string", "contentEncoding": "base64"},
            },
        }
    },
}


def _agent(agent_id: str, name: str, price: str, **more: object) -> AgentView:
    base = {"developer": "AgentNexus", "verified": True, "version": "1.2.0", "licence": "Apache-2.0"}
    return AgentView(id=agent_id, name=name, price=f"{price} USDC", **{**base, **more})


AGENTS = (
    _agent(
        "org.agentnexus.pdf-extractor",
        "PDF extractor",
        "0.02",
        summary="Text, tables and facts from any PDF, page by page. Says so when a page is only a scan.",
        description="Reads the text layer and rebuilds tables from their lines.\n\nScanned pages are found and named.",
        capability="pdf.extract",
        category="data-analysis",
        month_price="5 USDC",
        month_runs=1000,
        transferable=True,
        runs=1284,
        success_rate=0.984,
        average_ms=1900,
        p95_ms=5200,
        rating=4.7,
        ratings=41,
        input_schema=PDF_INPUT,
        output_schema=PDF_OUTPUT,
        examples=(
            ExampleView(
                "Two pages of a report",
                {"file": base64.b64encode(b"%PDF-1.7 sample").decode(), "pages": "1-2", "want": ["text"]},
            ),
        ),
        limits=(("Memory", "512 MB"), ("Time", "300 s")),
        endpoint="http://127.0.0.1:8402/x402/agents/org.agentnexus.pdf-extractor",
    ),
    _agent(
        "org.agentnexus.content-summarizer",
        "Content summarizer",
        "0.01",
        summary="The point of a long text or web page in a few sentences, taken from the text itself.",
        capability="text.summarize",
        category="general",
        runs=3120,
        success_rate=0.997,
        average_ms=640,
        p95_ms=1500,
        input_schema={
            "type": "object",
            "required": ["text"],
            "properties": {
                "text": {"type": "string", "maxLength": 200000},
                "sentences": {"type": "integer", "minimum": 1, "maximum": 20, "default": 5},
            },
        },
    ),
    _agent(
        "org.agentnexus.spreadsheet-analyzer",
        "Spreadsheet analyzer",
        "0.015",
        summary="Types, gaps, outliers and correlations of a CSV or Excel file, with a chart.",
        capability="table.analyze",
        category="data-analysis",
        runs=402,
        success_rate=0.97,
        average_ms=2300,
        p95_ms=6100,
        input_schema={"type": "object", "properties": {}},
    ),
    _agent(
        "org.agentnexus.knowledge-qa",
        "Knowledge Q&A",
        "0.012",
        summary="Answers from your own documents, with passage and page. Says so when it is not there.",
        capability="knowledge.answer",
        category="ai-ml",
        input_schema=QA_INPUT,
        examples=(
            ExampleView(
                "One note, one question",
                {
                    "question": "When does the lease end?",
                    "sources": [{"name": "lease.txt", "text": "The lease ends on 1 May."}],
                },
            ),
        ),
    ),
)


def offer(capability: str, title: str, price: str) -> Offer:
    amount = USDC.parse(price)
    return Offer(
        id=f"x402:{capability}",
        market="x402",
        seller=Party(ids={"evm": "0x90f79bf6eb2c4f870365e785982e1f101e93b906"}, name=title),
        capability=Capability(name=capability),
        title=title,
        price=Price(per_job=amount),
        reputation=Reputation(score=4.6, count=120, source="registry"),
        observed_at=START,
    )


def receipt(
    number: int, capability: str, title: str, price: str, status: ReceiptStatus = ReceiptStatus.SETTLED
) -> Receipt:
    paid = status is ReceiptStatus.SETTLED
    return Receipt(
        id=f"rcpt_{number}",
        job_id=f"job_{number}",
        need_hash="sha256:" + "1" * 64,
        offer=offer(capability, title, price),
        quote=None,
        status=status,
        result_hash="sha256:" + f"{number}" * 64 if paid else "",
        started_at=START,
        finished_at=START + timedelta(seconds=number),
        signer="ed25519:" + "ab" * 32,
        signature="c2lnbmF0dXJl",
        payments=(
            PaymentRecord(
                rail="evm",
                network="eip155:31337",
                asset=USDC.caip19,
                amount=str(USDC.parse(price).atomic),
                payer="0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
                payee="0x90f79bf6eb2c4f870365e785982e1f101e93b906",
                transaction="0x" + f"{number}a" * 32 if paid else "",
                state=PaymentState.CONFIRMED if paid else PaymentState.REFUNDED,
                refund_transaction="" if paid else "0x" + f"{number}b" * 32,
            ),
        ),
    )


STEPS = (
    ("s1", "Extract text and tables from annual-report.pdf", "pdf.extract", "PDF extractor", "0.02", ()),
    ("s2", "Analyse the figures in sales.csv", "table.analyze", "Spreadsheet analyzer", "0.015", ()),
    ("s3", "Summarise the report", "text.summarize", "Content summarizer", "0.01", ("s1",)),
    ("s4", "Answer: what changed since last year?", "knowledge.answer", "Knowledge Q&A", "0.012", ("s1", "s2")),
)
PLAN = Plan(
    planner="offline",
    steps=tuple(
        PlanStep(
            id=step,
            title=title,
            capability=capability,
            depends_on=depends,
            offer=StepOffer(
                id=f"x402:{capability}",
                market="x402",
                seller="evm:0x90f7",
                seller_name=seller,
                title=seller,
                price=USDC.parse(price),
            ),
        )
        for step, title, capability, seller, price, depends in STEPS
    ),
)
FILES = (
    FileRef(name="annual-report.pdf", media_type="application/pdf", size_bytes=482_113, blob="sha256:" + "a" * 64),
    FileRef(name="sales.csv", media_type="text/csv", size_bytes=18_200, blob="sha256:" + "b" * 64),
)
SUMMARY = """## What the report says

Revenue grew by **12 %**, mostly in the north.

- Margins held
- Costs of freight fell
- [Source](https://example.org/report)"""
RESULT = {
    "result": {
        "summary": SUMMARY,
        "answer": "Freight costs fell, and two new regions were opened.",
        "found": True,
        "pages_read": 48,
        "regions": [
            {"region": "North", "revenue": 1_204_000, "change": 0.121},
            {"region": "South", "revenue": 904_500, "change": -0.034},
            {"region": ATTACK, "revenue": 310_000, "change": 0.02},
        ],
        "charts": [{"title": "Revenue by region", "media_type": "image/svg+xml", "data": SVG}],
        "export": {
            "name": "figures.csv",
            "media_type": "text/csv",
            "data": base64.b64encode(b"region,revenue\n").decode(),
        },
        "passages": [
            {"source": "annual-report.pdf", "page": 12, "text": "Freight " * 60},
            {"source": "annual-report.pdf", "page": 13, "text": "x" * 400},
        ],
    },
    "engine": "rules",
    "sources": [{"name": "annual-report.pdf", "sha256": "9f" * 32}, {"name": "sales.csv", "sha256": "3c" * 32}],
    "warnings": ["Page 17 is a scan: its text could not be read."],
}


def steps(*statuses: str) -> tuple[StepState, ...]:
    """The sample plan's steps in these states."""
    made = []
    for (step, title, capability, *_), status in zip(STEPS, statuses, strict=True):
        running = status == "running"
        made.append(
            StepState(
                id=step,
                title=title,
                capability=capability,
                status=StepStatus(status),
                attempts=0 if status == "pending" else 1,
                duration_ms=1840 if status == "completed" else None,
                progress=0.4 if running else None,
                message="page 3 of 8" if running else "",
                error={
                    "code": "bad_result",
                    "message": "the answer does not have the promised form",
                    "next_step": "try it again with another seller",
                }
                if status in ("failed", "refunded")
                else None,
            )
        )
    return tuple(made)


def _estimate(step: PlanStep) -> StepEstimate:
    """With another seller who asks a little more."""
    assert step.offer is not None
    dearer = step.offer.model_copy(
        update={
            "id": f"{step.offer.id}-other", "title": "Careful & Sons", "price": step.offer.price * 2,
            "latency_ms": 1840, "rating": 4.62, "ratings": 1200,
        }
    )  # fmt: skip
    return StepEstimate(
        step=step.id, expected=step.offer.price, worst_case=dearer.price, seconds=2, alternatives=(dearer,)
    )


ESTIMATES = tuple(map(_estimate, PLAN.steps))


def workflow(workflow_id: str, status: WorkflowStatus, **changes: object) -> Workflow:
    """A sample workflow; `changes` replace what a just started one has."""
    base: dict[str, object] = {
        "id": workflow_id,
        "user_id": "local",
        "text": "Extract the tables from the annual report, analyse the sales figures, say what changed since then.",
        "files": FILES,
        "status": status,
        "planner": "offline",
        "plan": PLAN,
        "estimate": Estimate(expected=USDC.parse("0.057"), worst_case=USDC.parse("0.114"), steps=ESTIMATES),
        "max_cost": USDC.parse("0.50"),
        "cost": USDC.zero(),
        "steps": (),
        "created_at": START,
        "updated_at": START,
    }
    return Workflow(**{**base, **changes})


def sample_workflows() -> dict[str, Workflow]:
    """One workflow in every state that has its own picture."""
    paid = tuple(receipt(at, step[2], step[3], step[4]) for at, step in enumerate(STEPS, start=1))
    back = (paid[0], receipt(7, "table.analyze", "Spreadsheet analyzer", "0.015", ReceiptStatus.REFUNDED))
    error = {
        "code": "bad_result",
        "message": "step 2 could not be delivered by any seller",
        "next_step": "check that sales.csv has a header line, then run it again",
    }
    listed = [
        workflow("wf_planning", WorkflowStatus.PLANNING, plan=None, estimate=None, planner=""),
        workflow("wf_approval", WorkflowStatus.AWAITING_APPROVAL),
        workflow(
            "wf_executing",
            WorkflowStatus.EXECUTING,
            steps=steps("completed", "running", "running", "pending"),
            cost=USDC.parse("0.02"),
            receipts=paid[:1],
        ),
        workflow(
            "wf_completed",
            WorkflowStatus.COMPLETED,
            steps=steps("completed", "completed", "completed", "completed"),
            cost=USDC.parse("0.057"),
            receipts=paid,
            result=RESULT,
            finished_at=START + timedelta(seconds=9.4),
        ),
        workflow(
            "wf_failed",
            WorkflowStatus.FAILED,
            steps=steps("completed", "refunded", "completed", "skipped"),
            cost=USDC.parse("0.02"),
            receipts=back,
            error=error,
            finished_at=START + timedelta(seconds=31),
        ),
        workflow("wf_cancelled", WorkflowStatus.CANCELLED, finished_at=START + timedelta(seconds=3)),
        workflow(
            "wf_hostile",
            WorkflowStatus.COMPLETED,
            text=ATTACK * 3,
            steps=(),
            plan=None,
            result={"result": {ATTACK: [ATTACK, {"deep": [[ATTACK]]}]}},
        ),
    ]
    return {each.id: each for each in listed}


def sample_events(found: Workflow) -> list[Event]:
    names = [
        (EventName.WORKFLOW_PLANNING, {}),
        (EventName.WORKFLOW_PLAN_READY, {"steps": [{"id": step[0], "title": step[1]} for step in STEPS]}),
        (EventName.WORKFLOW_EXECUTING, {}),
    ]
    for state in found.steps:
        if state.status is not StepStatus.PENDING:
            names += [
                (EventName.STEP_STARTED, {"step": state.id}),
                (EventName.PAYMENT_RESERVED, {"step": state.id, "amount": "20000", "asset": USDC.caip19}),
            ]
        if state.status is StepStatus.COMPLETED:
            names += [(EventName.PAYMENT_SETTLED, {"step": state.id}), (EventName.STEP_COMPLETED, {"step": state.id})]
        if state.status is StepStatus.REFUNDED:
            names += [
                (EventName.STEP_FAILED, {"step": state.id, "error": state.error}),
                (EventName.PAYMENT_REFUNDED, {"step": state.id}),
            ]
    return [
        Event(name=name, subject=found.id, sequence=at, at=START + timedelta(seconds=at), data=data)
        for at, (name, data) in enumerate(names, start=1)
    ]


OFFERS = tuple(
    OfferView(
        title=each.name,
        capability=each.capability,
        market="x402",
        seller=each.developer,
        price=each.price,
        reputation=f"{each.rating or 4.1:.1f}",
        speed="1.9 s",
        state=State("live", "Answering", "done"),
    )
    for each in AGENTS
)
MARKETS = (
    MarketView("x402", State("live", "Answering", "done"), 12, "98 %"),
    MarketView("catalogue", State("late", "Slow", "wait"), 4, "87 %", "timed out after 2 s"),
)
FIGURES = (
    ("agents for hire", "4"),
    ("tasks finished", "318"),
    ("done as promised", "97 %"),
    ("paid to sellers", "12.41 USDC"),
)
