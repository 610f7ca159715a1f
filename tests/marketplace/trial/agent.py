"""An agent that does as it is told, so that every way a run can go can be tried."""

from __future__ import annotations

import os
import time
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agentnexus.sdk import Context, Refusal, agent


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")
    do: Literal["answer", "refuse", "raise", "die", "wait", "lie", "nothing"] = "answer"
    text: str = ""
    count: int = Field(default=1, ge=1, le=1000)


class Answer(BaseModel):
    text: str
    pid: int


@agent
def run(request: Request, context: Context) -> Answer:
    for number in range(request.count):
        context.log(f"line {number}")
    context.progress(0.5, "half way")
    match request.do:
        case "refuse":
            raise Refusal("this cannot be served", next_step="ask for something else", field="do")
        case "raise":
            raise RuntimeError("broken on purpose")
        case "die":
            os.abort()
        case "wait":
            time.sleep(60)
        case "lie":
            return Answer.model_construct(text=3, pid="x")
    context.artifact("note.txt", "text/plain", request.text)
    return Answer(text=request.text, pid=os.getpid())
