"""Language models over HTTP: any OpenAI-compatible server, and Anthropic's Messages API. Answers are never trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from httpx import AsyncClient as Client
from httpx import HTTPError
from pydantic import BaseModel, Field, ValidationError

from agentnexus.core.errors import InvalidPlan, Unavailable
from agentnexus.workflows.planner.llm import Chat, first_fault

REPLY_MAX_BYTES = 2 * 1024 * 1024
FORM_REFUSED = frozenset({400, 404, 415, 422, 501})
ANTHROPIC_VERSION = "2023-06-01"
ANTHROPIC_URL = "https://api.anthropic.com"
ANSWER_TOKENS_MAX = 8192
TOOL = "plan"


class HttpChat:
    """What both have in common: one POST, its size and its time limited."""

    def __init__(self, url: str, headers: Mapping[str, str], *, timeout_seconds: float, client: Client | None) -> None:
        self._client = client or Client(timeout=timeout_seconds)
        self._url = url
        self._headers = dict(headers)

    async def _post(self, body: Mapping[str, object]) -> tuple[int, str]:
        try:
            async with self._client.stream("POST", self._url, json=body, headers=self._headers) as reply:
                parts, size = [], 0
                async for part in reply.aiter_bytes():
                    size += len(part)
                    if size > REPLY_MAX_BYTES:
                        raise _unavailable(f"its answer is larger than {REPLY_MAX_BYTES} bytes")
                    parts.append(part)
                return reply.status_code, b"".join(parts).decode("utf-8", "replace")
        except HTTPError as error:
            raise _unavailable(f"{type(error).__name__} {error}") from error

    async def close(self) -> None:
        await self._client.aclose()


class OpenAiChat(HttpChat):
    """`Chat` on ``POST {base_url}/chat/completions``, which every OpenAI-compatible server has.

    Structured output is asked for as the server can: by schema, else any JSON object, else only in words.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str = "",
        *,
        timeout_seconds: float = 60.0,
        client: Client | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        url = base_url.rstrip("/") + "/chat/completions"
        super().__init__(url, headers, timeout_seconds=timeout_seconds, client=client)
        self._model = model
        self._form = 0  # the best form this server has taken so far

    async def answer(self, instructions: str, question: str, schema: Mapping[str, object]) -> str:
        forms: list[dict[str, object]] = [
            {"response_format": {"type": "json_schema", "json_schema": {"name": TOOL, "schema": schema}}},
            {"response_format": {"type": "json_object"}},
            {},
        ]
        messages = [{"role": "system", "content": instructions}, {"role": "user", "content": question}]
        while True:
            body = {"model": self._model, "messages": messages, "temperature": 0, **forms[self._form]}
            status, text = await self._post(body)
            if status in FORM_REFUSED and self._form < len(forms) - 1:
                self._form += 1
                continue
            if status != 200:
                raise _unavailable(f"HTTP {status}: {text[:300]}")
            return _completion(text)


class AnthropicChat(HttpChat):
    """`Chat` on ``POST {base_url}/v1/messages``: the plan is the input of a tool that the model must call."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str = "",
        *,
        timeout_seconds: float = 60.0,
        client: Client | None = None,
    ) -> None:
        headers = {"anthropic-version": ANTHROPIC_VERSION} | ({"x-api-key": api_key} if api_key else {})
        url = base_url.rstrip("/").removesuffix("/v1") + "/v1/messages"
        super().__init__(url, headers, timeout_seconds=timeout_seconds, client=client)
        self._model = model

    async def answer(self, instructions: str, question: str, schema: Mapping[str, object]) -> str:
        tool = {"name": TOOL, "description": "Hand in the plan.", "input_schema": schema}
        body = {
            "model": self._model,
            "max_tokens": ANSWER_TOKENS_MAX,
            "system": instructions,
            "messages": [{"role": "user", "content": question}],
            "tools": [tool],
            "tool_choice": {"type": "tool", "name": TOOL},
        }
        status, text = await self._post(body)
        if status != 200:
            raise _unavailable(f"HTTP {status}: {text[:300]}")
        return _tool_input(text)


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


def _completion(text: str) -> str:
    try:
        return _Completion.model_validate_json(text).choices[0].message.content or ""
    except ValidationError as error:
        raise _unavailable(f"its answer is no chat completion: {first_fault(error)}") from error


class _Block(BaseModel):
    type: str
    text: str = ""
    name: str = ""
    input: dict[str, object] = Field(default_factory=dict)


class _Answer(BaseModel):
    content: list[_Block]
    stop_reason: str | None = None


def _tool_input(text: str) -> str:
    """What the model handed in, as JSON; its words where it called nothing, for the caller to judge."""
    try:
        answer = _Answer.model_validate_json(text)
    except ValidationError as error:
        raise _unavailable(f"its answer is no message: {first_fault(error)}") from error
    if answer.stop_reason == "max_tokens":
        raise InvalidPlan("the model's plan was longer than it may write: plan fewer steps")
    called = next((block for block in answer.content if block.type == "tool_use" and block.name == TOOL), None)
    if called is not None:
        return json.dumps(called.input)
    return "".join(block.text for block in answer.content if block.type == "text")


def _unavailable(why: str) -> Unavailable:
    return Unavailable(
        f"the language model did not answer: {why}"[:500],
        next_step="check NEXUS_LLM_BASE_URL and the key, or unset it to plan offline",
    )


def open_chat(protocol: Literal["openai", "anthropic"], base_url: str, model: str, api_key: str = "") -> Chat:
    """The chat that settings name."""
    kind = AnthropicChat if protocol == "anthropic" else OpenAiChat
    return kind(base_url, model, api_key)
