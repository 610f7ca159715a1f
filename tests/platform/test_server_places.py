"""A server that may not run as root still works from a checkout that only root may enter."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from agentnexus.platform import embedded, server_places
from agentnexus.platform.embedded import EmbeddedPostgres
from agentnexus.platform.server_places import reachable, reachable_data, reachable_programs


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder like root's home: nobody else may enter."""
    folder = Path("/tmp") / f"nexus-closed-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def shared() -> Iterator[Path]:
    folder = Path("/tmp") / f"nexus-shared-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_folder_is_reachable_when_every_folder_above_lets_others_through(closed: Path) -> None:
    assert reachable(closed)  # its own mode is the server's business
    assert not reachable(closed / "inside")
    closed.chmod(0o711)
    assert reachable(closed / "inside")


def test_what_is_reachable_stays_where_it_is(closed: Path, shared: Path) -> None:
    closed.chmod(0o755)
    (closed / "bin").mkdir()
    assert reachable_programs(closed / "bin", shared) == closed / "bin"
    assert reachable_data(closed / "data", shared) == closed / "data"
    assert not shared.exists()


def test_programs_are_copied_once_with_the_libraries_they_look_for(closed: Path, shared: Path) -> None:
    for part in ("site/pg/v18/bin", "site/pg/v18/lib", "site/pg.libs"):
        (closed / part).mkdir(parents=True)
        (closed / part / "file").write_text(part)
    place = reachable_programs(closed / "site/pg/v18/bin", shared)
    assert reachable(place / "file")
    assert (place / "file").read_text() == "site/pg/v18/bin"
    assert (place / "../lib/file").read_text() == "site/pg/v18/lib"
    assert (place / "../../../pg.libs/file").read_text() == "site/pg.libs"
    (closed / "site/pg/v18/bin/file").write_text("changed")
    assert reachable_programs(closed / "site/pg/v18/bin", shared) == place
    assert (place / "file").read_text() == "site/pg/v18/bin"
    assert len(list(shared.iterdir())) == 1


def test_data_moves_and_is_found_again_but_a_new_home_starts_empty(closed: Path, shared: Path) -> None:
    wanted = closed / "home" / "postgres"
    wanted.parent.mkdir()
    place = reachable_data(wanted, shared)
    (place / "kept").write_text("books")
    assert reachable_data(wanted, shared) == place
    assert (wanted / "kept").read_text() == "books"
    assert place.stat().st_mode & 0o777 == 0o700
    wanted.unlink()
    assert not list(reachable_data(wanted, shared).iterdir())


def test_data_that_is_already_there_is_not_moved_away(closed: Path, shared: Path) -> None:
    wanted = closed / "postgres"
    wanted.mkdir()
    (wanted / "PG_VERSION").write_text("18")
    assert reachable_data(wanted, shared) == wanted


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down to another user")
async def test_the_database_runs_and_restarts_from_a_home_that_only_root_may_enter(
    closed: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_places.reachable_data, "__defaults__", (shared,))
    monkeypatch.setattr(server_places.reachable_programs, "__defaults__", (shared,))
    package = embedded.binaries().parent.parent
    shutil.copytree(package, closed / package.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, closed / libraries.name)
    install = embedded.binaries().parent.name
    monkeypatch.setattr(embedded, "binaries", lambda: closed / package.name / install / "bin")
    for _ in range(2):
        server = EmbeddedPostgres(closed / "home" / "postgres", durable=False)
        connection = await asyncpg.connect(await server.start())
        await connection.execute("create table if not exists kept (n int); insert into kept values (1)")
        count = await connection.fetchval("select count(*) from kept")
        await connection.close()
        await server.stop()
    assert count == 2
    assert closed.stat().st_mode & 0o777 == 0o700
