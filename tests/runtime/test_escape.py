"""An agent cannot read, write, reach or call anything outside its box."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys

import pytest

from agentnexus.runtime.local import jail
from agentnexus.runtime.local.sandbox import LocalSandbox
from tests.runtime.conftest import collect
from tests.runtime.hostile.kernel_calls import NUMBERS

# Builds a sandbox's file system in a checkout below /tmp, enters it, and says what is seen there.
BELOW_TMP = """
import json, os, sys
from pathlib import Path
from agentnexus.runtime.local import jail, kernel
top = Path(sys.argv[1])
checkout, real = top / "checkout", jail.python_paths
jail.python_paths = lambda: [*real(), checkout / ".venv"]
os.umask(0o022)
jail.build(top / "root")
kernel.unshare(kernel.CLONE_NEWNS)
jail.enter(top / "root", top / "agent", 1 << 20)
shown = {"module": (checkout / ".venv/module.py").read_text(), "beside": os.listdir(checkout)}
try:
    (checkout / ".venv/evil").touch()
except OSError as error:
    shown["write"] = "OSError"
shown["readable_by_all"] = all(folder.stat().st_mode & 0o5 == 0o5 for folder in checkout.parents)
print(json.dumps(shown))
"""
pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("path", ["/etc/shadow", "/root/.profile", "/root/.bash_history", "/proc/1/mem", "/dev/kmsg"])
async def test_the_hosts_files_cannot_be_read(sandbox, hostile, path):
    ended = await collect(sandbox, await hostile("files"), {"do": "read", "path": path})
    assert ended.output["outcome"] in {"FileNotFoundError", "PermissionError", "OSError"}


@pytest.mark.parametrize(
    "path", ["/usr/bin/python3", "/usr/evil", "/evil", "/etc/passwd", "/agent/agent.py", "/dev/evil", "/proc/sys/x"]
)
async def test_nothing_but_tmp_can_be_written(sandbox, hostile, path):
    ended = await collect(sandbox, await hostile("files"), {"do": "write", "path": path})
    assert ended.output["outcome"] in {"OSError", "PermissionError", "FileNotFoundError"}


async def test_the_interpreter_cannot_be_changed(sandbox, hostile):
    path = str(jail.python_paths()[0]) + "/evil"
    ended = await collect(sandbox, await hostile("files"), {"do": "write", "path": path})
    assert ended.output["outcome"] in {"OSError", "PermissionError"}


async def test_tmp_can_be_written_but_not_executed_from(sandbox, hostile):
    assert (await collect(sandbox, await hostile("files"), {"do": "write", "path": "/tmp/x"})).output == {
        "outcome": "written"
    }
    ended = await collect(sandbox, await hostile("files"), {"do": "execute"})
    assert "ran" not in str(ended.output["outcome"]).split()


async def test_tmp_of_one_run_is_gone_in_the_next(sandbox, hostile):
    bundle = await hostile("files")
    await collect(sandbox, bundle, {"do": "write", "path": "/tmp/left"})
    ended = await collect(sandbox, bundle, {"do": "list", "path": "/tmp"})
    assert "left" not in str(ended.output["outcome"]).split()


@pytest.mark.usefixtures("sandbox")
async def test_a_product_installed_below_tmp_is_visible_and_read_only_in_every_run(tmp_path):
    checkout = tmp_path / "checkout"
    for folder in ("root", "agent", "checkout/.venv"):
        (tmp_path / folder).mkdir(parents=True)
    (checkout / ".venv/module.py").write_text("here")
    (checkout / "secret").write_text("not shown")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", BELOW_TMP, str(tmp_path), stdout=-1)
    output, _ = await process.communicate()
    shown = json.loads(output)
    assert shown == {"module": "here", "beside": [".venv"], "write": "OSError", "readable_by_all": True}


async def test_an_operators_strict_umask_does_not_lock_agents_out(sandbox, hostile):
    bundle = await hostile("files")
    before = os.umask(0o077)
    try:
        async with LocalSandbox() as strict:
            ended = await collect(strict, bundle, {"do": "list", "path": "/tmp"})
    finally:
        os.umask(before)
    assert ended.output["outcome"] is not None


async def test_only_the_given_places_are_visible(sandbox, hostile):
    given = [str(path) for path in jail.python_paths()]
    ended = await collect(sandbox, await hostile("files"), {"do": "everything", "path": ":".join(given)})
    others = set(str(ended.output["outcome"]).splitlines()) - set(given)
    assert {line.split("/")[1] for line in others} <= {"etc", "lib", "lib64", "bin", "sbin", "lib32"}


async def test_the_products_own_code_beyond_the_sdk_is_not_visible(sandbox, hostile):
    package = next(path for path in jail.python_paths() if path.name == "sdk").parent
    ended = await collect(sandbox, await hostile("files"), {"do": "list", "path": str(package)})
    assert set(str(ended.output["outcome"]).split()) == {"__init__.py", "sdk"}


async def test_one_process_is_visible_and_it_is_the_agent(sandbox, hostile):
    ended = await collect(sandbox, await hostile("files"), {"do": "list", "path": "/proc"})
    assert [name for name in str(ended.output["outcome"]).split() if name.isdigit()] == ["1"]


async def test_root_cannot_be_had_back(sandbox, hostile):
    assert (await collect(sandbox, await hostile("files"), {"do": "set_user_id"})).output == {
        "outcome": "PermissionError"
    }


async def test_the_environment_holds_nothing_of_the_host(sandbox, hostile, monkeypatch):
    monkeypatch.setenv("NEXUS_TEST_TOKEN", "do-not-leak")
    outcome = str((await collect(sandbox, await hostile("files"), {"do": "environment"})).output["outcome"])
    assert "do-not-leak" not in outcome
    names = {line.partition("=")[0] for line in outcome.splitlines()}
    assert names <= {"PATH", "HOME", "TMPDIR", "LANG", "PYTHONUNBUFFERED", "OPENBLAS_NUM_THREADS", "LC_CTYPE"}


@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.1", "1.1.1.1", "64:ff9b::a00:1", "::ffff:10.0.0.1"])
async def test_no_address_can_be_reached(sandbox, hostile, host):
    ended = await collect(sandbox, await hostile("network"), {"do": "connect", "host": host})
    assert str(ended.output["outcome"]).startswith("OSError 101")


async def test_the_hosts_own_loopback_is_another_one(sandbox, hostile):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ended = await collect(sandbox, await hostile("network"), {"do": "connect", "host": "127.0.0.1", "port": port})
    assert str(ended.output["outcome"]).startswith("ConnectionRefusedError")


async def test_datagrams_and_names_go_nowhere(sandbox, hostile):
    bundle = await hostile("network")
    sent = await collect(sandbox, bundle, {"do": "datagram", "host": "8.8.8.8", "port": 53})
    assert str(sent.output["outcome"]).startswith("OSError 101")
    found = await collect(sandbox, bundle, {"do": "resolve", "host": "example.com"})
    assert str(found.output["outcome"]).startswith("gaierror")


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_NETLINK, 0),
        (socket.AF_PACKET, 0),
        (getattr(socket, "AF_VSOCK", 40), 1),
        (getattr(socket, "AF_ALG", 38), 1),
        (socket.AF_INET, 0),
        (44, 2),
    ],
)
async def test_special_sockets_are_refused(sandbox, hostile, family, kind):
    ended = await collect(sandbox, await hostile("network"), {"do": "family", "host": str(int(family)), "port": kind})
    assert str(ended.output["outcome"]).startswith("PermissionError")


async def test_loopback_is_the_only_interface(sandbox, hostile):
    outcome = str((await collect(sandbox, await hostile("network"), {"do": "interfaces"})).output["outcome"])
    # Listing them needs netlink on some C libraries, and that is refused.
    assert outcome == "lo" or outcome.startswith("PermissionError")


@pytest.mark.parametrize("call", [name for name in NUMBERS if name != "clone3"])
async def test_dangerous_system_calls_are_refused(sandbox, hostile, call):
    assert (await collect(sandbox, await hostile("kernel_calls"), {"call": call})).output == {"outcome": "EPERM"}


@pytest.mark.parametrize("call", ["clone", "pdeathsig", "setuid"])
async def test_known_calls_with_dangerous_arguments_are_refused(sandbox, hostile, call):
    assert (await collect(sandbox, await hostile("kernel_calls"), {"call": call})).output == {"outcome": "EPERM"}


async def test_clone3_is_unknown_so_that_libc_takes_the_checked_way(sandbox, hostile):
    assert (await collect(sandbox, await hostile("kernel_calls"), {"call": "clone3"})).output == {"outcome": "ENOSYS"}


async def test_no_open_file_of_the_host_is_inherited(sandbox, hostile):
    leak = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        ended = await collect(sandbox, await hostile("files"), {"do": "list", "path": "/proc/self/fd"})
    finally:
        os.close(leak)
    # Standard streams, the way to the supervisor, and the listing itself.
    assert len(str(ended.output["outcome"]).split()) == 5
