"""Authors run and check their agent from its folder."""

from __future__ import annotations

import pytest

from agentnexus.sdk import ManifestError
from agentnexus.sdk.local import check_folder, describe, open_folder, run_agent, run_folder
from tests.sdk.samples import CODE, MANIFEST, repeat, write_sample


def test_an_agent_runs_from_its_folder(tmp_path):
    run = run_folder(write_sample(tmp_path), {"text": "hello"})
    assert run.outcome.status == "completed"
    assert run.outcome.output == {"letters": 5}
    assert run.artifacts == {"copy.txt": b"hello"}
    assert [kind for kind, _ in run.events] == ["log", "progress", "charge", "metric", "artifact"]


def test_a_refusal_comes_back_as_one(tmp_path):
    run = run_folder(write_sample(tmp_path), {"text": ""})
    assert run.outcome.status == "refused"
    assert run.outcome.error is not None
    assert run.outcome.error.field == "text"


def test_two_agents_with_the_same_file_names_do_not_mix(tmp_path):
    first = write_sample(tmp_path / "first")
    second = write_sample(tmp_path / "second", code=CODE.replace("len(request.text))\n", "-1)\n"))
    assert run_folder(first, {"text": "hello"}).outcome.output == {"letters": 5}
    assert run_folder(second, {"text": "hello"}).outcome.output == {"letters": -1}
    assert run_folder(first, {"text": "hello"}).outcome.output == {"letters": 5}


def test_a_good_folder_has_no_problems(tmp_path):
    assert check_folder(write_sample(tmp_path)) == []


@pytest.mark.parametrize(
    ("code", "toml", "where", "what"),
    [
        (CODE, MANIFEST.partition("[[examples]]")[0], "examples", "add one"),
        (CODE, MANIFEST.replace('"hello"', '""'), "examples.Short", "nothing to count"),
        (CODE, MANIFEST.replace('text = "hello"', "number = 5"), "examples.Short", "text: Field required"),
        (CODE.replace('"page", 2', '"house", 2'), MANIFEST, "examples.Short", "not in pricing.events"),
        (CODE.replace('"page", 2', '"page", 6'), MANIFEST, "examples.Short", "the most is 5"),
        (
            CODE.replace("context.log", "import time; time.sleep(0.05); context.log"),
            MANIFEST.replace("timeout_seconds = 5", "timeout_seconds = 0.01"),
            "examples.Short",
            "took longer than 0.01 seconds",
        ),
    ],
)
def test_what_is_wrong_is_told_by_place(tmp_path, code, toml, where, what):
    (problem,) = check_folder(write_sample(tmp_path, code=code, toml=toml))
    assert problem.where == where
    assert what in problem.what


def test_a_broken_manifest_or_entry_is_told(tmp_path):
    with pytest.raises(ManifestError):
        open_folder(tmp_path)
    with pytest.raises(ImportError, match="no agent"):
        open_folder(write_sample(tmp_path / "a", toml=MANIFEST.replace("agent:count", "agent:missing")))
    with pytest.raises(ImportError):
        open_folder(write_sample(tmp_path / "b", toml=MANIFEST.replace("agent:count", "elsewhere:count")))


def test_a_description_has_all_that_pages_need(tmp_path):
    found = describe(write_sample(tmp_path))
    assert found["input"]["required"] == ["text"]
    assert found["output"]["required"] == ["letters"]
    assert found["manifest"]["name"] == "org.agentnexus.sample"
    assert str(found["manifest_hash"]).startswith("sha256:")


async def test_a_run_can_be_limited_in_time():
    with pytest.raises(TimeoutError):
        await run_agent(repeat, {"text": "wait"}, timeout_seconds=0.01)
