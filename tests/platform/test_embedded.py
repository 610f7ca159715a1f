"""The embedded server: it ends with its parent, keeps its data, and takes over a folder left locked."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from agentnexus.core.errors import Unavailable
from agentnexus.platform.embedded import EmbeddedPostgres

HOLD = """
import asyncio, sys
from pathlib import Path
from agentnexus.platform.embedded import EmbeddedPostgres
async def main():
    server = EmbeddedPostgres(Path(sys.argv[1]), durable=False)
    await server.start()
    print(server.pid, server.url, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    short = Path("/tmp") / f"nexus-embedded-{tmp_path.name[-30:]}"
    shutil.rmtree(short, ignore_errors=True)
    yield short
    shutil.rmtree(short, ignore_errors=True)


async def _owner(folder: Path) -> tuple[asyncio.subprocess.Process, int, str]:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    pid, url = (await owner.stdout.readline()).decode().split()
    return owner, int(pid), url


async def test_the_server_ends_when_its_parent_is_killed_and_the_data_stays(folder: Path) -> None:
    owner, pid, url = await _owner(folder)
    connection = await asyncpg.connect(url)
    await connection.execute("create table kept (n int); insert into kept values (7)")
    await connection.close()
    server = psutil.Process(pid)
    owner.kill()
    await owner.wait()
    await asyncio.to_thread(server.wait, 20)
    again = EmbeddedPostgres(folder, durable=False)
    connection = await asyncpg.connect(await again.start())
    assert await connection.fetchval("select n from kept") == 7
    await connection.close()
    await again.stop()
    await again.stop()


async def test_a_folder_whose_server_still_runs_is_taken_over(folder: Path) -> None:
    owner, pid, _url = await _owner(folder)
    second = EmbeddedPostgres(folder, durable=False)
    url = await second.start()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    await (await asyncpg.connect(url)).close()
    await second.stop()
    owner.send_signal(signal.SIGKILL)
    await owner.wait()


async def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    first = EmbeddedPostgres(folder, durable=False)
    await first.start()
    await first.stop()
    (folder / "data" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(Unavailable, match="no_such_setting"):
        await EmbeddedPostgres(folder, durable=False).start()


async def test_only_who_can_read_the_owners_files_gets_in(folder: Path) -> None:
    server = EmbeddedPostgres(folder, durable=False)
    url = await server.start()
    assert (folder.stat().st_mode & 0o777, (folder / "password").stat().st_mode & 0o777) == (0o700, 0o600)
    for stranger in ("postgres@", "postgres:guess@", "nobody@"):
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(f"postgresql://{stranger}127.0.0.1:{server.port}/postgres")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(host=str(folder), port=server.port, user="postgres", database="postgres", password="x")
    await server.stop()
    again = EmbeddedPostgres(folder, durable=False, port=server.port)
    assert await again.start() == url
    await again.stop()


async def test_a_folder_from_before_there_were_passwords_gets_one_and_keeps_its_data(folder: Path) -> None:
    old = EmbeddedPostgres(folder, durable=False)
    connection = await asyncpg.connect(await old.start())
    await connection.execute("create table kept (n int); insert into kept values (7)")
    await connection.execute("alter role postgres password null")
    await connection.close()
    await old.stop()
    (folder / "data" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
    (folder / "password").unlink()

    server = EmbeddedPostgres(folder, durable=False)
    connection = await asyncpg.connect(await server.start())
    assert await connection.fetchval("select n from kept") == 7
    await connection.close()
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(f"postgresql://postgres@127.0.0.1:{server.port}/postgres")
    await server.stop()
