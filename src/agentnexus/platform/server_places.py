"""Where a server that must not run as root can work when its user may not enter the checkout (below ``/root``, say).

The folders of other people are never opened up for it: program and data move to ``/var/lib/agentnexus`` instead, and
the place asked for becomes a link to the data.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

SHARED = Path("/var/lib/agentnexus")


def reachable(path: Path) -> bool:
    """Whether any user may walk to it: every folder above lets others through."""
    return all(parent.stat().st_mode & 0o001 for parent in path.absolute().parents)


def reachable_programs(folder: Path, shared: Path = SHARED) -> Path:
    """`folder` (…/bin) itself, or the same in a copy of its whole installation, made once."""
    if reachable(folder):
        return folder
    install = folder.parent
    copy = shared / f"{install.name}-{_short_hash(install)}"
    if not copy.exists():
        _open(shared)
        fresh = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(install, fresh, symlinks=True)
        fresh.chmod(0o755)
        try:
            fresh.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(fresh)
    return copy / folder.name


def reachable_data(folder: Path, shared: Path = SHARED) -> Path:
    """`folder` itself, or the place its link leads to. A home made anew gets an empty place, never the old data."""
    if folder.is_symlink():
        return folder.resolve()
    if reachable(folder):
        return folder
    if folder.exists() and any(folder.iterdir()):
        return folder  # made when it could be entered: the server will say what is wrong
    _open(shared)
    place = shared / f"data-{_short_hash(folder)}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700)
    if folder.exists():
        folder.rmdir()
    folder.symlink_to(place)
    return place


def _open(shared: Path) -> None:
    shared.mkdir(parents=True, exist_ok=True)
    shared.chmod(0o755)


def _short_hash(path: Path) -> str:
    return hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]
