"""Whether this host can isolate agents, and if not, what is missing and how to get it. `nexus doctor` shows it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from agentnexus.core.errors import IsolationUnavailable

_CAP_SYS_ADMIN = 21
_NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "cgroup")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the sandbox needs. `fix` says how to get it when it is not there."""

    name: str
    present: bool
    detail: str
    fix: str = ""


def checks() -> list[Check]:
    """All of them, in the order they matter; blocks on a few small reads."""
    if sys.platform != "linux":
        fix = "Run in a Linux virtual machine or container, or use --unsafe-local for code you trust."
        return [Check("linux", False, f"this is {sys.platform}", fix)]
    return [_machine(), _privilege(), _namespaces(), _cgroups(), _seccomp()]


def require_isolation() -> None:
    """Raises `IsolationUnavailable` that lists all that is missing."""
    missing = [check for check in checks() if not check.present]
    if not missing:
        return
    raise IsolationUnavailable(
        "This host cannot isolate agents: " + "; ".join(f"{check.name}: {check.detail}" for check in missing),
        next_step=" ".join(check.fix for check in missing),
        missing=[check.name for check in missing],
    )


def _machine() -> Check:
    from agentnexus.runtime.local import kernel

    fix = "Use an x86-64, ARM64 or RISC-V machine, or --unsafe-local for code you trust."
    return Check("processor", kernel.supported_machine(), os.uname().machine, fix)


def _privilege() -> Check:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    held = int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1
    fix = "Run as root, or in a container with --privileged; --unsafe-local runs code you trust without isolation."
    return Check("privilege", bool(held), "CAP_SYS_ADMIN is held" if held else "CAP_SYS_ADMIN is not held", fix)


def _namespaces() -> Check:
    absent = [name for name in _NAMESPACES if not Path(f"/proc/self/ns/{name}").exists()]
    detail = f"the kernel has no {', '.join(absent)} namespaces" if absent else ", ".join(_NAMESPACES)
    return Check("namespaces", not absent, detail, "Use a kernel built with namespaces (any distribution's).")


def _cgroups() -> Check:
    from agentnexus.runtime.local import cgroups

    found = cgroups.find()
    fix = "Mount cgroups writable: as root on a host, or in a container with --privileged --cgroupns=private."
    if isinstance(found, str):
        return Check("cgroups", False, found, fix)
    return Check("cgroups", True, f"version {found.version}")


def _seccomp() -> Check:
    from agentnexus.runtime.local import seccomp

    missing = seccomp.available()
    fix = "Install libseccomp (apt-get install libseccomp2) and pyseccomp (uv sync --extra sandbox)."
    return Check("seccomp", not missing, missing or "libseccomp", fix)
