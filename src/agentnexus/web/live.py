"""Live pages: the panels of a page as server-sent events, each panel only when it changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, TypeVar

from agentnexus.web.newest import newest
from agentnexus.web.rendering import fragment

HEARTBEAT_SECONDS: Final = 15.0
COALESCE_SECONDS: Final = 0.12
STREAM_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Panels:
    """Macros of a template that draw a view, each into one element with an id."""

    template: str
    names: tuple[str, ...]

    def draw(self, view: object) -> dict[str, str]:
        """Every panel's HTML by name."""
        return {name: fragment(self.template, name, view) for name in self.names}


RUN_PANELS: Final = Panels(
    "components/run.html",
    ("head", "problem", "approval", "outcome", "picture", "steps", "money", "log", "receipts"),
)


def message(html: str, identifier: int) -> bytes:
    """One event: `html` in ``data:`` lines."""
    lines = "".join(f"data: {line}\n" for line in html.splitlines() if line.strip())
    return f"id: {identifier}\n{lines}\n".encode()


def out_of_band(html: str) -> str:
    """The panel told to replace the one with its id, keeping focus and open folds (morph)."""
    start, mark, rest = html.partition("<div id=")
    return f'{start}<div hx-swap-oob="outerMorph" id={rest}' if mark else html


async def live(views: AsyncIterator[T], panels: Panels) -> AsyncIterator[bytes]:
    """Events for one visitor: the first brings every panel, later ones only what changed, the last is ``end``."""
    sent: dict[str, str] = {}
    identifier = 0
    async for view in newest(views, pause_seconds=COALESCE_SECONDS, idle_seconds=HEARTBEAT_SECONDS):
        if view is None:
            yield b": still here\n\n"
            continue
        drawn = panels.draw(view)
        fresh = [out_of_band(html) for name, html in drawn.items() if sent.get(name) != html]
        sent = drawn
        if fresh:
            identifier += 1
            yield message("\n".join(fresh), identifier)
    yield b"event: end\ndata: done\n\n"
