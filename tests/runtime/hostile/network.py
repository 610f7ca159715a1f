"""Tries to reach anything at all."""

import socket
import struct

from pydantic import BaseModel

from agentnexus.sdk import agent


class Request(BaseModel):
    do: str
    host: str = ""
    port: int = 80


class Answer(BaseModel):
    outcome: str


def _connect(request: Request) -> str:
    family = socket.AF_INET6 if ":" in request.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as handle:
        handle.settimeout(2)
        handle.connect((request.host, request.port))
    return "connected"


def _datagram(request: Request) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        handle.sendto(b"hello", (request.host, request.port))
    return "sent"


def _family(request: Request) -> str:
    kind = socket.SOCK_DGRAM if request.port == 2 else socket.SOCK_STREAM if request.port == 1 else socket.SOCK_RAW
    protocol = socket.IPPROTO_ICMP if kind == socket.SOCK_RAW else 0
    with socket.socket(int(request.host), kind, protocol):
        return "opened"


def _resolve(request: Request) -> str:
    return str(socket.getaddrinfo(request.host, request.port))


def _interfaces(request: Request) -> str:
    return " ".join(name for _, name in socket.if_nameindex())


def _proxy(request: Request) -> str:
    """What the egress proxy answers to a CONNECT."""
    with socket.create_connection(("127.0.0.1", 3128), timeout=5) as handle:
        handle.sendall(f"CONNECT {request.host}:{request.port} HTTP/1.1\r\n\r\n".encode())
        handle.settimeout(5)
        head = handle.recv(4096).decode()
        if " 200 " in head:
            handle.sendall(struct.pack("4s", b"ping"))
            head += handle.recv(4096).decode()
        return head


@agent
def run(request: Request) -> Answer:
    actions = {
        "connect": _connect,
        "datagram": _datagram,
        "family": _family,
        "resolve": _resolve,
        "interfaces": _interfaces,
        "proxy": _proxy,
    }
    try:
        return Answer(outcome=actions[request.do](request))
    except OSError as error:
        return Answer(outcome=f"{type(error).__name__} {error.errno}")
