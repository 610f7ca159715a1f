"""Strangers' texts in a terminal: shown, never obeyed."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from agentnexus.bootstrap.verify import verify_with_chain
from agentnexus.cli.app import report
from agentnexus.cli.printable import DEPTH_MAX, TOO_DEEP, printable
from agentnexus.cli.receipt import verify
from agentnexus.cli.view import TaskView
from agentnexus.core.errors import SellerFailed
from tests.hiring.test_receipts import signed

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


async def test_a_receipt_of_somebody_elses_key_is_not_taken_for_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anybody can make a receipt that agrees with itself: whose it is is shown, and can be asked for."""
    receipt = await signed()
    path = tmp_path / "receipt.json"
    path.write_text(receipt.model_dump_json())

    def checked(*arguments: str) -> int:
        code: int = verify.main([str(path), *arguments], standalone_mode=False)
        return code

    assert await asyncio.to_thread(checked) == 0
    assert f"signed by {receipt.signer}" in capsys.readouterr().out
    assert await asyncio.to_thread(checked, "--signer", receipt.signer) == 0
    assert await asyncio.to_thread(checked, "--signer", "ed25519:" + "00" * 32) == 1
    assert (await verify_with_chain("x", None))["signer"] == "?"


async def test_who_signed_is_said_once_for_all_or_for_each_where_they_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = (await signed()).model_dump(mode="json"), (await signed()).model_dump(mode="json")

    def told(*receipts: dict[str, object]) -> str:
        path = tmp_path / "receipts.json"
        path.write_text(json.dumps({"receipts": receipts}))
        verify.main([str(path)], standalone_mode=False)
        return capsys.readouterr().out

    once = await asyncio.to_thread(told, ours, theirs, ours)
    assert once.count("valid  ") == 3
    assert once.count("signed by ") == 1
    assert once.rstrip().endswith(f"signed by {ours['signer']} (--signer accepts only yours)")
    each = await asyncio.to_thread(told, ours, theirs | {"signer": "ed25519:" + "00" * 32})
    assert each.count(f"  signed by {ours['signer']}") == 1
    assert "  signed by ed25519:00" in each
