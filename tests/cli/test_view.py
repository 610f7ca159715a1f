"""What people see of a task: plan and price, live steps, money that came back, results and receipts."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from agentnexus.cli.view import TaskView, summary

USDC = {"asset": "eip155:31337/erc20:0x5f", "symbol": "USDC", "decimals": 6}
TRANSACTION = "0x" + "ab" * 32


def usd(atomic: int) -> dict[str, object]:
    return USDC | {"atomic": str(atomic)}


class Screen:
    """A view on a terminal of 100 columns; `text` is what stands on it."""

    def __init__(self, *, quiet: bool = False, typed: str | None = None) -> None:
        self._out = io.StringIO()
        console = Console(width=100, file=self._out, quiet=quiet, highlight=False)
        if typed is not None:
            console.input = lambda prompt="": (console.print(prompt, end=""), typed)[1]  # type: ignore[method-assign]  # no terminal here
        self.view = TaskView(quiet=quiet, console=console)

    @property
    def text(self) -> str:
        return self._out.getvalue()


def step(name: str, kind: str, **data: object) -> dict[str, object]:
    return {"type": f"step.{kind}", "seq": 1, "data": {"step": name, **data}}


def state(status: str = "completed", **changes: object) -> dict[str, object]:
    plain: dict[str, object] = {
        "status": status,
        "planner": "offline",
        "plan": {
            "steps": [
                {"id": "s1", "capability": "pdf.extract", "seller": "evm:0x" + "9" * 40, "market": "x402",
                 "depends_on": [], "price": usd(20_000)},
                {"id": "s2", "capability": "text.summarize", "seller": "short", "market": "catalogue",
                 "depends_on": ["s1"], "price": usd(10_000)},
            ]
        },
        "estimate": {"expected": usd(30_000), "worst_case": usd(45_000)},
        "cost": usd(30_000),
        "result": {"result": {"summary": ["First.", "Second."]}},
        "receipts": [],
        "error": None,
    }  # fmt: skip
    return plain | changes


def receipt(status: str = "settled", **payment: object) -> dict[str, object]:
    paid = {"state": "confirmed", "amount": "20000", "network": "eip155:31337", "transaction": TRANSACTION}
    paid["asset"] = str(USDC["asset"])
    payments = [paid | payment] if payment.get("state") != "none" else []
    offer, quote = {"title": "PDF [bold]extractor"}, {"maximum": usd(30_000)}
    return {"id": "rct_1", "status": status, "offer": offer, "quote": quote, "payments": payments}


def test_the_plan_names_steps_sellers_order_and_the_most_it_may_cost() -> None:
    screen = Screen()
    screen.view.plan(state())
    for expected in ("pdf.extract", "evm:0x9999…9999", "catalogue", "0.02 USDC", "s1", "expected cost 0.03 USDC"):
        assert expected in screen.text
    assert "at most 0.045 USDC" in screen.text


def test_what_was_paid_in_another_asset_is_not_called_by_the_price_s_name() -> None:
    screen = Screen()
    screen.view.result(state(receipts=[receipt(asset="solana:x/slip44:501", amount="5")]))
    assert "5 of the smallest unit of solana:x/slip44:501" in screen.text


def test_an_empty_plan_is_shown_without_falling_over() -> None:
    screen = Screen()
    screen.view.plan({"status": "failed", "planner": "", "plan": None, "estimate": None})
    assert "expected cost -" in screen.text


def test_steps_are_followed_from_start_to_end() -> None:
    screen = Screen()
    with screen.view as view:
        view.event(step("s1", "started", title="Read [the] report"))
        view.event(step("s1", "progress", progress=0.5, message="page 3 of 6"))
        view.event(step("s1", "retrying", error={"message": "the seller is away"}))
        view.event(step("s1", "started", title="Read [the] report"))
        view.event(step("s1", "completed"))
        view.event(step("s2", "started", title="Summarise"))
        view.event(step("s2", "failed", error={"message": "a scan"}))
        view.event(step("unknown", "progress", progress=1))
        view.event({"type": "payment.refunded", "seq": 9, "data": {"step": "s2"}})
        view.event({"type": "workflow.completed", "seq": 10})
    assert "Read [the] report" in screen.text
    assert "done" in screen.text
    assert "failed a scan" in screen.text
    assert "money back of step s2" in screen.text


@pytest.mark.parametrize(("typed", "yes"), [("y", True), (" YES ", True), ("n", False), ("", False), ("maybe", False)])
def test_only_a_clear_yes_is_a_yes(typed: str, yes: bool) -> None:
    screen = Screen(typed=typed)
    with screen.view as view:
        assert view.ask() is yes
    assert "run it? [y/N]" in screen.text


def test_where_nobody_can_answer_it_is_no_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    screen = Screen()
    assert screen.view.ask() is False
    assert "--yes" in screen.text


def test_a_result_comes_with_its_receipts_and_costs() -> None:
    screen = Screen()
    screen.view.result(state(receipts=[receipt()]))
    for expected in ("completed", "First.", "settled", "PDF [bold]extractor", "paid 0.02 USDC", "rct_1", TRANSACTION):
        assert expected in screen.text
    assert "paid in all: 0.03 USDC" in screen.text


def test_a_failure_comes_with_its_reason_advice_and_the_way_of_the_money() -> None:
    screen = Screen()
    error = {"code": "agent_refused", "message": "it is a [scan]", "next_step": "send text"}
    back = receipt("refunded", state="refunded", transaction="", refund_transaction="0x77")
    screen.view.result(state("failed", error=error, receipts=[back, receipt("failed", state="none")]))
    for expected in ("it is a [scan]", "what to do: send text", "refunded", "paid nothing", "cancelled in 0x77"):
        assert expected in screen.text
    assert "nothing was asked or paid" in screen.text


def test_a_payment_that_never_left_says_so() -> None:
    screen = Screen()
    screen.view.receipts([receipt("failed", state="failed", transaction="")])
    assert "nothing moved" in screen.text


def test_quiet_prints_nothing() -> None:
    screen = Screen(quiet=True)
    with screen.view as view:
        view.event(step("s1", "started", title="x"))
        view.plan(state())
        view.result(state(receipts=[receipt()]))
    assert screen.text == ""


def test_long_results_are_cut_and_passages_name_their_page() -> None:
    assert summary("x" * 5000).endswith(" …")
    assert len(summary({"a": "y" * 5000})) <= 1800
    passages = {"result": {"answer": "1966", "passages": [{"text": "In 1966", "source": "a.pdf", "page": 4}]}}
    assert "In 1966  (a.pdf · 4)" in summary(passages)
    assert summary({}) == "(empty)"
    many = {"result": {"findings": [{"message": f"finding {n}"} for n in range(50)]}}
    assert summary(many).count("finding ") < 10


def test_an_answer_names_the_places_it_quotes_instead_of_whole_passages() -> None:
    place = {"source": "a.pdf", "page": 4}
    passages, citations = [place | {"text": "long"}], [place | {"sentence": "In 1966."}, place]
    quoted = {"answer": "In 1966.", "found": True, "passages": passages, "citations": citations}
    assert summary(quoted) == "answer: In 1966.\nfrom: a.pdf · 4"


def test_what_no_document_answers_is_said_before_the_nearest_passages() -> None:
    nearest = {"answer": None, "found": False, "passages": [{"text": "Dogs are " + "very " * 90, "source": "a.pdf"}]}
    first, _, passage = summary(nearest).splitlines()
    assert "do not answer" in first
    assert passage.endswith("very …  (a.pdf)")


def test_fields_that_hold_nothing_are_left_out() -> None:
    assert summary({"text": "", "fields": None, "outline": [], "forms": {}, "page_count": 2}) == "page_count:\n  2"


def test_charts_are_counted_and_the_page_that_draws_them_is_named() -> None:
    screen = Screen()
    two = {"a.csv": {"answer": "1", "charts": [{"title": "A"}]}, "b.csv": {"charts": [{"title": "B"}], "answer": "2"}}
    screen.view.result(state(result=two), "http://127.0.0.1:5000/tasks/wf_1")
    assert "all of it, with 2 charts: http://127.0.0.1:5000/tasks/wf_1" in screen.text
    plain = Screen()
    plain.view.result(state("failed", error={"message": "no"}), "http://127.0.0.1:5000/tasks/wf_1")
    assert "all of it" not in plain.text


def test_notes_on_the_plan_and_warnings_of_agents_are_shown_as_plain_text() -> None:
    screen = Screen()
    said = {"step": "s1", "title": "PDF [red]reader", "warning": "page 2 is\x1b[2J a scan"}
    screen.view.plan(state(notes=["b.csv is not used: [bold]nothing asks for it"]))
    screen.view.result(state(warnings=[said]))
    assert "note: b.csv is not used: [bold]nothing asks for it" in screen.text
    assert "warning of PDF [red]reader: page 2 is" in screen.text
    assert "\x1b[2J" not in screen.text


def test_a_step_that_is_not_needed_is_told_with_its_reason() -> None:
    screen = Screen()
    screen.view.event(step("s2", "skipped", reason="its condition does not hold"))
    assert "step s2 is not needed: its condition does not hold" in screen.text
