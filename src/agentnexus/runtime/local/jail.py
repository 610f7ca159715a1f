"""The file system an agent sees: read-only Python and /usr, its own folder, a small /tmp, and nothing else.

The zygote builds the skeleton once in its own mount namespace; each run gets a copy of that namespace, adds what is
its own (folder, /tmp, /proc) and makes the skeleton its root.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import sysconfig
from pathlib import Path

import agentnexus
from agentnexus.runtime.local import kernel

AGENT_FOLDER = Path("/agent")
TMP_FOLDER = "/tmp"  # noqa: S108 - a place of its own in every run
USER_ID = GROUP_ID = 1000
_DEVICES = ("null", "zero", "full", "random", "urandom")
_TMP_FILES_PER_MIB = 64
_ETC_FILES = {
    "passwd": f"root:x:0:0::/:/usr/sbin/nologin\nagent:x:{USER_ID}:{GROUP_ID}::/tmp:/usr/sbin/nologin\n",
    "group": f"root:x:0:\nagent:x:{GROUP_ID}:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "resolv.conf": "",
}
_ETC_SHARED = ("ld.so.cache", "ssl", "ca-certificates", "localtime", "mime.types")


def build(root: Path) -> None:
    """Mount the skeleton on `root`, in a mount namespace of this process alone."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", Path("/"), flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=4m,mode=755")
    for folder in ("dev", "etc", "proc", "tmp", "usr", "run", AGENT_FOLDER.name):
        (root / folder).mkdir()
    _system(root)
    for path in set(python_paths()) - _below_tmp():
        _show(root, path)
    _devices(root)
    kernel.mount("none", root, flags=kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV)


def enter(root: Path, folder: Path, tmp_bytes: int) -> None:
    """Inside fresh mount and pid namespaces: add what belongs to this run and leave the host's files behind."""
    kernel.bind(folder, root / AGENT_FOLDER.name)
    inodes = max(256, tmp_bytes // (1024 * 1024) * _TMP_FILES_PER_MIB)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("tmpfs", root / "tmp", "tmpfs", flags, f"size={tmp_bytes},mode=1777,nr_inodes={inodes}")
    for path in _below_tmp():
        _show(root, path)
    try:
        kernel.mount("proc", root / "proc", "proc", flags, "subset=pid")
    except OSError:  # Linux before 5.8 shows the rest of /proc too; file modes and lost capabilities guard it.
        kernel.mount("proc", root / "proc", "proc", flags)
    kernel.pivot_root(root)
    os.chdir(TMP_FOLDER)


def python_paths() -> list[Path]:
    """What the interpreter, the virtual environment and the SDK need; the rest of the product stays outside."""
    package = Path(next(iter(agentnexus.__path__)))
    wanted = {Path(sys.base_prefix), Path(sys.prefix), Path(sysconfig.get_path("purelib"))}
    wanted |= {Path(sysconfig.get_path("platlib")), package / "sdk", package / "__init__.py"}
    resolved = {path for path in wanted if path.exists()} | {path.resolve() for path in wanted if path.exists()}
    return sorted(path for path in resolved if not _inside(path, resolved) and not path.is_relative_to("/usr"))


@functools.cache
def _below_tmp() -> frozenset[Path]:
    """Where the product itself is installed below /tmp, each run's own /tmp would cover it: shown after that."""
    return frozenset(path for path in python_paths() if path.is_relative_to(TMP_FOLDER))


def _inside(path: Path, others: set[Path]) -> bool:
    return any(path != other and path.is_relative_to(other) for other in others)


def _system(root: Path) -> None:
    kernel.bind(Path("/usr"), root / "usr")
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        host = Path("/") / name
        if host.is_symlink():
            (root / name).symlink_to(host.readlink())
        elif host.is_dir():
            _show(root, host)
    for name, text in _ETC_FILES.items():
        (root / "etc" / name).write_text(text, encoding="ascii")
    for name in _ETC_SHARED:
        host = Path("/etc") / name
        if host.exists():
            _show(root, host)


def _devices(root: Path) -> None:
    for name in _DEVICES:
        target = root / "dev" / name
        target.touch()
        kernel.mount(f"/dev/{name}", target, flags=kernel.MS_BIND)
    for name, goal in (("fd", "/proc/self/fd"), ("shm", TMP_FOLDER), ("stdin", "fd/0"), ("stdout", "fd/1")):
        (root / "dev" / name).symlink_to(goal)


def _show(root: Path, path: Path) -> None:
    """Bind `path` read-only at the same place below `root`; parents are empty folders that anybody may pass."""
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    source = path.resolve()
    if source.is_dir():
        target.mkdir(exist_ok=True)
    else:
        with contextlib.suppress(FileExistsError):
            target.touch(exist_ok=False)
    kernel.bind(source, target)
