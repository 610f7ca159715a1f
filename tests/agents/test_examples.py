"""The manifests' examples run, the demo's documents chain through the agents, and the CSV holds together."""

from __future__ import annotations

import csv
import json
import tomllib
from datetime import UTC, datetime

import jsonschema
import pytest

from tests.agents.support import AGENTS, EXAMPLES, example, load, refused, run

NAMES = sorted(path.name for path in AGENTS.iterdir() if (path / "agent.toml").exists())


def test_the_four_agents_are_here_with_their_prices() -> None:
    manifests = {name: load(name)[0] for name in NAMES}

    assert {m.name: (m.capability, m.pricing.per_run, m.pricing.currency) for m in manifests.values()} == {
        "org.agentnexus.content-summarizer": ("text.summarize", "0.01", "USDC"),
        "org.agentnexus.knowledge-qa": ("knowledge.answer", "0.012", "USDC"),
        "org.agentnexus.pdf-extractor": ("pdf.extract", "0.02", "USDC"),
        "org.agentnexus.spreadsheet-analyzer": ("table.analyze", "0.015", "USDC"),
    }
    assert all(manifest.egress.hosts == () for manifest in manifests.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_example_of_a_manifest_fits_both_schemas_and_runs(name: str) -> None:
    manifest, agent = load(name)
    assert manifest.examples
    for shown in manifest.examples:
        jsonschema.Draft202012Validator(agent.input_schema).validate(shown.input)
        output = run(name, shown.input)
        jsonschema.Draft202012Validator(agent.output_schema).validate(output)
        json.dumps(output, allow_nan=False)


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_sound_and_every_answer_has_the_common_envelope(name: str) -> None:
    _, agent = load(name)

    jsonschema.Draft202012Validator.check_schema(agent.input_schema)
    jsonschema.Draft202012Validator.check_schema(agent.output_schema)
    assert {"result", "engine", "sources", "warnings", "cost"} <= set(agent.output_schema["properties"])


@pytest.mark.parametrize("name", NAMES)
def test_everything_a_manifest_preloads_can_be_imported(name: str) -> None:
    import importlib

    manifest, _ = load(name)

    assert all(importlib.import_module(module) for module in manifest.preload)


def test_the_first_task_chains_a_report_into_a_summary() -> None:
    extracted = run("pdf-extractor", {"file": example("renewables-report.pdf")})

    summary = run("content-summarizer", {"text": extracted["result"]["text"], "sentences": 5})

    assert len(summary["result"]["summary"]) == 5


def test_the_second_task_answers_over_two_extracted_reports_with_pages() -> None:
    sources = [
        {"name": name, "text": run("pdf-extractor", {"file": example(name)})["result"]["text"]}
        for name in ("renewables-report.pdf", "storage-brief.pdf")
    ]
    question = tomllib.loads((EXAMPLES / "tasks.toml").read_text())["tasks"][1]["text"]

    result = run("knowledge-qa", {"question": question.rpartition("citations:")[2], "sources": sources})["result"]

    assert "1966" in result["answer"]
    assert (result["citations"][0]["source"], result["citations"][0]["page"]) == ("renewables-report.pdf", 2)


def test_the_third_task_ends_in_a_refusal() -> None:
    assert refused("pdf-extractor", {"file": example("scanned-note.pdf")}).code == "agent_refused"


def test_the_tasks_name_files_that_exist_and_say_how_they_end() -> None:
    tasks = tomllib.loads((EXAMPLES / "tasks.toml").read_text())["tasks"]

    assert [task["expect"] for task in tasks] == ["completed", "completed", "failed"]
    assert all((EXAMPLES / name).is_file() for task in tasks for name in task["files"])
    assert len(tasks[1]["files"]) > 2


def test_the_power_stations_are_plausible_and_named_once() -> None:
    with (EXAMPLES / "power-stations.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    assert len({row["name"] for row in rows}) == len(rows) == 24
    assert all(1880 < int(row["first_power_year"]) <= datetime.now(UTC).year for row in rows)
    assert all(0 < float(row["capacity_mw"]) <= 22500 for row in rows)
    assert max(rows, key=lambda row: float(row["capacity_mw"]))["name"] == "Three Gorges"


def test_the_report_and_the_table_agree_about_the_stations_in_both() -> None:
    pages = run("pdf-extractor", {"file": example("renewables-report.pdf"), "want": ["tables"]})["result"]["pages"]
    in_report = {row[0]: float(row[-1].replace(",", "")) for page in pages[1:3] for row in page["tables"][0][1:]}
    with (EXAMPLES / "power-stations.csv").open(encoding="utf-8", newline="") as file:
        in_table = {row["name"]: float(row["capacity_mw"]) for row in csv.DictReader(file)}

    both = in_report.keys() & in_table.keys()

    assert len(both) >= 9
    assert {name: in_report[name] for name in both} == {name: in_table[name] for name in both}
