"""WebSocket messages for many clients at once: framed once, written to each connection as they are.

Through ASGI each client costs a task that is woken, and a message that is framed and copied; ten thousand of them hold
up the process, and what they leave behind sets off collections of the whole heap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from starlette.requests import HTTPConnection
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

EXTENSION = "nexus.frames"
Write: TypeAlias = Callable[[bytes], bool]
"""Write whole frames; False, and nothing written, when the client is gone or has not read what went before."""


class FramedProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, with a way around ASGI for frames that are made already: ``ws=FramedProtocol``."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and not self.close_sent and not self.conn.extensions:  # frames are not compressed
            self.scope["extensions"][EXTENSION] = {"write": self.write_frames}

    def write_frames(self, frames: bytes) -> bool:
        """As `Write` says."""
        is_open = self.handshake_complete and not self.close_sent and not self.disconnected
        if not is_open or not self.writable.is_set() or self.transport.is_closing():
            return False
        self.transport.write(frames)
        return True


def writer(connection: HTTPConnection) -> Write | None:
    """The way around ASGI of a WebSocket, where its server has one."""
    offered = connection.scope.get("extensions", {}).get(EXTENSION)
    found: Write | None = None if offered is None else offered["write"]
    return found


def text_frame(text: str) -> bytes:
    """One whole text message from a server, as RFC 6455 has it."""
    data = text.encode()
    size = len(data)
    if size < 126:
        return bytes((0x81, size)) + data
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + data
    return b"\x81\x7f" + size.to_bytes(8, "big") + data
