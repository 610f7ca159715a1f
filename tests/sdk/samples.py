"""Agents that the SDK's tests run, as an author would write them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from pydantic import BaseModel, Field

from agentnexus.sdk import Context, File, Refusal, agent, ui
from agentnexus.sdk.manifest import Manifest

MANIFEST = """
name = "org.agentnexus.sample"
version = "1.2.3"
title = "Sample"
summary = "Counts letters."
categories = ["test"]
capability = "text.count"
entry = "agent:count"
secrets = ["API_KEY"]

[pricing]
per_run = "0.02"
currency = "USDC"
free_runs = 3
events = [{ name = "page", price = "0.001", maximum = 5 }]

[limits]
timeout_seconds = 5
concurrency = 2

[[examples]]
title = "Short"
input = { text = "hello" }
"""

CODE = '''
from pydantic import BaseModel, Field
from agentnexus.sdk import Context, Refusal, agent

class Request(BaseModel):
    text: str = Field(description="what to count")

class Answer(BaseModel):
    letters: int

@agent
def count(request: Request, context: Context) -> Answer:
    """Count letters."""
    if not request.text:
        raise Refusal("nothing to count", next_step="send some text", field="text")
    context.log("counting")
    context.progress(0.5, "half")
    context.charge("page", 2)
    context.metric("letters", len(request.text))
    context.artifact("copy.txt", "text/plain", request.text)
    return Answer(letters=len(request.text))
'''


class Question(BaseModel):
    text: str = Field(description="what to repeat", json_schema_extra=ui("textarea", prefill="hello", order=1))
    times: int = Field(default=1, ge=1, le=100)
    file: File | None = None


class Reply(BaseModel):
    text: str


gate = threading.Event()
entered = threading.Event()


@agent
async def repeat(request: Question, context: Context) -> Reply:
    """Repeat a text."""
    context.log("repeating")
    await asyncio.sleep(0)
    if request.text == "wait":
        await asyncio.Event().wait()
    if request.text == "refuse":
        raise Refusal("not that", next_step="something else", field="text")
    if request.text == "crash":
        raise RuntimeError("as planned")
    for number in range(3):
        context.output(number)
    context.charge("page", request.times)
    return Reply(text=request.text * request.times)


@agent
def blocking(request: Question, context: Context) -> Reply:
    """Says something, waits for the test, says more."""
    context.log("before")
    entered.set()
    gate.wait()
    context.log("after\n\ndata: forged")
    return Reply(text=context.secret("API_KEY"))


def manifest() -> Manifest:
    return Manifest.parse(MANIFEST)


def write_sample(folder: Path, *, code: str = CODE, toml: str = MANIFEST) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agent.toml").write_text(toml)
    (folder / "agent.py").write_text(code)
    return folder
