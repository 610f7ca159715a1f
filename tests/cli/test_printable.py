"""Strangers' texts in a terminal: shown, never obeyed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from agentnexus.cli.app import report
from agentnexus.cli.printable import DEPTH_MAX, TOO_DEEP, printable
from agentnexus.cli.view import TaskView
from agentnexus.core.errors import SellerFailed

EVIL = "calm\x1b[2J\x1b]0;pwn\x07\x9b31m\r\b\u202e\x7f words"
DRIVING = set("\x1b\x07\x9b\r\b\u202e\x7f")


def test_everything_a_task_shows_is_only_text() -> None:
    out = io.StringIO()
    view = TaskView(console=Console(file=out, width=200))
    step = {"id": EVIL, "capability": EVIL, "seller": EVIL, "market": EVIL, "depends_on": [EVIL]}
    payment = {"network": EVIL, "state": "confirmed", "amount": "1", "transaction": EVIL}
    receipt = {"id": EVIL, "status": "settled", "offer": {"title": EVIL}, "payments": [payment]}
    view.plan({"planner": "offline", "plan": {"steps": [step]}})
    for name in ("step.started", "step.progress", "step.retrying", "step.failed"):
        view.event({"type": name, "data": {"step": "s1", "title": EVIL, "message": EVIL, "error": {"message": EVIL}}})
    view.event({"type": "payment.refunded", "data": {"step": EVIL}})
    view.result({"status": "completed", "result": {"summary": [EVIL], EVIL: EVIL}, "receipts": [receipt]})
    view.result({"status": "failed", "error": {"message": EVIL, "next_step": EVIL}})
    assert "calm" in out.getvalue()
    assert not DRIVING & set(out.getvalue())


def test_an_error_told_by_a_seller_is_only_text(capsys: pytest.CaptureFixture[str]) -> None:
    report(SellerFailed(EVIL, next_step=EVIL, fields=[{"field": EVIL, "problem": EVIL}]))
    told = capsys.readouterr().err
    assert "calm" in told
    assert not DRIVING & set(told)


def test_lines_stay_lines_and_other_values_stay_as_they_are() -> None:
    assert printable({"a": ["one\ntwo\tthree", 1, None, True]}) == {"a": ["one\ntwo\tthree", 1, None, True]}
    assert printable("a\x1bb") == "a\\x1bb"
    deep: object = "x\x07"
    for _ in range(10_000):
        deep = [deep]
    found = printable(deep)
    for _ in range(DEPTH_MAX + 1):
        assert isinstance(found, list)
        found = found[0]
    assert found == TOO_DEEP
