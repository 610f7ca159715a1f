"""One module per page or family of pages: reads the request, asks a door, draws a template."""

from __future__ import annotations

from starlette.requests import Request

from agentnexus.web.doors import Doors


def doors_of(request: Request) -> Doors:
    """The doors that this application was made with."""
    doors: Doors = request.app.state.doors
    return doors
