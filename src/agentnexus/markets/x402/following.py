"""What a seller tells while it works, for buyers that wait: the events of the run under an id that the buyer chose.

AgentNexus sellers say in their listing where runs are watched (``executions``). The id is derived from the job's key,
which nobody else knows. Watching is a courtesy: whatever goes wrong with it never touches the purchase.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx

from agentnexus.core.canonical import idempotency_key
from agentnexus.core.offers import Job, Offer
from agentnexus.core.updates import Log, Progress, Update

EXECUTION_HEADER = "x-execution-id"
LOOK_SECONDS = 0.05
LINE_CHARACTERS_MAX = 64 * 1024
MESSAGE_CHARACTERS_MAX = 2000


def watch_url(offer: Offer) -> str:
    """Where this offer's runs are watched: only at the very host that sells it; empty when nowhere."""
    told = offer.evidence.get("executions")
    if not isinstance(told, str) or urlsplit(told)[:2] != urlsplit(offer.endpoint)[:2]:
        return ""
    return told.rstrip("/")


def execution_id(job: Job) -> str:
    """The same for every repeat of the job."""
    return f"exe_{idempotency_key('watched', job.key)[:32]}"


async def follow(http: httpx.AsyncClient, url: str) -> AsyncIterator[Update]:
    """Progress and log lines of the run at `url`, from its start; ends with the run or at the first trouble."""
    try:
        while True:
            async with http.stream("GET", f"{url}/stream") as answer:
                if answer.status_code == 200:
                    async for update in _updates(answer):
                        yield update
                    return
                if answer.status_code != 404:  # 404: it has not begun; the payment is being verified
                    return
            await asyncio.sleep(LOOK_SECONDS)
    except (httpx.HTTPError, ValueError, RecursionError):
        return


async def _updates(answer: httpx.Response) -> AsyncIterator[Update]:
    async for line in answer.aiter_lines():
        if len(line) > LINE_CHARACTERS_MAX:
            return
        update = _update(json.loads(line[5:])) if line.startswith("data:") else None
        if update is not None:
            yield update


def _update(event: object) -> Update | None:
    if not isinstance(event, dict) or not isinstance(event.get("data"), dict):
        return None
    data = event["data"]
    message = str(data.get("message") or "")[:MESSAGE_CHARACTERS_MAX]
    if event.get("name") == "execution.log":
        return Log(message, str(data.get("level") or "info")[:20])
    if event.get("name") != "execution.progress":
        return None
    fraction = data.get("fraction")
    known = isinstance(fraction, int | float) and 0 <= fraction <= 1
    return Progress(float(fraction) if known else None, message)
