"""A typed function with the decorator is a whole agent."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from agentnexus.sdk import Context, File, Recorder, Refusal, agent
from agentnexus.sdk.execute import execute, execute_blocking
from tests.sdk.samples import Question, Reply, blocking, repeat


class Upload(BaseModel):
    file: File


def test_both_schemas_come_from_the_type_hints():
    for schema in (repeat.input_schema, repeat.output_schema):
        Draft202012Validator.check_schema(schema)
    properties = repeat.input_schema["properties"]
    assert isinstance(properties, dict)
    assert properties["text"]["description"] == "what to repeat"
    assert properties["text"]["x-ui"] == {"editor": "textarea", "order": 1, "prefill": "hello"}
    assert repeat.input_schema["required"] == ["text"]
    assert repeat.output_schema["required"] == ["text"]
    assert repeat.description == "Repeat a text."


async def test_calling_the_agent_is_calling_the_function():
    assert await repeat(Question(text="a", times=2), Context()) == Reply(text="aa")


async def test_run_takes_and_gives_json():
    assert await repeat.run({"text": "ab", "times": 2}, Context()) == {"text": "abab"}
    with pytest.raises(ValidationError):
        await repeat.run({"text": "ab", "times": 0}, Context())


def test_run_blocking_serves_async_functions_too():
    assert repeat.run_blocking({"text": "ab"}, Context()) == {"text": "ab"}


def test_an_agent_may_do_without_a_context_and_return_plain_types():
    @agent
    def lengths(request: Question) -> dict[str, int]:
        return {"length": len(request.text)}

    assert lengths.run_blocking({"text": "abc"}, Context()) == {"length": 3}


def _untyped(request, context):
    return request


def _no_return(request: Question, context: Context):
    return request


def _no_model(request: str, context: Context) -> str:
    return request


def _wrong_context(request: Question, context: str) -> Reply:
    return Reply(text=context)


def _too_many(request: Question, context: Context, more: int) -> Reply:
    return Reply(text="")


def _none() -> Reply:
    return Reply(text="")


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (_untyped, "pydantic model"),
        (_no_return, "what it returns"),
        (_no_model, "pydantic model"),
        (_wrong_context, "as Context"),
        (_too_many, "3 parameters"),
        (_none, "0 parameters"),
    ],
)
def test_a_missing_type_hint_is_told_at_import(function: Any, why: str):
    with pytest.raises(TypeError, match=why):
        agent(function)


@given(st.binary(max_size=200))
def test_a_file_survives_base64_both_ways(data: bytes):
    for text in (
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode(),
        "data:application/pdf;base64," + base64.b64encode(data).decode(),
    ):
        upload = Upload.model_validate({"file": text})
        assert upload.file == data
        assert base64.b64decode(upload.model_dump(mode="json")["file"]) == data


@pytest.mark.parametrize("text", ["not base64!", "a", "ä"])
def test_what_is_not_base64_names_the_field(text: str):
    with pytest.raises(ValidationError, match="base64"):
        Upload.model_validate({"file": text})


def test_a_file_field_is_described_as_base64():
    properties = Upload.model_json_schema()["properties"]
    assert properties["file"]["contentEncoding"] == "base64"
    assert properties["file"]["x-ui"] == {"editor": "file"}


async def test_everything_the_agent_says_is_recorded_in_order():
    recorder = Recorder()
    context = Context(emit=recorder, timeout_seconds=60)
    context.log("one", "warning")
    context.progress(1.7, "two")
    context.progress(None)
    context.artifact("three.txt", "text/plain", "drei")
    context.charge("page")
    context.charge("page", 2, key="mine")
    context.metric("rows", 4)
    assert [kind for kind, _ in recorder.events] == [
        "log",
        "progress",
        "progress",
        "artifact",
        "charge",
        "charge",
        "metric",
    ]
    assert recorder.of("progress")[0] == {"fraction": 1.0, "message": "two"}
    assert base64.b64decode(str(recorder.of("artifact")[0]["data"])) == b"drei"
    first, second = recorder.of("charge")
    assert (first["key"], second["key"]) == ("page#1", "mine")
    assert 0 < (context.seconds_left or 0) <= 60
    assert Context().seconds_left is None


def test_a_charge_of_nothing_is_a_mistake():
    with pytest.raises(ValueError, match="at least 1"):
        Context().charge("page", 0)


def test_a_secret_that_was_not_given_says_what_to_do():
    assert Context(secrets={"A": "x"}).secret("A") == "x"
    with pytest.raises(KeyError, match=r"agent\.toml"):
        Context().secret("A")


async def test_a_refusal_carries_message_next_step_and_field():
    outcome = await execute(repeat, {"text": "refuse"}, Context())
    assert outcome.to_json() == {
        "status": "refused",
        "output": None,
        "error": {"code": "agent_refused", "message": "not that", "next_step": "something else", "field": "text"},
    }


async def test_a_wrong_input_is_refused_by_field():
    outcome = await execute(repeat, {"text": "x", "times": 1000}, Context())
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code, outcome.error.field) == ("refused", "invalid_input", "times")


async def test_a_crash_is_a_failure_with_its_trace_in_the_log():
    recorder = Recorder()
    outcome = await execute(repeat, {"text": "crash"}, Context(emit=recorder))
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == ("failed", "agent_failed")
    assert "as planned" in str(recorder.of("log")[-1]["message"])


def test_a_models_own_validation_error_inside_the_agent_is_not_the_buyers_fault():
    @agent
    def broken(request: Question) -> Reply:
        return Reply.model_validate({"text": 5})

    outcome = execute_blocking(broken, {"text": "x"}, Context())
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == ("failed", "agent_failed")


def test_a_result_of_the_wrong_type_is_the_agents_failure():
    @agent
    def lies(request: Question) -> Reply:
        return "no reply"  # type: ignore[return-value]

    assert execute_blocking(lies, {"text": "x"}, Context()).status == "failed"


@pytest.mark.parametrize(
    ("error", "limit"),
    [(MemoryError(), "memory"), (OSError(28, "No space left"), "tmp"), (OSError(24, "Too many"), "open_files")],
)
def test_the_kernels_limits_are_named(error: BaseException, limit: str):
    @agent
    def greedy(request: Question) -> Reply:
        raise error

    outcome = execute_blocking(greedy, {"text": "x"}, Context())
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.limit) == ("limit_exceeded", limit)


def test_a_number_that_json_has_no_word_for_is_the_agents_failure():
    @agent
    def divides(request: Question) -> dict[str, float]:
        return {"ratio": float("nan")}

    outcome = execute_blocking(divides, {"text": "x"}, Context())
    assert outcome.error is not None
    assert "JSON" in outcome.error.message


def test_leaving_by_exit_is_a_failure_and_a_refusal_is_an_exception():
    @agent
    def leaves(request: Question) -> Reply:
        raise SystemExit(0)

    assert execute_blocking(leaves, {"text": "x"}, Context()).status == "failed"
    assert Refusal("a").next_step == ""
    assert blocking.is_async is False
