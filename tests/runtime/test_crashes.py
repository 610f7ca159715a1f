"""Helpers may be killed at any time: a run that is lost says so, and the next one works."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import psutil
import pytest
import uvloop

from agentnexus.core.errors import AgentFailed, IsolationUnavailable, Unavailable
from agentnexus.core.updates import Log
from agentnexus.runtime.local import cgroups, spawner, warden
from agentnexus.runtime.local.sandbox import LocalSandbox
from agentnexus.runtime.port import RunRequest
from tests.runtime.conftest import collect, write_agent
from tests.runtime.test_limits import SHORT
from tests.runtime.test_protocol import ECHO

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def until_gone(processes: list[psutil.Process]) -> None:
    async with asyncio.timeout(10):
        while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
            await asyncio.sleep(0.005)


async def killed_during(sandbox: LocalSandbox, bundle: object, victim: str) -> AgentFailed:
    """Kill -9 a helper while an agent works; returns how the run ended."""
    updates = sandbox.run(bundle, RunRequest(f"victim-{victim}", {"do": "ignore_signals"}))  # type: ignore[arg-type]
    assert await anext(updates) == Log("ignoring")
    zygote = psutil.Process(sandbox.helper_pids()[-1])
    everything = zygote.children(recursive=True)
    warden_process = zygote.children()[0]
    agent_process = warden_process.children()[0]
    {"zygote": zygote, "warden": warden_process, "agent": agent_process}[victim].kill()
    with pytest.raises(AgentFailed) as failed:
        async for _ in updates:
            pass
    await until_gone(everything)
    return failed.value


@pytest.mark.parametrize("victim", ["zygote", "warden", "agent"])
async def test_kill_9_of_any_part_is_a_clean_failure_and_the_next_run_works(sandbox, hostile, victim):
    bundle = await hostile("greedy")
    async with LocalSandbox() as own:
        failed = await killed_during(own, bundle, victim)
        assert failed.retryable
        assert failed.next_step
        ended = await collect(own, bundle, {"do": "big_result", "amount": 3})
        assert ended.output == {"text": "rrr"}


async def test_a_kill_while_a_run_is_starting_leaves_nothing_and_the_run_ends(sandbox, hostile):
    """Between a fork and the order to die with the parent lies a gap: kill there, at every depth."""
    bundle = await hostile("greedy")
    for depth in (1, 2, 1, 2, 1, 2):
        async with LocalSandbox() as own:
            await collect(own, bundle, {"do": "big_result"})
            zygote = psutil.Process(own.helper_pids()[0])
            run = asyncio.create_task(collect(own, bundle, {"do": "ignore_signals"}, limits=SHORT))
            async with asyncio.timeout(20):
                while len(found := zygote.children(recursive=True)) < depth and not run.done():
                    await asyncio.sleep(0)
            zygote.kill()
            ended = await run
            assert isinstance(ended.error, AgentFailed)
            await until_gone([zygote, *found])


async def test_a_helper_that_cannot_start_is_told_after_a_few_tries(sandbox, hostile, monkeypatch):
    bundle = await hostile("greedy")
    monkeypatch.setattr(spawner, "FIRST_BACK_OFF_SECONDS", 0.0)
    monkeypatch.setattr(spawner, "_ENVIRONMENT", {"LD_PRELOAD": "", "PATH": "/nowhere"})
    monkeypatch.setattr(spawner.sys, "executable", shutil.which("false"))
    async with LocalSandbox() as own:
        ended = await collect(own, bundle, {"do": "big_result"})
        assert isinstance(ended.error, AgentFailed)
        assert "did not start" in str(ended.error)
        assert ended.error.retryable
        (zygote,) = own._zygotes.values()
        assert zygote.starts == spawner.MAX_FAILED_STARTS


async def test_a_helper_that_the_kernel_refuses_is_an_unavailable_isolation(sandbox, hostile, tmp_path, monkeypatch):
    bundle = await hostile("greedy")
    refusing = tmp_path / "python"
    refusing.write_text(
        f"#!{sys.executable}\nimport json, socket, sys\nsocket.socket(fileno=int(sys.argv[4]))"
        '.send(json.dumps({"failed": "unshare: Operation not permitted"}).encode())\n'
    )
    refusing.chmod(0o755)
    monkeypatch.setattr(spawner.sys, "executable", str(refusing))
    async with LocalSandbox() as own:
        ended = await collect(own, bundle, {"do": "big_result"})
    assert isinstance(ended.error, IsolationUnavailable)
    assert "nexus doctor" in ended.error.next_step


async def test_concurrent_runs_never_see_each_others_secrets_or_files(sandbox, tmp_path):
    code = NEIGHBOUR
    bundle = await sandbox.prepare(write_agent(tmp_path / "agent", code, top='secrets = ["API_KEY"]'))
    keys = [f"sk-neighbour-{number}-{number * 7919}" for number in range(8)]
    runs = await asyncio.gather(
        *(collect(sandbox, bundle, {"text": str(number)}, secrets={"API_KEY": key}) for number, key in enumerate(keys))
    )
    for number, ended in enumerate(runs):
        seen = str(ended.output["text"])
        assert f"{number}-{number * 7919}" in seen
        assert not [key for other, key in enumerate(keys) if other != number and key in seen]


async def test_runs_that_were_lost_leave_no_control_group(sandbox, hostile):
    bundle = await hostile("greedy")
    async with LocalSandbox() as own:
        await killed_during(own, bundle, "zygote")
        await collect(own, bundle, {"do": "big_result"})
        host = cgroups.find()
        assert isinstance(host, cgroups.Host)
        async with asyncio.timeout(10):
            while any(base.glob(f"{own._prefix}*") for base in host.bases.values()) and any(
                list(base.glob(f"{own._prefix}*")) for base in host.bases.values()
            ):
                await asyncio.sleep(0.005)


async def test_a_zygote_that_was_killed_between_runs_is_started_again(sandbox, hostile):
    bundle = await hostile("greedy")
    async with LocalSandbox() as own:
        await collect(own, bundle, {"do": "big_result"})
        (first,) = own.helper_pids()
        os.kill(first, signal.SIGKILL)
        ended = await asyncio.gather(*(collect(own, bundle, {"do": "big_result", "amount": 1}) for _ in range(5)))
        assert [run.output for run in ended] == [{"text": "r"}] * 5
        (second,) = own.helper_pids()
        assert second != first


def leftovers(pid: int) -> list[Path]:
    """Work folders and control groups that name this process as their owner."""
    host = cgroups.find()
    assert isinstance(host, cgroups.Host)
    groups = [path for base in set(host.bases.values()) for path in base.glob(f"nexus-{pid}-*")]
    return groups + list(Path(tempfile.gettempdir()).glob(f"nexus-sandbox-{pid}-*"))


async def test_everything_ends_when_the_platforms_process_is_killed(sandbox, tmp_path):
    folder = write_agent(
        tmp_path / "agent", ECHO.replace("    return", "    import time\n    time.sleep(600)\n    return")
    )
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from agentnexus.runtime.local.sandbox import LocalSandbox
        from agentnexus.runtime.port import RunRequest

        async def main():
            async with LocalSandbox() as sandbox:
                bundle = await sandbox.prepare(Path(sys.argv[1]))
                print(sandbox.helper_pids()[0], flush=True)
                async for update in sandbox.run(bundle, RunRequest("left", {"text": "x"})):
                    pass

        asyncio.run(main())
    """)
    platform = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE)
    assert platform.stdout is not None
    zygote = psutil.Process(int(await asyncio.to_thread(platform.stdout.readline)))
    async with asyncio.timeout(10):
        while len(zygote.children(recursive=True)) < 2:
            await asyncio.sleep(0.005)
    everything = [zygote, *zygote.children(recursive=True)]
    platform.kill()
    await asyncio.to_thread(platform.wait)
    platform.stdout.close()
    await until_gone(everything)
    assert leftovers(platform.pid)
    async with LocalSandbox() as own:
        await own.prepare(folder)
        assert leftovers(platform.pid) == []


