"""Serve an ASGI app on one port until asked to stop."""

from __future__ import annotations

import os

import uvicorn
from starlette.types import ASGIApp

from agentnexus.platform.frames import FramedProtocol
from agentnexus.platform.process import die_with_parent, inherited_listener

GRACE_SECONDS = 5


def end_with_parent() -> None:
    """In the local economy a role must not outlive its supervisor, however that one ends."""
    if os.environ.get("NEXUS_ENVIRONMENT") == "local":
        die_with_parent()


async def serve_app(app: ASGIApp, host: str, port: int) -> None:
    """SIGTERM and SIGINT drain open requests for some seconds.

    A listening socket that was handed down is used as it is: its port was taken before this process began.
    """
    end_with_parent()
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        ws=FramedProtocol,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    listener = inherited_listener()
    await uvicorn.Server(config).serve(sockets=[listener] if listener else None)
