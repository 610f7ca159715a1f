"""The nursery: roles forked from one warm process behave like processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from agentnexus.cli.nursery import Forker, Order
from agentnexus.core.errors import Unavailable
from agentnexus.devnet.nursery import GONE, Forked, Nursery
from agentnexus.devnet.supervisor import Child
from agentnexus.platform.process import free_port, listen_on, wait_until_ready

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nursery(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nursery]:
    opened = Nursery(tmp_path_factory.mktemp("nursery") / "nursery.log")
    yield opened
    await opened.stop()
    assert opened.pid is None


async def test_a_role_is_the_nexus_command_with_its_own_output_and_environment(
    nursery: Nursery, tmp_path: Path
) -> None:
    log = tmp_path / "doctor.log"
    role = await nursery.spawn(["doctor", "--json"], {"NEXUS_AGENTS_DIR": str(tmp_path)}, log)
    assert await role.wait() == 1  # there are no agents in that folder
    findings = {finding["name"]: finding for finding in json.loads(log.read_text())}
    assert str(tmp_path) in findings["agents"]["found"]
    assert role.returncode == 1
    role.send_signal(signal.SIGTERM)  # to one that has ended: nothing happens


async def test_wrong_use_ends_the_role_and_not_the_nursery(nursery: Nursery, tmp_path: Path) -> None:
    await nursery.start()
    before = nursery.pid
    log = tmp_path / "log"
    first = await nursery.spawn(["serve", "--port", "no number"], {}, log)
    second = await nursery.spawn(["no-such-role"], {}, log)
    assert [await first.wait(), await second.wait()] == [2, 2]
    assert "no number" in log.read_text()
    assert nursery.pid == before


async def test_roles_are_sessions_of_their_own_and_can_be_killed(nursery: Nursery, tmp_path: Path) -> None:
    async with _waiting_role(nursery, tmp_path) as role:
        assert os.getsid(role.pid) == role.pid
        assert psutil.Process(role.pid).name() == "nexus-facilitat"
        role.kill()
        assert await role.wait() == -signal.SIGKILL


async def test_a_killed_nursery_takes_its_roles_and_comes_back_at_the_next_need(
    nursery: Nursery, tmp_path: Path
) -> None:
    async with _waiting_role(nursery, tmp_path) as role:
        process = psutil.Process(role.pid)
        assert nursery.pid is not None
        os.kill(nursery.pid, signal.SIGKILL)
        assert await role.wait() == GONE

        async def ended() -> bool:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE

        await wait_until_ready(ended, what="the end of the role", timeout_seconds=20)
    again = await nursery.spawn(["--version"], {}, tmp_path / "version")
    assert await again.wait() == 0
    assert "nexus" in (tmp_path / "version").read_text()


async def test_a_request_to_a_nursery_that_dies_is_an_error_and_not_a_wait(tmp_path: Path) -> None:
    nursery = Nursery(tmp_path / "log")
    await nursery.start()
    assert nursery.pid is not None
    os.kill(nursery.pid, signal.SIGSTOP)  # it must not answer before it dies
    asking = asyncio.create_task(nursery.spawn(["--version"], {}, tmp_path / "out"))
    await asyncio.sleep(0)
    os.kill(nursery.pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="ended with code -9"):
        await asking
    await nursery.stop()


async def test_a_supervised_role_comes_back(nursery: Nursery, tmp_path: Path) -> None:
    async with _frozen_database() as (environment, _):
        port = str(free_port())
        child = Child("facilitator", ["facilitator", "--port", port], environment, tmp_path / "log", nursery)
        await child.start()
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)

        async def back() -> bool:
            return child.restarts == 1 and child.pid not in (None, first)

        await wait_until_ready(back, what="the role", timeout_seconds=30)
        await child.stop()
        assert child.pid is None


async def test_orders_and_their_sockets_may_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    forker = Forker(wake_up=os.pipe()[0], children={}, orders=theirs)
    taken: list[tuple[str, int | None]] = []

    def note(own: Forker, order: Order) -> bool:
        port = None
        if order.get("listens"):
            with socket.socket(fileno=own.listeners.popleft()) as listener:
                port = listener.getsockname()[1]
        taken.append((order["log"], port))
        return False

    monkeypatch.setattr(Forker, "_fork", note)
    with ours, theirs, listen_on(0) as first, listen_on(0) as second:  # type: ignore[union-attr]  # free ports
        plain = json.dumps({"id": 1, "arguments": [], "environment": {}, "log": "a"}).encode() + b"\n"
        listening = json.dumps({"id": 2, "arguments": [], "environment": {}, "log": "b", "listens": True}).encode()
        ours.send(plain + plain[:9])
        ours.send(plain[9:])
        socket.send_fds(ours, [listening + b"\n"], [first.fileno()])
        socket.send_fds(ours, [listening[:20]], [second.fileno()])
        ours.send(listening[20:] + b"\n" + plain)
        ours.shutdown(socket.SHUT_WR)
        assert forker.run() is None
        ports = [each.getsockname()[1] for each in (first, second)]
    os.close(forker.wake_up)
    assert taken == [("a", None), ("a", None), ("b", ports[0]), ("b", ports[1]), ("a", None)]


@asynccontextmanager
async def _frozen_database() -> AsyncIterator[tuple[dict[str, str], asyncio.Event]]:
    """The environment of a role whose database accepts connections and says nothing; set when it has connected."""
    connected = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        with suppress(ConnectionError):
            while await reader.read(1000):
                pass
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    url = f"postgresql://postgres@127.0.0.1:{server.sockets[0].getsockname()[1]}/nothing"
    async with server:
        yield {"NEXUS_DATABASE_URL": url}, connected


@asynccontextmanager
async def _waiting_role(nursery: Nursery, tmp_path: Path) -> AsyncIterator[Forked]:
    async with _frozen_database() as (environment, connected):
        role = await nursery.spawn(["facilitator", "--port", str(free_port())], environment, tmp_path / "log")
        async with asyncio.timeout(30):
            await connected.wait()
        yield role
        role.kill()
        await role.wait()
