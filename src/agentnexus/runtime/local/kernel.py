"""The few Linux calls that Python 3.11 lacks, with errors that name the call."""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import functools
import os
import platform
import signal
import socket
import struct
from pathlib import Path

CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 1, 4, 22
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_SECCOMP_MODE_FILTER = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1

_libc = ctypes.CDLL(None, use_errno=True)


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _check(result: int, call: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")


def supported_machine() -> bool:
    """Whether the system call numbers of this processor are known here."""
    return platform.machine() in _PIVOT_ROOT


def unshare(flags: int) -> None:
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare {flags:#x}")


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    arguments = (source.encode(), os.fsencode(target), kind.encode() or None)
    result = _libc.mount(*arguments, ctypes.c_ulong(flags), options.encode() or None)
    _check(result, f"mount {kind or 'bind'} on {target}")


def bind(source: Path, target: Path, flags: int = MS_RDONLY | MS_NOSUID | MS_NODEV) -> None:
    """Bind without submounts, then put the flags on (the first call ignores them)."""
    mount(str(source), target, flags=MS_BIND)
    mount("none", target, flags=MS_BIND | MS_REMOUNT | flags)


def pivot_root(new_root: Path) -> None:
    """Make `new_root` the root and let go of the old one for good."""
    os.chdir(new_root)
    _check(_libc.syscall(ctypes.c_long(_PIVOT_ROOT[platform.machine()]), b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "umount2 of the old root")
    os.chdir("/")


def die_with_parent() -> None:
    """SIGKILL when the thread that forked this process ends. Changing the user id clears it: call again after that."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, "PR_SET_PDEATHSIG")


def drop_privileges(user_id: int, group_id: int) -> None:
    """No capability now or ever again, no extra groups, no gain by executing anything."""
    for capability in range(last_capability() + 1):
        _prctl(_PR_CAPBSET_DROP, capability, "PR_CAPBSET_DROP")
    os.setgroups([])
    os.setresgid(group_id, group_id, group_id)
    os.setresuid(user_id, user_id, user_id)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")
    # The user change made /proc/self unreadable for the process itself; libraries need their own maps.
    _prctl(_PR_SET_DUMPABLE, 1, "PR_SET_DUMPABLE")


@functools.cache
def last_capability() -> int:
    """Read before /proc is replaced: the sandbox's own /proc has no /proc/sys."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))


def load_seccomp(program: bytes) -> None:
    """`program` is raw BPF, eight bytes per instruction."""
    buffer = ctypes.create_string_buffer(program, len(program))
    filter_program = _FilterProgram(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    result = _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filter_program), 0, 0)
    _check(result, "PR_SET_SECCOMP")


def loopback_up() -> None:
    """A new network namespace has `lo`, but down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = array.array("b", struct.pack("16sh22x", b"lo", 0))
        fcntl.ioctl(handle, _SIOCGIFFLAGS, request)
        flags = struct.unpack_from("h", request, 16)[0] | _IFF_UP
        struct.pack_into("h", request, 16, flags)
        fcntl.ioctl(handle, _SIOCSIFFLAGS, request)


def kill(pid_descriptor: int, number: signal.Signals) -> None:
    """By descriptor, so that a reused process id is never hit."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pid_descriptor, number)


def _prctl(option: int, value: int, name: str) -> None:
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), name)
