"""A role serves on a socket that was there before it and stays when it dies: its port is never anybody else's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from agentnexus.devnet.chain import usdc_address
from agentnexus.devnet.nursery import Nursery
from agentnexus.devnet.supervisor import Child
from agentnexus.platform.process import LISTENER, inherited_listener, listen_on, wait_until_ready

PATIENCE_SECONDS = 60


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    made = listen_on(0)
    assert made is not None
    with made:
        yield made


@pytest.fixture
async def registry(listener: socket.socket, database_url: str, tmp_path: Path) -> AsyncIterator[Child]:
    """A supervised registry; its chain is away, which it does not mind."""
    environment = {
        "NEXUS_ENVIRONMENT": "local",
        "NEXUS_DATABASE_URL": database_url,
        "NEXUS_EVM_RPC_URL": "http://127.0.0.1:1",
        "NEXUS_USDC_ADDRESS": usdc_address(),
    }
    nursery = Nursery(tmp_path / "nursery.log")
    port = str(listener.getsockname()[1])
    child = Child("registry", ["registry", "--port", port], environment, tmp_path / "log", nursery, listener=listener)
    await child.start()
    yield child
    await child.stop()
    await nursery.stop()


async def test_a_killed_role_comes_back_on_its_port_and_who_asked_meanwhile_is_answered(
    registry: Child, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as http:
        # Nobody serves yet: the question waits in the socket for the role.
        assert (await http.get("/health")).status_code == 200
    for _ in range(2):
        assert registry.pid is not None
        os.kill(registry.pid, signal.SIGKILL)
        assert listen_on(port) is None, "the port could be taken while the role is away"
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as http:
            assert (await http.get("/health")).status_code == 200
    assert registry.restarts == 2
    assert registry.failure == ""


async def test_a_role_that_stops_in_order_leaves_the_socket_usable(registry: Child, listener: socket.socket) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/health"
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        assert (await http.get(url)).status_code == 200
        process = registry._process
        assert process is not None
        process.send_signal(signal.SIGTERM)

        async def back() -> bool:
            return registry.restarts == 1

        await wait_until_ready(back, what="the role", timeout_seconds=PATIENCE_SECONDS)
        assert (await http.get(url)).status_code == 200


async def test_no_other_role_keeps_a_port_open(listener: socket.socket, database_url: str, tmp_path: Path) -> None:
    """Roles are forked from one process: a socket that one inherits must not live on in the others."""
    nursery = Nursery(tmp_path / "nursery.log")
    waiting = await nursery.spawn(["--version"], {}, tmp_path / "a", listener)
    assert await waiting.wait() == 0
    bystander = await nursery.spawn(
        ["registry", "--port", "1"],
        {"NEXUS_DATABASE_URL": database_url, "NEXUS_EVM_RPC_URL": "http://127.0.0.1:1"},
        tmp_path / "b",
    )
    port = listener.getsockname()[1]
    listener.close()
    again = listen_on(port)
    assert again is not None
    again.close()
    bystander.kill()
    await bystander.wait()
    await nursery.stop()


def test_a_port_is_ours_from_the_moment_it_is_chosen(listener: socket.socket) -> None:
    assert listen_on(listener.getsockname()[1]) is None


async def test_a_listener_is_inherited_once(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inherited_listener() is None
    monkeypatch.setenv(LISTENER, str(os.dup(listener.fileno())))
    with inherited_listener() as mine:  # type: ignore[union-attr]  # set above
        assert mine.getsockname() == listener.getsockname()
    assert inherited_listener() is None
    _, writer = await asyncio.open_connection(*listener.getsockname())
    writer.close()
    await writer.wait_closed()