async def test_closing_the_sandbox_ends_what_runs(sandbox, hostile):
    own = LocalSandbox()
    await own.__aenter__()
    updates = own.run(await hostile("greedy"), RunRequest("closing", {"do": "ignore_signals"}))
    await anext(updates)
    everything = psutil.Process(own.helper_pids()[0]).children(recursive=True)
    await own.close()
    with pytest.raises(AgentFailed):
        await anext(updates)
    await until_gone(everything)


async def test_a_closed_sandbox_says_so(hostile, sandbox):
    own = LocalSandbox()
    with pytest.raises(Unavailable, match="closed"):
        await anext(own.run(await hostile("liar"), RunRequest("x", {"do": "charge"})))


async def test_an_idle_zygote_is_retired_and_comes_back(sandbox, hostile):
    bundle = await hostile("greedy")
    async with LocalSandbox(idle_seconds=0) as own:
        assert (await collect(own, bundle, {"do": "big_result", "amount": 1})).output == {"text": "r"}
        async with asyncio.timeout(10):
            while own.helper_pids():
                await asyncio.sleep(0.005)
        assert (await collect(own, bundle, {"do": "big_result", "amount": 1})).output == {"text": "r"}


async def test_the_sandbox_works_on_uvloop_too(sandbox, hostile):
    """The API runs on it, and descriptors and packet sockets are where event loops differ."""
    bundle = await hostile("greedy")

    async def work() -> list[object]:
        async with LocalSandbox() as own:
            updates = own.run(bundle, RunRequest("left", {"do": "ignore_signals"}))
            assert await anext(updates) == Log("ignoring")
            await updates.aclose()
            runs = [collect(own, bundle, {"do": "big_result", "amount": 2}) for _ in range(4)]
            return [ended.output for ended in await asyncio.gather(*runs)]

    assert await asyncio.to_thread(lambda: uvloop.run(work())) == [{"text": "rr"}] * 4


async def test_the_wardens_report_survives_its_wire_form():
    text = b'exit {"code":0,"signal":9,"ended_by":"timeout","wall_ms":5,"memory_peak_bytes":6,"cpu_ms":7,'
    report = warden.Exit.parse(text + b'"oom_kills":0,"process_limit_hits":0}')
    assert (report.signal, report.ended_by, report.cpu_ms) == (9, "timeout", 7)


NEIGHBOUR = """
import gc, os, sys
from pathlib import Path
from pydantic import BaseModel
from agentnexus.sdk import Context, agent

class Text(BaseModel):
    text: str

@agent
def run(request: Text, context: Context) -> Text:
    Path("/tmp/mine").write_text(context.secret("API_KEY"))
    found = [str(value) for value in gc.get_objects() if isinstance(value, dict) and "API_KEY" in value]
    for folder, _, files in os.walk("/tmp"):
        if not folder.startswith(sys.prefix):  # a checkout below /tmp has its interpreter there
            found += [Path(folder, name).read_bytes().decode(errors="replace") for name in files]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        raw = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        found.append(raw.decode(errors="replace"))  # of a process that is just starting or ending it may be anything
    return Text(text=" ".join(found))
"""
