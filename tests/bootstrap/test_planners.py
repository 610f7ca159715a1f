"""Which planners a node has, by its settings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from pydantic import SecretStr

from agentnexus.bootstrap.ground import Ground
from agentnexus.bootstrap.tasks import planners
from agentnexus.platform.settings import Settings
from agentnexus.workflows.planner.chats import AnthropicChat, OpenAiChat
from agentnexus.workflows.planner.llm import LlmPlanner

KEY = SecretStr("sk-secret")


def chat_of(**settings: object) -> object:
    """The chat of the first planner, or `None` when only the offline one is there."""
    found = planners(cast("Ground", SimpleNamespace(settings=Settings(_env_file=None, **settings))))  # type: ignore[call-arg, arg-type]  # read by pydantic
    assert found[-1].name == "offline"
    if len(found) == 1:
        return None
    assert isinstance(found[0], LlmPlanner)
    return found[0]._chat


@pytest.fixture(autouse=True)
def no_model_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BASE_URL", "API_KEY", "MODEL", "PROTOCOL"):
        monkeypatch.delenv(f"NEXUS_LLM_{name}", raising=False)


def test_without_a_model_the_offline_planner_is_alone() -> None:
    assert chat_of() is None
    assert chat_of(llm_api_key=KEY) is None, "a key alone does not say whose it is"


def test_an_address_is_that_of_an_openai_compatible_server() -> None:
    chat = chat_of(llm_base_url="http://127.0.0.1:9/v1", llm_model="small")
    assert isinstance(chat, OpenAiChat)
    assert chat._url == "http://127.0.0.1:9/v1/chat/completions"


def test_claude_needs_only_its_key_and_may_have_another_address() -> None:
    assert chat_of(llm_protocol="anthropic") is None
    chat = chat_of(llm_protocol="anthropic", llm_api_key=KEY, llm_model="claude")
    assert isinstance(chat, AnthropicChat)
    assert chat._url == "https://api.anthropic.com/v1/messages"
    own = chat_of(llm_protocol="anthropic", llm_base_url="http://127.0.0.1:9")
    assert isinstance(own, AnthropicChat)
    assert own._url == "http://127.0.0.1:9/v1/messages"
