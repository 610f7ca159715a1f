"""``python -m agentnexus.devnet.solana``: serve a development chain on this machine."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
from pathlib import Path

import uvicorn
import uvloop

from agentnexus.devnet.solana.engine import Chain, Pace
from agentnexus.devnet.solana.genesis import prepare
from agentnexus.devnet.solana.server import create_app, keep_time
from agentnexus.platform.process import die_with_parent

DEFAULT_PORT = 8899
_GRACE_SECONDS = 2


async def serve(chain: Chain, host: str, port: int, websocket_port: int | None) -> None:
    """Answer until SIGTERM or SIGINT; `websocket_port` is a second door, where other tools look by default."""
    config = uvicorn.Config(
        create_app(chain),
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=_GRACE_SECONDS,
        server_header=False,
    )
    ports = [port] if websocket_port is None else [port, websocket_port]
    time = asyncio.create_task(keep_time(chain))
    try:
        await uvicorn.Server(config).serve(sockets=[_listen(host, each) for each in ports])
    finally:
        time.cancel()
        chain.close()


def _listen(host: str, port: int) -> socket.socket:
    # The protocol is named, or asyncio would not switch Nagle off: 40 ms for every answer.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    return listening


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m agentnexus.devnet.solana", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--websocket-port", type=int, help="also listen here (other tools expect port + 1)")
    parser.add_argument("--state", type=Path, help="file that keeps the chain between runs")
    parser.add_argument("--slot-milliseconds", type=int, default=400)
    parser.add_argument("--finality-slots", type=int, default=32)
    parser.add_argument("--parent", type=int, help="pid of the process to end with")
    given = parser.parse_args()
    if given.parent:
        die_with_parent(signal.SIGTERM, parent=given.parent)
    # Broken connections that tests order would fill the log with tracebacks.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    chain = Chain(given.state, pace=Pace(given.slot_milliseconds, given.finality_slots))
    prepare(chain)
    uvloop.run(serve(chain, given.host, given.port, given.websocket_port))


if __name__ == "__main__":
    main()
