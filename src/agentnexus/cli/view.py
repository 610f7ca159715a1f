"""What `nexus task` and `nexus hire` show in a terminal: plan, live progress, result, receipts, costs."""

from __future__ import annotations

import json
import signal
from decimal import Decimal
from types import TracebackType
from typing import Self, cast

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from agentnexus.cli.printable import printable
from agentnexus.core.money import EXACT, spelled

TEXT_SHOWN_MAX = 1800
LISTED_MAX = 6
ENTRY_SHOWN_MAX = 240
PREFERRED = ("answer", "title", "summary", "findings", "passages", "sources")
PLANNERS = {"offline": "the offline planner", "llm": "a language model", "single": "hand"}
NOT_FOUND = "The documents do not answer this clearly. What comes nearest:"
Json = dict[str, object]


def money(value: object) -> str:
    """``0.02 USDC`` from the JSON form of money, or the value itself."""
    if isinstance(value, dict) and "atomic" in value:
        decimals = int(value["decimals"])
        return f"{spelled(Decimal(value['atomic']).scaleb(-decimals, EXACT), decimals)} {value['symbol']}"
    return "-" if value is None else str(value)


def _list(value: object) -> list[Json]:
    return cast("list[Json]", value) if isinstance(value, list) else []


class TaskView:
    """Shows a workflow as it goes; `quiet` shows nothing (for ``--json``)."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(quiet=quiet, highlight=False)
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("[dim]{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
        )
        self._rows: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def event(self, event: Json) -> None:
        """Take one event into the picture."""
        name = str(event["type"])
        data = printable(cast("Json", event.get("data") or {}))
        step = str(data.get("step") or data.get("step_id") or "")
        if name == "step.started":
            self._row(step, str(data.get("title") or step))
        elif name == "step.progress" and step in self._rows:
            fraction, note = data.get("progress"), str(data.get("message") or "")[:60]
            done = float(fraction) if isinstance(fraction, int | float) else None
            self._progress.update(self._rows[step], completed=done, note=escape(note))
        elif name in ("step.completed", "step.failed", "step.retrying") and step in self._rows:
            note = {"step.completed": "[green]done", "step.failed": "[red]failed"}.get(name, "[yellow]trying again")
            reason = "" if name == "step.completed" else _reason(data)
            self._progress.update(self._rows[step], completed=1.0, note=f"{note} {escape(reason[:80])}")
        elif name == "step.skipped":
            self.console.print(f"  step {escape(step)} is not needed: {escape(str(data.get('reason') or '')[:80])}")
        elif name == "payment.refunded":
            self.console.print(f"  [yellow]money back[/] of step {escape(step)}")

    def plan(self, state: Json) -> None:
        """The plan as a table with its price."""
        table = Table(title=f"plan, by {_planner(state)}", title_justify="left")
        for column in ("step", "does", "seller", "market", "after", "price"):
            table.add_column(column)
        plan = printable(cast("Json", state.get("plan") or {}))
        for step in _list(plan.get("steps")):
            after = ", ".join(str(name) for name in cast("list[object]", step.get("depends_on") or []))
            cells = (step.get("id"), step.get("capability"), _party(step.get("seller")), step.get("market"), after)
            table.add_row(*(escape(str(cell or "")) for cell in cells), money(step.get("price")))
        self.console.print(table)
        estimate = cast("Json", state.get("estimate") or {})
        self.console.print(
            f"expected cost [bold]{money(estimate.get('expected'))}[/], at most {money(estimate.get('worst_case'))}"
        )
        notes = printable(state.get("notes"))
        for note in notes if isinstance(notes, list) else []:
            self.console.print(f"[dim]note: {escape(str(note))}")

    def ask(self) -> bool:
        """Whether the person says yes. Ctrl-C is a no; the event loop's own handling would wait for the answer."""
        self._progress.stop()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            answer = self.console.input(escape("run it? [y/N] "))
        except EOFError:
            self.console.print("nobody is there to ask, so no: --yes approves without asking")
            answer = ""
        except KeyboardInterrupt:
            self.console.print("no")
            answer = ""
        finally:
            signal.signal(signal.SIGINT, before)
        self._progress.start()
        return answer.strip().lower() in ("y", "yes")

    def result(self, state: Json, page: str = "") -> None:
        """How it ended: result or error, then receipts and costs. `page` is where a browser shows all of it."""
        state = printable(state)
        status = str(state["status"])
        colour = "green" if status == "completed" else "red"
        error = state.get("error")
        if isinstance(error, dict):
            advice = f"\n[dim]what to do: {escape(str(error['next_step']))}" if error.get("next_step") else ""
            body = f"{escape(str(error.get('message', error)))}{advice}"
        else:
            body = escape(summary(state.get("result")))
        self.console.print(Panel(body, title=f"[{colour}]{status}", title_align="left"))
        for said in _list(state.get("warnings")):
            who, what = escape(str(said.get("title"))), escape(str(said.get("warning")))
            self.console.print(f"[yellow]warning[/] of {who}: {what}")
        if receipts := _list(state.get("receipts")):
            self.receipts(receipts)
        self.console.print(f"paid in all: [bold]{money(state.get('cost'))}")
        if page and status == "completed":
            charts = [str(chart.get("title")) for chart in _charts(state.get("result"))]
            drawn = f", with {len(charts)} chart{'s' * (len(charts) > 1)}" if charts else ""
            self.console.print(f"all of it{drawn}: {escape(page)}", soft_wrap=True)

    def receipts(self, receipts: list[Json]) -> None:
        """Two lines per payment: what it was for, and the transaction a stranger can look up."""
        self.console.print("[bold]receipts")
        for receipt in printable(receipts):
            offer = cast("Json", receipt.get("offer") or {})
            colour = "green" if receipt.get("status") == "settled" else "yellow"
            title = escape(str(offer.get("title", "")))
            for payment in _list(receipt.get("payments")):
                paid, place = _amount(payment, receipt), escape(str(payment.get("network")))
                self.console.print(
                    f"  [{colour}]{receipt.get('status')}[/]  {title}  {paid}  [dim]{receipt.get('id')}", soft_wrap=True
                )
                self.console.print(f"    [dim]{place}  {_moved(payment)}", soft_wrap=True)
            if not receipt.get("payments"):
                self.console.print(f"  [{colour}]{receipt.get('status')}[/]  {title}  nothing was asked or paid")

    def _row(self, step: str, title: str) -> None:
        if step in self._rows:
            self._progress.update(self._rows[step], completed=None, note="")
            return
        self._rows[step] = self._progress.add_task(escape(title[:44]), total=1.0, note="")


