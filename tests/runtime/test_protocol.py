"""What an agent says is checked before anybody hears it; what is wrong ends the run with a reason."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agentnexus.core.errors import (
    AgentFailed,
    AgentRefused,
    BadResult,
    Conflict,
    InvalidInput,
    LimitExceeded,
    NexusError,
    Unavailable,
)
from agentnexus.core.updates import Log, Progress
from agentnexus.runtime.limits import MAXIMUM
from agentnexus.runtime.local.sandbox import LocalSandbox
from agentnexus.runtime.port import RunRequest
from tests.runtime.conftest import collect, write_agent

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_updates_come_in_order_and_end_with_the_result(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": "charge", "count": 3})
    assert ended.output == {"number": 1}
    assert ended.result.metering["charge:page"] == 3


@pytest.mark.parametrize(
    "name",
    [
        "/etc/cron.d/evil",
        "../up.txt",
        "a/b.txt",
        "a\\b.txt",
        "..",
        ".hidden",
        "",
        "nul\0byte",
        "line\nbreak",
        "x" * 300,
        "ü" * 150,
        "right\u202eto-left",
        "trailing.",
        " space",
    ],
)
async def test_a_file_name_that_is_not_plain_ends_the_run(sandbox, hostile, name):
    ended = await collect(sandbox, await hostile("liar"), {"do": "artifact", "text": name})
    assert isinstance(ended.error, AgentFailed)
    assert "file name" in str(ended.error)
    assert ended.error.details["misbehaved"] is True
    assert ended.artifacts == []


async def test_a_plain_file_arrives(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": "artifact", "text": "räport 1.txt"})
    assert [(file.name, file.media_type, file.data) for file in ended.artifacts] == [
        ("räport 1.txt", "text/plain", b"content")
    ]


async def test_too_many_or_too_large_files_end_the_run(sandbox, hostile):
    many = await collect(sandbox, await hostile("liar"), {"do": "artifacts", "count": 21})
    assert isinstance(many.error, LimitExceeded)
    assert many.error.details["limit"] == "artifacts"
    limits = replace(MAXIMUM, artifact_bytes=1000)
    large = await collect(
        sandbox, await hostile("liar"), {"do": "artifacts", "count": 2, "text": "x" * 600}, limits=limits
    )
    assert isinstance(large.error, LimitExceeded)
    assert len(large.artifacts) == 1


async def test_charges_above_the_cap_end_the_run(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": "charge", "count": 6})
    assert isinstance(ended.error, LimitExceeded)
    assert ended.error.details["limit"] == "charges"


async def test_the_caller_may_set_a_lower_cap(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": "charge", "count": 3}, charge_caps={"page": 2})
    assert isinstance(ended.error, LimitExceeded)


async def test_a_charge_with_the_same_key_counts_once(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": "charge_twice", "count": 3})
    assert ended.result.metering["charge:page"] == 3
    assert "counted once" in ended.text


async def test_a_charge_that_is_not_in_the_price_list_ends_the_run(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": "charge", "text": "house", "count": 1})
    assert isinstance(ended.error, AgentFailed)
    assert "price list" in str(ended.error)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        ('{"type":"charge","event":"page","count":-5,"key":"k"}', "proper count"),
        ('{"type":"charge","event":"page","count":true,"key":"k"}', "proper count"),
        ('{"type":"charge","event":"page","count":1.5,"key":"k"}', "proper count"),
        ('{"type":"charge","event":"page","count":1,"key":""}', "proper count"),
        ('{"type":"charge","event":{},"count":1,"key":"k"}', "price list"),
        ('{"type":"artifact","name":"a.txt","media_type":"nonsense","data":""}', "media type"),
        ('{"type":"artifact","name":"a.txt","media_type":"text/plain","data":"%%"}', "broken form"),
        ('{"type":"metric","name":"Bad Name","value":1}', "plain name"),
        ('{"type":"metric","name":"pages","value":1e300}', "whole number"),
        ('{"type":"pay_me"}', "unknown message"),
        ("[]", "not an object"),
        ("{", "not JSON"),
        ('{"type":"progress","fraction":NaN}', "not JSON"),
        ('{"type":"metric","value":' + "9" * 5000 + "}", "not JSON"),
    ],
)
async def test_a_forged_message_ends_the_run_with_its_fault(sandbox, hostile, frame, why):
    ended = await collect(sandbox, await hostile("liar"), {"do": "forge", "text": frame})
    assert isinstance(ended.error, AgentFailed)
    assert why in str(ended.error)


async def test_a_result_nested_too_deeply_is_refused(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": "deep", "count": 200_000})
    assert isinstance(ended.error, AgentFailed)
    assert "nested too deeply" in str(ended.error)
    ended = await collect(sandbox, await hostile("liar"), {"do": "deep", "count": 900})
    assert isinstance(ended.error, BadResult)


async def test_a_result_that_its_own_schema_forbids_is_a_bad_result(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": "wrong_result"})
    assert isinstance(ended.error, BadResult)
    assert ended.error.details["field"] == "number"


async def test_a_frame_that_claims_four_gigabytes_is_refused(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": "huge_length"})
    assert isinstance(ended.error, LimitExceeded)
    assert ended.error.details["limit"] == "output"


async def test_a_frame_that_is_cut_off_is_a_broken_protocol(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": "cut_off"})
    assert isinstance(ended.error, AgentFailed)
    assert "cut off" in str(ended.error)


@pytest.mark.parametrize(
    "text", ["before\0after", "a\r\n\r\nevent: completed\ndata: {}", "\x1b[2Jgone", "line\u2028separator", "\u202eabc"]
)
async def test_log_lines_cannot_end_a_line_start_an_event_or_drive_a_terminal(sandbox, hostile, text):
    ended = await collect(sandbox, await hostile("liar"), {"do": "log", "text": text})
    assert ended.output == {"number": 1}
    for log in ended.logs:
        assert log.message.isprintable(), log


async def test_a_lone_surrogate_in_a_log_can_still_be_stored(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": "forge", "text": '{"type":"log","message":"\\ud800"}'})
    assert ended.logs[0].message.encode() == "\ufffd".encode()


async def test_an_unknown_level_becomes_info_and_a_wild_fraction_unknown(sandbox, hostile):
    bundle = await hostile("liar")
    forged = '{"type":"log","message":"m","level":"root"}'
    assert (await collect(sandbox, bundle, {"do": "forge", "text": forged})).logs == [Log("m", "info")]
    forged = '{"type":"progress","fraction":7}'
    assert (await collect(sandbox, bundle, {"do": "forge", "text": forged})).progress == [Progress(None, "")]


async def test_secrets_reach_the_agent_and_no_log_refusal_or_progress(sandbox, hostile):
    key = "sk-live-123456"
    ended = await collect(sandbox, await hostile("liar"), {"do": "secret"}, secrets={"API_KEY": key})
    assert isinstance(ended.error, AgentRefused)
    everything = repr(ended.updates) + repr(ended.error.to_json())
    assert key not in everything
    assert "the key is [secret API_KEY]" in ended.text
    assert "printed [secret API_KEY]" in ended.text
    assert ended.progress == [Progress(0.5, "progress with [secret API_KEY]")]


async def test_a_secret_is_not_there_in_the_next_run(sandbox, hostile):
    bundle = await hostile("liar")
    await collect(sandbox, bundle, {"do": "secret"}, secrets={"API_KEY": "sk-live-123456"})
    ended = await collect(sandbox, bundle, {"do": "secret"})
    assert isinstance(ended.error, AgentFailed)
    assert "no secret named API_KEY" in str(ended.error)


async def test_a_request_does_not_show_its_secrets_when_printed():
    assert "sk-live" not in repr(RunRequest("x", {}, secrets={"API_KEY": "sk-live-123456"}))


async def test_a_wrong_input_names_the_field_and_starts_nothing(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": 5})
    assert isinstance(ended.error, InvalidInput)
    assert ended.error.details["field"] == "do"
    assert ended.updates == []


async def test_without_schemas_the_agent_itself_refuses_a_wrong_input(sandbox, hostile):
    bundle = replace(await hostile("liar"), input_schema=None)
    ended = await collect(sandbox, bundle, {"do": "log", "count": "many"})
    assert isinstance(ended.error, InvalidInput)
    assert ended.error.details["field"] == "count"


async def test_an_exception_is_a_failure_with_its_trace_in_the_log(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": "crash", "text": "here"})
    assert isinstance(ended.error, AgentFailed)
    assert "RuntimeError: as planned: here" in str(ended.error)
    assert "in _crash" in ended.text
    assert {log.level for log in ended.logs} == {"error"}


async def test_leaving_by_exit_is_a_failure(sandbox, hostile):
    ended = await collect(sandbox, await hostile("liar"), {"do": "leave", "count": 0})
    assert isinstance(ended.error, AgentFailed)
    assert "SystemExit" in str(ended.error)


async def test_every_run_draws_its_own_random_numbers(sandbox, hostile):
    bundle = await hostile("liar")
    drawn = {(await collect(sandbox, bundle, {"do": "random"})).text for _ in range(3)}
    assert len(drawn) == 3


async def test_one_execution_id_runs_once_at_a_time(sandbox, hostile):
    updates = sandbox.run(await hostile("greedy"), RunRequest("twice", {"do": "ignore_signals"}))
    await anext(updates)
    with pytest.raises(Conflict):
        await anext(sandbox.run(await hostile("greedy"), RunRequest("twice", {"do": "sleep"})))
    await updates.aclose()


async def test_more_runs_than_places_wait_and_none_is_lost(sandbox, hostile):
    bundle = await hostile("liar")
    ended = await asyncio.gather(*(collect(sandbox, bundle, {"do": "charge", "count": 1}) for _ in range(25)))
    assert [run.output for run in ended] == [{"number": 1}] * 25


async def test_a_full_queue_is_no_capacity(sandbox, hostile):
    bundle = await hostile("greedy")
    async with LocalSandbox(queue_length=0) as small:
        one = replace(bundle, manifest=bundle.manifest.model_copy(update={"limits": _one_at_a_time(bundle)}))
        updates = small.run(one, RunRequest("first", {"do": "ignore_signals"}))
        await anext(updates)
        with pytest.raises(Unavailable, match="no free place"):
            await anext(small.run(one, RunRequest("second", {"do": "sleep"})))
        await updates.aclose()


def _one_at_a_time(bundle):
    return bundle.manifest.limits.model_copy(update={"concurrency": 1})


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def run(:", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("x = 1", "no agent"),
        ("def run(request, context): ...", "no agent"),
        ("from agentnexus.sdk import agent\n@agent\ndef run(request): ...", "annotate"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
async def test_code_that_does_not_load_is_told_to_its_author(sandbox, tmp_path, code, why):
    with pytest.raises(AgentFailed, match="does not load") as failed:
        await sandbox.prepare(write_agent(tmp_path / "agent", code))
    assert why in str(failed.value)


async def test_code_that_leaves_while_loading_is_a_failure(sandbox, tmp_path):
    with pytest.raises(AgentFailed, match="exit code 7"):
        await sandbox.prepare(write_agent(tmp_path / "agent", "import os\nos._exit(7)"))


async def test_the_agents_code_never_runs_in_our_process(sandbox, tmp_path):
    code = "import os\nfrom pathlib import Path\nPath('/tmp/loaded').write_text(str(os.getuid()))\n" + ECHO
    bundle = await sandbox.prepare(write_agent(tmp_path / "agent", code))
    ended = await collect(sandbox, bundle, {"text": "hi"})
    assert ended.output == {"text": "hi"}
    assert not Path("/tmp/loaded").exists()


async def test_a_folder_changed_after_it_was_read_does_not_run(sandbox, tmp_path):
    folder = write_agent(tmp_path / "agent", ECHO)
    bundle = await sandbox.prepare(folder)
    changed = replace(bundle, code_hash="sha256:" + "0" * 64)
    ended = await collect(sandbox, changed, {"text": "hi"})
    assert isinstance(ended.error, Conflict)
    (folder / "agent.py").write_text("raise SystemExit")
    assert (await collect(sandbox, bundle, {"text": "what was read"})).output == {"text": "what was read"}


async def test_planted_bytecode_is_not_executed(sandbox, tmp_path):
    folder = write_agent(tmp_path / "agent", ECHO)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "agent.cpython-311.pyc").write_bytes(b"planted")
    bundle = await sandbox.prepare(folder)
    assert (await collect(sandbox, bundle, {"text": "hi"})).output == {"text": "hi"}


async def test_a_module_that_cannot_be_preloaded_is_told(sandbox, tmp_path):
    folder = write_agent(tmp_path / "agent", ECHO, top='preload = ["no_such_module_at_all"]')
    with pytest.raises(NexusError, match="no_such_module_at_all"):
        await sandbox.prepare(folder)


async def test_an_async_agent_runs_as_well(sandbox, tmp_path):
    code = ECHO.replace("def run", "async def run").replace(
        "    return", "    import asyncio\n    await asyncio.sleep(0)\n    return"
    )
    bundle = await sandbox.prepare(write_agent(tmp_path / "agent", code))
    assert (await collect(sandbox, bundle, {"text": "hi"})).output == {"text": "hi"}


ECHO = """
from pydantic import BaseModel
from agentnexus.sdk import Context, agent

class Text(BaseModel):
    text: str

@agent
def run(request: Text, context: Context) -> Text:
    return request
"""
