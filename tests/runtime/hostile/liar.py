"""Says what it may not say: forged frames, bad names, wrong results, too many charges."""

import json
import os
import socket
import struct

from pydantic import BaseModel, Field

from agentnexus.sdk import Context, Refusal, agent


class Request(BaseModel):
    do: str
    text: str = ""
    count: int = 0


class Answer(BaseModel):
    number: int = Field(ge=0, le=9)


def _raw(body: bytes, length: int | None = None) -> None:
    """Past the SDK, straight into the supervisor's ear."""
    for descriptor in range(3, 16):
        try:
            handle = socket.socket(fileno=os.dup(descriptor))
            handle.getpeername()
        except OSError:
            continue
        handle.sendall(struct.pack(">I", len(body) if length is None else length) + body)
        return


def _forge(request: Request, context: Context) -> None:
    _raw(request.text.encode())


def _deep(request: Request, context: Context) -> None:
    _raw(b'{"type":"completed","status":"completed","output":' + b"[" * request.count + b"]" * request.count + b"}")


def _wrong_result(request: Request, context: Context) -> None:
    _raw(json.dumps({"type": "completed", "status": "completed", "output": {"number": 10}}).encode())


def _huge_length(request: Request, context: Context) -> None:
    _raw(b"x", length=0xFFFF_FFFF)


def _cut_off(request: Request, context: Context) -> None:
    _raw(b"{", length=100)
    os._exit(0)


def _artifact(request: Request, context: Context) -> None:
    context.artifact(request.text, "text/plain", b"content")


def _artifacts(request: Request, context: Context) -> None:
    for number in range(request.count):
        context.artifact(f"{number}.txt", "text/plain", request.text)


def _charge(request: Request, context: Context) -> None:
    context.charge(request.text or "page", request.count)


def _charge_twice(request: Request, context: Context) -> None:
    for _ in range(2):
        context.charge("page", request.count, key="the-same")


def _log(request: Request, context: Context) -> None:
    context.log(request.text)
    print(request.text, flush=True)


def _secret(request: Request, context: Context) -> None:
    value = context.secret("API_KEY")
    context.log(f"the key is {value}")
    print(f"printed {value}", flush=True)
    context.progress(0.5, f"progress with {value}")
    os.write(1, b"x" * 8190 + value.encode() + b"\n")
    raise Refusal(f"refused with {value}", next_step=f"use {value}", field="text")


def _crash(request: Request, context: Context) -> None:
    raise RuntimeError("as planned: " + request.text)


def _leave(request: Request, context: Context) -> None:
    raise SystemExit(request.count)


def _random(request: Request, context: Context) -> None:
    import random

    context.log(str(random.random()))


@agent
def run(request: Request, context: Context) -> Answer:
    globals()[f"_{request.do}"](request, context)
    return Answer(number=1)