def _reason(data: Json) -> str:
    error = data.get("error")
    return str(error.get("message", "")) if isinstance(error, dict) else str(data.get("message") or "")


def _party(key: object) -> str:
    """A seller's key short enough for a table: ``evm:0x9965…a4dc``."""
    text = str(key or "")
    return text if len(text) <= 20 else f"{text[:10]}…{text[-4:]}"


def _moved(payment: Json) -> str:
    if payment.get("refund_transaction"):
        return f"cancelled in {payment['refund_transaction']}"
    return f"transaction {payment['transaction']}" if payment.get("transaction") else "nothing moved"


def _amount(payment: Json, receipt: Json) -> str:
    if payment.get("state") not in ("confirmed", "released"):
        return "paid nothing"
    quote = cast("Json", receipt.get("quote") or {})
    priced = cast("Json", quote.get("maximum") or {})
    asset = str(payment.get("asset"))
    known = priced if priced.get("asset") == asset else {"decimals": 0, "symbol": f"of the smallest unit of {asset}"}
    return f"paid {money({**known, 'atomic': payment['amount']})}"


def _planner(state: Json) -> str:
    name = str(state.get("planner"))
    return PLANNERS.get(name, name)


def _charts(value: object) -> list[Json]:
    """Every drawing in a result, also in the results of several steps."""
    if not isinstance(value, dict):
        return []
    inside = [chart for part in value.values() if isinstance(part, dict) for chart in _charts(part)]
    return _list(value.get("charts")) + inside


def summary(result: object) -> str:
    """A readable extract of a result: the parts people look for first, else its first fields."""
    if not isinstance(result, dict):
        return _short(result)
    inner = result.get("result", result)
    if isinstance(inner, dict) and _preferred(inner):
        return "\n".join(_lines(inner))[:TEXT_SHOWN_MAX]
    lines: list[str] = []
    for name, value in _filled(result).items():
        lines.append(f"{name}:")
        lines += [f"  {line}" for line in summary(value).splitlines()]
    return "\n".join(lines)[:TEXT_SHOWN_MAX] or "(empty)"


def _preferred(value: Json) -> list[str]:
    return [name for name in PREFERRED if value.get(name) and not isinstance(value[name], dict)]


def _filled(value: Json) -> Json:
    """Without the fields that hold nothing."""
    return {name: field for name, field in value.items() if field not in (None, "", [], {})}


def _lines(value: Json) -> list[str]:
    lines = [NOT_FOUND] if value.get("found") is False else []
    places = list(dict.fromkeys(_place(citation) for citation in _list(value.get("citations"))))
    # Where the answer quotes its places, the passages around them say nothing more.
    shown = [name for name in _preferred(value) if not (places and name == "passages")]
    lines += [line for name in shown for line in _field(name, value[name])]
    return lines + ([f"from: {', '.join(places)}"] if places else [])


def _place(item: Json) -> str:
    return " · ".join(str(item[key]) for key in ("source", "page") if item.get(key))


def _field(name: str, value: object) -> list[str]:
    if isinstance(value, list):
        return [f"{name}:", *(f"  - {_entry(item)}" for item in value[:LISTED_MAX])]
    return [f"{name}: {_short(value)}"]


def _entry(item: object) -> str:
    """One element of a list on one line; a passage or finding by its text."""
    if isinstance(item, dict):
        text = item.get("text") or item.get("message") or item.get("title")
        place = _place(cast("Json", item))
        if isinstance(text, str):
            return f"{_cut(' '.join(text.split()))}{f'  ({place})' if place else ''}"
    return _short(item)[:ENTRY_SHOWN_MAX]


def _cut(text: str) -> str:
    """At the end of a word."""
    return text if len(text) <= ENTRY_SHOWN_MAX else f"{text[:ENTRY_SHOWN_MAX].rpartition(' ')[0]} …"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= TEXT_SHOWN_MAX else text[:TEXT_SHOWN_MAX] + " …"
