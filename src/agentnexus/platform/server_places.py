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
    """`folder` (…/<package>/<install>/bin) itself, or the same in a copy made once.

    The wheel's programs find their libraries in ``<package>.libs`` beside the package, so that comes along.
    """
    if reachable(folder / "program"):
        return folder
    install, package = folder.parent, folder.parent.parent
    copy = shared / f"{install.name}-{_short_hash(install)}"
    if not copy.exists():
        _open(shared)
        fresh = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(install, fresh / package.name / install.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        for folder_made in (fresh, fresh / package.name):
            folder_made.chmod(0o755)  # whatever the umask is
        try:
            fresh.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(fresh)
    return copy / package.name / install.name / folder.name


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
