"""The main job as a user sees it: sentences and files become paid, checked results; bad input loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentnexus.bootstrap.verify import verify_with_chain
from tests.economy.conftest import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")
EXAMPLES = Path("examples")


def nexus(town: Town, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agentnexus.cli", *arguments],
        env={**os.environ, "NEXUS_HOME": str(town.economy.home)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def _payments(state: dict[str, object]) -> list[dict[str, object]]:
    return [payment for receipt in state["receipts"] for payment in receipt["payments"]]  # type: ignore[attr-defined, union-attr]  # JSON


async def test_a_task_over_a_file_is_planned_paid_and_answered(town: Town) -> None:
    done = nexus(
        town, "task", "Summarise this report in three sentences", "--file", str(EXAMPLES / "renewables-report.pdf"),
        "--budget", "0.10", "--yes", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    state = json.loads(done.stdout)
    assert state["status"] == "completed", state
    assert [step["capability"] for step in state["plan"]["steps"]] == ["pdf.extract", "text.summarize"]
    assert state["plan"]["steps"][1]["depends_on"] == [state["plan"]["steps"][0]["id"]]
    assert state["cost"]["atomic"] == "30000"
    assert all(step["status"] == "completed" and step["receipt"] for step in state["steps"])
    for receipt in state["receipts"]:
        report = await verify_with_chain(receipt, town.economy.chain.rpc_url)
        assert report["valid"], report["problems"]


async def test_several_files_run_in_parallel_and_answer_with_citations(town: Town) -> None:
    names = (("power-stations.csv", "text/csv"), ("renewables-report.pdf", "application/pdf"))
    files = [await town.upload(EXAMPLES / name, media_type) for name, media_type in names]
    files.append(await town.upload(EXAMPLES / "storage-brief.pdf", "application/pdf"))
    text = (
        "Analyse the table and chart which country has the most capacity, and answer from the two reports with "
        "citations: when did the tidal power station on the Rance open?"
    )
    state = await town.run(text, files=files)
    assert state["status"] == "completed", state
    assert "1966" in json.dumps(state["result"])
    capabilities = [step["capability"] for step in state["plan"]["steps"]]  # type: ignore[index, call-overload]  # JSON
    assert sorted(capabilities) == ["knowledge.answer", "pdf.extract", "pdf.extract", "table.analyze"]


async def test_work_that_fails_is_refunded_on_the_chain(town: Town) -> None:
    before = await town.economy.chain.usdc_of(town.economy.chain.accounts["buyer"].address)
    scan = await town.upload(EXAMPLES / "scanned-note.pdf", "application/pdf")
    state = await town.run("Extract the text of this PDF", files=[scan])
    assert state["status"] == "failed"
    assert "scan" in str(state["error"])
    (payment,) = _payments(state)
    assert payment["state"] == "refunded"
    found = await town.economy.chain.rpc.call("eth_getTransactionReceipt", str(payment["refund_transaction"]))
    assert isinstance(found, dict) and found["status"] == "0x1"
    assert await town.economy.chain.usdc_of(town.economy.chain.accounts["buyer"].address) == before


async def test_the_books_agree_with_themselves_and_the_chain(town: Town) -> None:
    done = nexus(town, "ledger", "check", "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["good"] is True


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("empty.csv", b"", "empty"),
        ("header-only.csv", b"a,b\n", ""),
        ("not.pdf", b"this is no PDF at all", "PDF"),
        ("latin1.csv", "stad;v\xe4rde\nMalm\xf6;5\nLule\xe5;7\n".encode("latin-1"), ""),
    ],
)
async def test_a_bad_file_is_an_answer_not_a_loss(
    town: Town, tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    if not data:
        answer = await town.call("POST", "/files", files={"file": (name, data, "text/csv")})
        assert answer.status_code == 400
        assert said in answer.text
        return
    media_type = "application/pdf" if name.endswith("pdf") else "text/csv"
    reference = await town.upload(path, media_type)
    task = "Extract the text of this PDF" if name.endswith("pdf") else "Analyse this table"
    state = await town.run(task, files=[reference])
    paid = [payment for payment in _payments(state) if payment["state"] == "confirmed"]
    assert (state["status"] == "completed") == (len(paid) == 1)
    if state["status"] == "failed":
        assert said.lower() in str(state["error"]).lower()
        assert "next_step" in state["error"]  # type: ignore[operator]  # JSON


async def test_a_file_over_the_limit_is_refused_with_the_limit(town: Town) -> None:
    answer = await town.call("POST", "/files", files={"file": ("big.pdf", b"0" * 50_000_000, "application/pdf")})
    assert answer.status_code == 413
    assert answer.json()["error"]["next_step"]


async def test_a_task_that_nobody_can_do_ends_before_any_money(town: Town) -> None:
    state = await town.run("Fly to the moon and bring back a stone")
    assert state["status"] == "failed"
    assert not state["receipts"]
    assert state["error"]["next_step"]  # type: ignore[index]  # JSON


async def test_a_budget_that_is_too_small_stops_before_any_money(town: Town) -> None:
    done = nexus(
        town, "task", "Summarise this report", "--file", str(EXAMPLES / "renewables-report.pdf"), "--budget", "0.001",
        "--yes", "--json",
    )  # fmt: skip
    state = json.loads(done.stdout)
    assert state["status"] == "failed"
    assert not state["receipts"]
    assert done.returncode == 3


async def test_a_stranger_sees_nothing_of_a_workflow(town: Town) -> None:
    workflow = await town.create("Analyse nothing at all")
    answer = await town.call("GET", f"/workflows/{workflow}", headers={"Authorization": "Bearer nx_wrong"})
    assert answer.status_code == 403


async def test_events_resume_without_loss_or_repetition(town: Town) -> None:
    scan = await town.upload(EXAMPLES / "tides-article.html", "text/html")
    workflow = await town.create("Summarise this article", files=[scan])
    await town.ended(workflow)

    async def sequences(after: int) -> list[int]:
        answer = await town.call("GET", f"/workflows/{workflow}/events", params={"after": after})
        return [int(line[4:]) for line in answer.text.splitlines() if line.startswith("id: ")]

    everything = await sequences(0)
    assert everything == list(range(1, len(everything) + 1))
    assert await sequences(3) == everything[3:]


async def test_hire_and_offers_from_the_command_line(town: Town) -> None:
    offers = json.loads(nexus(town, "offers", "text.summarize", "--json").stdout)
    assert offers[0]["offer"]["price"]["per_job"]["atomic"] == "10000"
    text = "The Moon causes the tides. The Sun adds a little. Spring tides are the largest. " * 3
    arguments = ["hire", "text.summarize", "--input", json.dumps({"text": text}), "--max-price", "0.02", "--json"]
    first = json.loads(nexus(town, *arguments, "--key", "same").stdout)
    again = json.loads(nexus(town, *arguments, "--key", "same").stdout)
    assert first["receipt"] == again["receipt"]
    too_cheap = nexus(town, "hire", "text.summarize", "--input", json.dumps({"text": text}), "--max-price", "0.001")
    assert too_cheap.returncode == 1
    assert "what to do" in too_cheap.stderr


async def test_a_personal_limit_stops_a_hire_before_anything_is_asked(town: Town) -> None:
    text = json.dumps({"text": "The Moon causes the tides. The Sun adds a little. " * 3})
    assert nexus(town, "budget", "--set", "per_payment=0.001").returncode == 0
    done = nexus(town, "hire", "text.summarize", "--input", text, "--max-price", "0.02")
    assert nexus(town, "budget", "--set", "per_payment=1").returncode == 0
    assert done.returncode == 3, done.stderr
    assert "per_payment" in done.stderr or "payment" in done.stderr


async def test_offers_are_compared_explained_and_the_paid_one_rated(town: Town) -> None:
    too_few = await town.call("GET", "/api/v1/offers/compare", params={"need": "text.summarize", "minimum": 5})
    assert (too_few.status_code, too_few.json()["error"]["code"]) == (404, "no_offer")
    found = await town.call("GET", "/api/v1/offers/compare", params={"need": "text.summarize", "minimum": 1})
    assert found.json()["data"]["offers"][0]["offer"]["capability"]["name"] == "text.summarize"
    why = await town.call("GET", "/api/v1/offers/explain", params={"need": "text.summarize"})
    assert why.json()["data"]["factors"]
    body = {"need": "text.summarize", "input": {"text": "The Moon causes the tides. " * 9}, "max_price": "0.02"}
    receipt = (await town.call("POST", "/api/v1/hire", json=body)).json()["data"]["receipt"]["id"]
    assert receipt in [each["id"] for each in (await town.call("GET", "/api/v1/receipts")).json()["data"]]
    path = f"/api/v1/receipts/{receipt}/rating"
    assert (await town.call("POST", path, json={"rating": 6})).status_code == 400
    assert (await town.call("POST", path, json={"rating": 5})).json()["success"]
    assert (await town.call("POST", path, json={"rating": 1})).json()["data"]["rating"] == 1
    assert (await town.call("POST", "/api/v1/receipts/rct_none/rating", json={"rating": 5})).status_code == 404


async def test_health_tells_times_costs_and_errors(town: Town) -> None:
    health = (await town.call("GET", "/workflows/health")).json()
    assert health["recent"] >= 1
    assert health["average_seconds"] > 0
    assert int(health["total_cost"][0]["atomic"]) > 0
    assert all(0 < share <= 1 for share in health["error_rates"].values())


async def test_what_an_agent_tells_is_heard_while_it_works(town: Town, tmp_path: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas

    path = tmp_path / "long.pdf"
    canvas = Canvas(str(path))
    for page in range(120):
        for line in range(40):
            canvas.drawString(50, 780 - 18 * line, f"Page {page} line {line} tells of tides, wind and the Sun.")
        canvas.showPage()
    canvas.save()
    workflow = await town.create("Extract the text of this PDF", files=[await town.upload(path, "application/pdf")])
    await town.ended(workflow)
    events = (await town.call("GET", f"/workflows/{workflow}/events")).text
    told = [
        json.loads(line[5:]) for line in events.splitlines() if line.startswith("data:") and "step.progress" in line
    ]
    assert any("page" in str(event["data"].get("message")) for event in told), told
