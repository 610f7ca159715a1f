"""Supervised children: they come back after a crash, say why when they cannot, and never outlive us."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import psutil
import pytest

from agentnexus.core.errors import Unavailable
from agentnexus.devnet import supervisor
from agentnexus.devnet.supervisor import Child
from agentnexus.platform.process import wait_until_ready

SLEEPER = [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()",
]
PARENT = """
import asyncio, sys
from pathlib import Path
from agentnexus.devnet.supervisor import Child
async def main():
    sleeper = [sys.executable, "-c", "import signal; signal.pause()"]
    child = Child("c", sleeper, {}, Path(sys.argv[1]))
    await child.start()
    print(child.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def _up(child: Child) -> None:
    async def printed() -> bool:
        return "up" in child.log_tail()

    await wait_until_ready(printed, what="child", timeout_seconds=20)


async def test_a_killed_child_comes_back_and_is_counted(tmp_path: Path) -> None:
    child = Child("c", SLEEPER, {}, tmp_path / "log")
    await child.start()
    first = child.pid
    assert first is not None
    psutil.Process(first).kill()

    async def back() -> bool:
        return child.restarts == 1 and child.pid not in (None, first)

    await wait_until_ready(back, what="restart", timeout_seconds=20)
    await child.stop()
    assert child.pid is None


async def test_stopping_twice_and_stopping_a_child_that_ended_is_fine(tmp_path: Path) -> None:
    child = Child("c", SLEEPER, {}, tmp_path / "log")
    await child.start()
    await child.stop()
    await child.stop()
    assert child.pid is None


async def test_a_child_that_ignores_the_polite_signal_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.05)
    child = Child("c", STUBBORN, {}, tmp_path / "log")
    await child.start()
    await _up(child)
    pid = child.pid
    await child.stop()
    assert pid is not None and not psutil.pid_exists(pid)


async def test_a_child_that_keeps_ending_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(supervisor, "LAST_DELAY_SECONDS", 20.0)
    child = Child("c", [sys.executable, "-S", "-c", "raise SystemExit('no such key')"], {}, tmp_path / "log")
    await child.start()

    async def gave_up() -> bool:
        return bool(child.failure)

    await wait_until_ready(gave_up, what="failure", timeout_seconds=60)
    with pytest.raises(Unavailable, match="no such key"):
        child.require_alive()
    await child.stop()


async def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path / "log"), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    await asyncio.to_thread(psutil.wait_procs, [child], 20)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
