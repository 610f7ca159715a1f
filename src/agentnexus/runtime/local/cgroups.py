"""Memory, process and CPU limits by cgroup, version 1 or 2, whatever the host gives."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CONTROLLERS = ("memory", "pids", "cpu")
PERIOD_MICROSECONDS = 100_000


@dataclass(frozen=True, slots=True)
class Host:
    """Where groups can be made. `bases` maps controller to folder; in version 2 they are one folder."""

    version: Literal[1, 2]
    bases: dict[str, Path]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group used and which limits it hit; `memory_peak_bytes` is 0 where the kernel does not tell."""

    memory_peak_bytes: int = 0
    cpu_ms: int = 0
    oom_kills: int = 0
    process_limit_hits: int = 0


def find(mounts: str | None = None, own: str | None = None) -> Host | str:
    """The host's cgroups, or one sentence saying what is missing. Arguments default to this process's /proc files."""
    mounts = mounts if mounts is not None else Path("/proc/self/mounts").read_text(encoding="utf-8")
    own = own if own is not None else Path("/proc/self/cgroup").read_text(encoding="utf-8")
    rows = [line.split() for line in mounts.splitlines()]
    groups = dict(_own_groups(own))
    bases: dict[str, Path] = {}
    for controller in CONTROLLERS:
        mounted = [row[1] for row in rows if row[2] == "cgroup" and controller in row[3].split(",")]
        if mounted:
            bases[controller] = _existing(Path(mounted[0]), groups.get(controller, "/"))
    if "cpu" in bases:
        extra = [row[1] for row in rows if row[2] == "cgroup" and "cpuacct" in row[3].split(",")]
        if extra:
            bases["cpuacct"] = _existing(Path(extra[0]), groups.get("cpuacct", "/"))
    if set(CONTROLLERS) <= set(bases):
        return _writable(Host(1, bases))
    unified = [row[1] for row in rows if row[2] == "cgroup2"]
    if not unified:
        return "no cgroup hierarchy with the memory, pids and cpu controllers is mounted"
    return _find_unified(_existing(Path(unified[0]), groups.get("", "/")))


def _find_unified(base: Path) -> Host | str:
    offered = (base / "cgroup.controllers").read_text(encoding="ascii").split()
    absent = [name for name in CONTROLLERS if name not in offered]
    if absent:
        return f"the cgroup of this process has no {', '.join(absent)} controller delegated to it"
    try:
        _delegate(base)
    except OSError as error:
        return f"cgroup controllers cannot be handed to sub-groups of {base}: {error.strerror}"
    return _writable(Host(2, dict.fromkeys(CONTROLLERS, base)))


def _delegate(base: Path) -> None:
    """Version 2 allows no processes beside sub-groups: if there are some, move them into a leaf first."""
    wanted = " ".join(f"+{name}" for name in CONTROLLERS)
    control = base / "cgroup.subtree_control"
    if set(CONTROLLERS) <= set(control.read_text(encoding="ascii").split()):
        return
    try:
        control.write_text(wanted, encoding="ascii")
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        leaf = base / "supervisor"
        leaf.mkdir(exist_ok=True)
        for pid in (base / "cgroup.procs").read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid, encoding="ascii")
        control.write_text(wanted, encoding="ascii")


def _writable(host: Host) -> Host | str:
    for base in host.bases.values():
        if not os.access(base, os.W_OK):
            return f"{base} is not writable: run as root, or have the cgroup delegated to this user"
    return host


def _own_groups(text: str) -> list[tuple[str, str]]:
    rows = [line.split(":", 2) for line in text.splitlines()]
    return [(name, row[2]) for row in rows if len(row) == 3 for name in row[1].split(",")]


def _existing(mount: Path, group: str) -> Path:
    """Below our own group if the mount shows it (inside a container it may not)."""
    inside = mount / group.lstrip("/")
    return inside if inside.is_dir() else mount


class Group:
    """The limits of one run. Make it outside the sandbox, `enter` from inside, `remove` when all is over."""

    def __init__(self, host: Host, name: str) -> None:
        self._version = host.version
        self._folders = {controller: base / name for controller, base in host.bases.items()}
        for folder in set(self._folders.values()):
            folder.mkdir(exist_ok=True)

    def limit(self, *, memory_bytes: int, processes: int, cpu: float) -> None:
        quota = max(1000, int(cpu * PERIOD_MICROSECONDS))
        self._write("pids", "pids.max", str(processes))
        if self._version == 1:
            self._write("memory", "memory.limit_in_bytes", str(memory_bytes))
            with contextlib.suppress(OSError):
                self._write("memory", "memory.memsw.limit_in_bytes", str(memory_bytes))
            self._write("cpu", "cpu.cfs_period_us", str(PERIOD_MICROSECONDS))
            self._write("cpu", "cpu.cfs_quota_us", str(quota))
        else:
            self._write("memory", "memory.max", str(memory_bytes))
            with contextlib.suppress(OSError):
                self._write("memory", "memory.swap.max", "0")
            self._write("cpu", "cpu.max", f"{quota} {PERIOD_MICROSECONDS}")

    def enter(self) -> None:
        """Put the calling process in."""
        for folder in set(self._folders.values()):
            (folder / "cgroup.procs").write_text("0", encoding="ascii")

    def usage(self) -> Usage:
        hits = self._fields("pids", "pids.events").get("max", 0)
        if self._version == 1:
            nanoseconds = self._number("cpuacct", "cpuacct.usage") if "cpuacct" in self._folders else 0
            return Usage(
                memory_peak_bytes=self._number("memory", "memory.max_usage_in_bytes"),
                cpu_ms=nanoseconds // 1_000_000,
                oom_kills=self._fields("memory", "memory.oom_control").get("oom_kill", 0),
                process_limit_hits=hits,
            )
        return Usage(
            memory_peak_bytes=self._number("memory", "memory.peak"),
            cpu_ms=self._fields("cpu", "cpu.stat").get("usage_usec", 0) // 1000,
            oom_kills=self._fields("memory", "memory.events").get("oom_kill", 0),
            process_limit_hits=hits,
        )

    def remove(self) -> None:
        """Only an empty group goes away; a busy one is left to `sweep`."""
        for folder in set(self._folders.values()):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _write(self, controller: str, file: str, text: str) -> None:
        (self._folders[controller] / file).write_text(text, encoding="ascii")

    def _number(self, controller: str, file: str) -> int:
        try:
            return int((self._folders[controller] / file).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def _fields(self, controller: str, file: str) -> dict[str, int]:
        try:
            text = (self._folders[controller] / file).read_text(encoding="ascii")
        except OSError:
            return {}
        pairs = (line.split() for line in text.splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def sweep(host: Host, prefix: str) -> None:
    """Remove the empty groups of killed helpers: ours by their prefix, others' when their process is gone."""
    for base in set(host.bases.values()):
        for folder in base.glob("nexus-*-*"):
            if folder.name.startswith(prefix) or not process_lives(folder.name.split("-")[1]):
                with contextlib.suppress(OSError):
                    folder.rmdir()


def process_lives(pid: str) -> bool:
    """Whether there is a process of this number; a name that holds no number counts as living."""
    return not pid.isdigit() or Path("/proc", pid).exists()
