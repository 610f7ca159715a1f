"""Tries the system calls that sandboxes are escaped with."""

import ctypes
import errno
import os
import platform

from pydantic import BaseModel

from agentnexus.sdk import agent

_X86 = platform.machine() == "x86_64"
# Number by name: x86-64, the others' common table.
NUMBERS = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "fsopen": (430, 430),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "personality": (135, 92),
    "reboot": (169, 142),
    "settimeofday": (164, 170),
    "syslog": (103, 116),
    "clone3": (435, 435),
    "memfd_create": (319, 279),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "swapon": (167, 224),
}


class Request(BaseModel):
    call: str


class Answer(BaseModel):
    outcome: str


def _raw(name: str) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    number = NUMBERS[name][0 if _X86 else 1]
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(0) for _ in range(6)))
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def _clone_user_namespace() -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    number = 56 if _X86 else 220
    result = libc.syscall(ctypes.c_long(number), ctypes.c_ulong(0x1000_0000 | 17), *(ctypes.c_long(0),) * 4)
    if result == 0:
        os._exit(0)
    return "done" if result > 0 else errno.errorcode[ctypes.get_errno()]


def _outlive() -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.prctl(1, ctypes.c_ulong(0), 0, 0, 0)
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def _gain_user() -> str:
    try:
        os.setuid(0)
    except PermissionError:
        return "EPERM"
    return "done"


@agent
def run(request: Request) -> Answer:
    special = {"clone": _clone_user_namespace, "pdeathsig": _outlive, "setuid": _gain_user}
    action = special.get(request.call)
    return Answer(outcome=action() if action else _raw(request.call))
