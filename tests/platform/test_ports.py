"""A free port stays free until its server takes it: never one that an outgoing connection could get."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from agentnexus.core.errors import Unavailable
from agentnexus.platform import process
from agentnexus.platform.process import PORTS, free_port


def test_a_free_port_can_be_bound_and_is_none_of_the_system_s_own() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    port = free_port()
    assert port in PORTS
    assert max(PORTS) < lowest or lowest < min(PORTS)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()


def test_a_port_that_somebody_has_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_port()
    second = next(port for port in iter(free_port, None) if port != first)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        offered = iter([first, first, second])
        monkeypatch.setattr(process.secrets, "choice", lambda _ports: next(offered))
        assert free_port() == second


def test_where_everything_is_taken_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(process.secrets, "choice", lambda _ports: taken.getsockname()[1])
        with pytest.raises(Unavailable, match="no free port"):
            free_port()
