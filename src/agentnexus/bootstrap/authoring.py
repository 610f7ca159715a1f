"""Tools of an agent's author: a folder to start from, and a trial run of its own examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agentnexus.bootstrap.sandboxing import AgentSecrets, open_runtime
from agentnexus.core.errors import Conflict, NexusError
from agentnexus.core.updates import Result
from agentnexus.platform.settings import Settings
from agentnexus.runtime.port import RunRequest, Runtime

MANIFEST = """\
name = "org.example.{name}"
version = "0.1.0"
title = "{title}"
summary = "Counts the words of a text."
categories = ["general"]
capability = "text.count"
entry = "agent:run"

[pricing]
per_run = "0.005"
currency = "USDC"

[[examples]]
title = "Two words"
input = {{ text = "hello world" }}
"""
CODE = '''\
"""Counts words: replace the body of `run` by what your agent does."""

from pydantic import BaseModel, Field

from agentnexus.sdk import Context, Refusal, agent


class Request(BaseModel):
    text: str = Field(description="The text to count", max_length=100_000)


class Answer(BaseModel):
    words: int
    longest: str


@agent
def run(request: Request, context: Context) -> Answer:
    words = request.text.split()
    if not words:
        raise Refusal("the text is empty", next_step="send some text", field="text")
    context.log(f"counting {len(words)} words")
    return Answer(words=len(words), longest=max(words, key=len))
'''


@dataclass(frozen=True, slots=True)
class Trial:
    """How one example went."""

    title: str
    good: bool
    note: str


def make_agent(folder: Path) -> list[Path]:
    """Write a small working agent; raises `Conflict` rather than overwrite anything."""
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} is not empty", next_step="name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    name = folder.name.lower().replace("_", "-").replace(" ", "-")
    files = {
        "agent.toml": MANIFEST.format(name=name, title=folder.name.replace("-", " ").title()),
        "agent.py": CODE,
    }
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    return [folder / file for file in files]


async def try_examples(folder: Path, *, unsafe_local: bool = False) -> list[Trial]:
    """Run every example of the manifest in the sandbox; raises what keeps the agent from being prepared."""
    settings = Settings()
    async with open_runtime(settings, unsafe_local=unsafe_local) as runtime:
        bundle = await runtime.prepare(folder)
        secrets = AgentSecrets(settings.agent_secrets_file).of(bundle.manifest)
        return [
            await _try(
                runtime,
                RunRequest(execution_id=f"example-{number}", input=example.input, secrets=secrets),
                folder,
                example.title,
            )
            for number, example in enumerate(bundle.manifest.examples, 1)
        ]


async def _try(runtime: Runtime, request: RunRequest, folder: Path, title: str) -> Trial:
    bundle = await runtime.prepare(folder)
    try:
        async for update in runtime.run(bundle, request):
            if isinstance(update, Result):
                return Trial(title, True, f"{update.metering.get('wall_ms', 0)} ms")
    except NexusError as error:
        return Trial(title, False, error.message)
    return Trial(title, False, "ended without a result")
