"""The Messages API on the wire, over real sockets: what a model may answer, and what it must not get away with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentnexus.core.errors import InvalidPlan, NexusError, NoOffer, Unavailable
from agentnexus.workflows.planner.chats import ANTHROPIC_VERSION, AnthropicChat, OpenAiChat, open_chat
from agentnexus.workflows.planner.llm import INSTRUCTIONS, Draft, LlmPlanner
from agentnexus.workflows.planner.offline import OfflinePlanner
from agentnexus.workflows.planning import Planning

from .catalogue import agent_offers
from .scripted import ScriptedHirer
from .test_llm_misbehaving import http, say, server
from .test_llm_planner import GOOD, request


def message(*content: dict[str, object], stop_reason: str = "tool_use") -> bytes:
    """An answer as the API words it."""
    body = {
        "id": "msg_01", "type": "message", "role": "assistant", "model": "m", "content": list(content),
        "stop_reason": stop_reason, "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 9},
    }  # fmt: skip
    return http("200 OK", json.dumps(body).encode(), "content-type: application/json")


def called(plan: object, name: str = "plan") -> bytes:
    return message(
        {"type": "text", "text": "Here it is."}, {"type": "tool_use", "id": "t1", "name": name, "input": plan}
    )


@asynccontextmanager
async def planning(*answers: bytes, key: str = "sk-secret") -> AsyncIterator[tuple[Planning, list[bytes]]]:
    """Planning by a model whose answers are given one after the other, the last one again and again."""
    left = list(answers)

    async def talk(*arguments: object) -> None:
        await say(left.pop(0) if len(left) > 1 else left[0])(*arguments)  # type: ignore[arg-type]

    async with server(talk) as (url, heard):
        chat = AnthropicChat(url, "claude-test", key, timeout_seconds=10)
        yield Planning(ScriptedHirer(agent_offers()), [LlmPlanner(chat, "claude-test")]), heard
        await chat.close()


def spoken(raw: bytes) -> tuple[str, dict[str, str], dict[str, object]]:
    """Request line, headers and JSON of a request as it came over the wire."""
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
    found: dict[str, object] = json.loads(body)
    return line, headers, found


async def test_a_request_has_exactly_what_the_api_asks_for() -> None:
    async with planning(called(GOOD)) as (plans, heard):
        planned = await plans.plan(request())
    assert planned.plan.planner == "llm:claude-test"
    assert [step.capability for step in planned.plan.steps] == ["pdf.extract", "text.summarize"]
    (raw,) = heard
    line, headers, body = spoken(raw)
    assert line == "POST /v1/messages HTTP/1.1"
    assert headers["x-api-key"] == "sk-secret"
    assert headers["anthropic-version"] == ANTHROPIC_VERSION == "2023-06-01"
    assert headers["content-type"] == "application/json"
    assert "authorization" not in headers
    assert set(body) == {"model", "max_tokens", "system", "messages", "tools", "tool_choice"}
    assert (body["model"], body["system"]) == ("claude-test", INSTRUCTIONS)
    assert body["tool_choice"] == {"type": "tool", "name": "plan"}
    tools = body["tools"]
    assert isinstance(tools, list)
    assert [set(tool) for tool in tools] == [{"name", "description", "input_schema"}]
    assert tools[0]["input_schema"] == Draft.model_json_schema()
    messages = body["messages"]
    assert isinstance(messages, list)
    assert [each["role"] for each in messages] == ["user"]
    assert json.loads(messages[0]["content"])["task"] == "Summarise it"


async def test_an_invalid_plan_goes_back_with_its_reasons() -> None:
    bad = {"steps": [{"id": "x", "capability": "no.such"}]}
    async with planning(called(bad), called(GOOD)) as (plans, heard):
        planned = await plans.plan(request())
    assert len(planned.plan.steps) == 2
    second = json.loads(spoken(heard[1])[2]["messages"][0]["content"])  # type: ignore[index]
    assert second["reasons"] == ["step x needs no.such, which nobody sells"]


async def test_after_three_repairs_the_workflow_fails_with_the_reasons() -> None:
    bad = [called({"steps": [{"id": "x", "capability": f"no.such{n}"}]}) for n in range(9)]
    async with planning(*bad) as (plans, heard):
        with pytest.raises(InvalidPlan, match=r"no\.such3") as refused:
            await plans.plan(request())
    assert len(heard) == 4
    assert refused.value.details["reasons"] == ["step x needs no.such3, which nobody sells"]


async def test_words_instead_of_a_call_are_read_and_else_sent_back() -> None:
    words = message({"type": "text", "text": "```json\n" + json.dumps(GOOD) + "\n```"}, stop_reason="end_turn")
    async with planning(words) as (plans, _):
        assert len((await plans.plan(request())).plan.steps) == 2
    chatter = message({"type": "text", "text": "I would rather not."}, stop_reason="refusal")
    async with planning(chatter, called(GOOD)) as (plans, heard):
        await plans.plan(request())
    assert "did not answer with a JSON object" in spoken(heard[1])[2]["messages"][0]["content"]  # type: ignore[index]


async def test_a_plan_cut_off_by_the_token_limit_is_not_taken_for_a_whole_one() -> None:
    half = message({"type": "tool_use", "id": "t", "name": "plan", "input": GOOD}, stop_reason="max_tokens")
    async with planning(half, called(GOOD)) as (plans, heard):
        await plans.plan(request())
    assert "longer than it may write" in spoken(heard[1])[2]["messages"][0]["content"]  # type: ignore[index]


@pytest.mark.parametrize(
    "answer",
    [
        called(GOOD, name="transfer_money"),
        message({"type": "thinking", "thinking": "…"}, stop_reason="end_turn"),
        message(),
        called({"steps": "none"}),
        called({"steps": [{"id": "x", "capability": "plan.transform"}]}),
        called({"steps": [{"id": "x", "transform": {"op": "exec", "code": "import os"}}]}),
        called({"steps": [{"id": "x", "capability": "pdf.extract", "input": {"file": {"$file": 7}}}]}),
        called({"steps": [{"id": "x", "capability": "pdf.extract", "input": {"file": {"$item": ""}}}]}),
    ],
    ids=["another tool", "thoughts", "nothing", "no list", "free hire", "code", "a foreign file", "an item"],
)
async def test_what_is_no_plan_never_becomes_one(answer: bytes) -> None:
    async with planning(answer) as (plans, heard):
        with pytest.raises(InvalidPlan):
            await plans.plan(request())
    assert len(heard) <= 4


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            "401 Unauthorized",
            {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}},
        ),
        ("429 Too Many Requests", {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}),
        ("529 Overloaded", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
        ("200 OK", {"type": "error"}),
        ("200 OK", {"content": "text"}),
    ],
)
async def test_an_outage_says_why_hides_the_key_and_lets_the_offline_planner_plan(status: str, body: object) -> None:
    async with server(say(http(status, json.dumps(body).encode()))) as (url, _heard):
        chat = AnthropicChat(url, "m", "sk-secret", timeout_seconds=10)
        alone = Planning(ScriptedHirer(agent_offers()), [LlmPlanner(chat, "m")])
        with pytest.raises(Unavailable) as refused:
            await alone.plan(request())
        both = Planning(ScriptedHirer(agent_offers()), [LlmPlanner(chat, "m"), OfflinePlanner()])
        planned = await both.plan(request())
        await chat.close()
    assert "sk-secret" not in str(refused.value.to_json())
    assert status[:3] in refused.value.message or "no message" in refused.value.message
    assert planned.plan.planner == "offline"


async def test_a_model_that_says_nobody_can_do_it_is_believed() -> None:
    async with planning(called({"steps": [], "notes": ["nobody translates"]})) as (plans, _):
        with pytest.raises(NoOffer, match="nobody translates"):
            await plans.plan(request())


async def test_a_plan_with_conditions_and_transforms_is_taken() -> None:
    text = {"$step": "read", "path": "result.text"}
    wanted = {
        "steps": [
            GOOD["steps"][0],  # type: ignore[index]
            {"id": "both", "transform": {"op": "join", "parts": ["Report:", text]}},
            {
                "id": "sum", "capability": "text.summarize", "input": {"text": {"$step": "both"}},
                "when": {"value": text, "test": "not_empty"},
            },
        ],
        "output": {"$step": "sum", "path": "result"},
    }  # fmt: skip
    async with planning(called(wanted)) as (plans, _):
        planned = await plans.plan(request())
    assert [step.kind for step in planned.plan.steps] == ["service_call", "data_transform", "conditional"]
    assert planned.plan.step("sum").depends_on == ("both", "read")
    assert planned.estimate.critical_path == ("read", "both", "sum")
    assert planned.estimate.parallel_groups == (("read",), ("both",), ("sum",))


@pytest.mark.parametrize("base", ["http://h", "http://h/", "http://h/v1", "http://h/v1/"])
def test_the_address_is_right_however_it_is_given(base: str) -> None:
    assert AnthropicChat(base, "m")._url == "http://h/v1/messages"


def test_settings_choose_the_protocol() -> None:
    assert isinstance(open_chat("anthropic", "http://h", "m"), AnthropicChat)
    assert isinstance(open_chat("openai", "http://h/v1", "m"), OpenAiChat)


@pytest.mark.parametrize("kind", [AnthropicChat, OpenAiChat])
async def test_nobody_listening_is_an_outage(kind: type[AnthropicChat | OpenAiChat]) -> None:
    chat = kind("http://127.0.0.1:9", "m")
    with pytest.raises(NexusError) as refused:
        await chat.answer("i", "q", {})
    assert isinstance(refused.value, Unavailable)
    await chat.close()
