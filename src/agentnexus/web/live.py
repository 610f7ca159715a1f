"""Live pages: the panels of a workflow page as server-sent events, each panel only when it changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from agentnexus.web.newest import newest
from agentnexus.web.rendering import fragment
from agentnexus.web.views.runs import RunView

PANELS: Final = ("head", "problem", "approval", "outcome", "picture", "steps", "money", "log", "receipts")
HEARTBEAT_SECONDS: Final = 15.0
COALESCE_SECONDS: Final = 0.12


def panels(run: RunView) -> dict[str, str]:
    """Every panel's HTML by name."""
    return {name: fragment("components/run.html", name, run) for name in PANELS}


def message(html: str, identifier: int) -> bytes:
    """One event: `html` in ``data:`` lines."""
    lines = "".join(f"data: {line}\n" for line in html.splitlines() if line.strip())
    return f"id: {identifier}\n{lines}\n".encode()


def out_of_band(html: str) -> str:
    """The panel told to replace the one with its id, keeping focus and open folds (morph)."""
    start, mark, rest = html.partition("<div id=")
    return f'{start}<div hx-swap-oob="outerMorph" id={rest}' if mark else html


async def live(views: AsyncIterator[RunView]) -> AsyncIterator[bytes]:
    """Events for one visitor: the first brings every panel, later ones only what changed, the last is ``end``."""
    sent: dict[str, str] = {}
    identifier = 0
    async for view in newest(views, pause_seconds=COALESCE_SECONDS, idle_seconds=HEARTBEAT_SECONDS):
        if view is None:
            yield b": still here\n\n"
            continue
        drawn = panels(view)
        fresh = [out_of_band(html) for name, html in drawn.items() if sent.get(name) != html]
        sent = drawn
        if fresh:
            identifier += 1
            yield message("\n".join(fresh), identifier)
    yield b"event: end\ndata: done\n\n"
