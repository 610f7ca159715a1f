"""The whole economy on one machine: database, chain, facilitator, registry, seller and API, workers.

Everything listens on loopback, ends with this process, and keeps its state under one folder, so that the books and
the chain go on together after a restart.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import httpx

from agentnexus.core.clock import SystemEntropy
from agentnexus.core.errors import Conflict, NexusError, Unavailable
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.devnet.contracts import deploy_contracts, describe_contracts
from agentnexus.devnet.nursery import Nursery
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.devnet.solana.treasury import describe as describe_solana
from agentnexus.devnet.solana.treasury import treasury_environment
from agentnexus.devnet.supervisor import Child
from agentnexus.identity.tokens import Tokens
from agentnexus.markets.x402.registry.store import RegistryStore
from agentnexus.platform.database import Database
from agentnexus.platform.embedded import EmbeddedPostgres
from agentnexus.platform.migrations.run import migrate
from agentnexus.platform.process import free_port, listen_on, port_open, wait_until_ready
from agentnexus.rails.evm.deployment import Manifest
from agentnexus.rails.evm.transactions import TransactionSender
from agentnexus.runtime.local.probe import require_isolation

LOCAL_USER = "local"
READY_SECONDS = 60.0
KEEP_SECONDS = 1.0
PORT_TRIES = 3
DEFAULT_PORTS = {"chain": 8545, "solana": 8899, "registry": 3001, "facilitator": 4020, "api": 5000}
SOLANA_FINALITY_SLOTS = 4  # two seconds instead of thirteen: nobody forks a chain of one
CHAINS = ("chain", "solana")  # they bind their ports themselves
SELLERS = ("seller-1", "seller-2", "seller-3", "seller-4")


@dataclass(frozen=True, slots=True)
class Plan:
    """How to start it. `fixed_ports` takes the well-known ports where they are free."""

    home: Path = Path(".nexus")
    database_url: str | None = None
    workers: int = 1
    fixed_ports: bool = True
    unsafe_local: bool = False
    agents_dir: Path = Path("agents")
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """One row of the status table."""

    name: str
    where: str
    state: str
    restarts: int = 0
    pid: int | None = None


class Kept(Protocol):
    """The database server or the chain: something that is started again when it ends."""

    @property
    def pid(self) -> int | None: ...

    async def start(self) -> object: ...

    async def ended(self) -> None: ...


class Economy:
    """A running economy; made by `run_economy`."""

    def __init__(
        self, plan: Plan, tell: Callable[[str], None] = lambda _line: None, nursery: Nursery | None = None
    ) -> None:
        self.plan = plan
        self._tell = tell
        self.home = plan.home.absolute()
        self.children: list[Child] = []
        self.urls: dict[str, str] = {}
        self.token = ""
        self.database_url = plan.database_url or ""
        self._nursery = nursery or Nursery(self.home / "logs" / "nursery.log")
        self._postgres: EmbeddedPostgres | None = None
        self._chain: DevelopmentChain | None = None
        self._contracts: Manifest | None = None
        self._keepers: list[asyncio.Task[None]] = []
        self._listeners: dict[str, socket.socket] = {}
        self._solana: SolanaDevelopmentChain | None = None
        self._restarts = {"database": 0, "chain": 0, "solana": 0}

    @property
    def chain(self) -> DevelopmentChain:
        assert self._chain is not None, "not started"
        return self._chain

    @property
    def solana(self) -> SolanaDevelopmentChain:
        assert self._solana is not None, "not started"
        return self._solana

    async def start(self) -> None:
        """Start everything, in the order things need each other; raises `Unavailable` naming what did not come up."""
        if not self.plan.unsafe_local:
            await asyncio.to_thread(require_isolation)
        ports = await self._take_ports()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._nursery.start())
            group.create_task(self._noted("database", self._start_database()))
            group.create_task(self._noted("chain", bind_anew(self._start_chain, ports["chain"])))
            group.create_task(self._noted("solana", bind_anew(self._start_solana, ports["solana"])))
        ports["chain"], ports["solana"] = self.chain.port, self.solana.port
        self._keepers = [
            asyncio.create_task(self._keep("chain", self.chain, self._chain_is_back), name="keep-chain"),
            asyncio.create_task(self._keep("solana", self.solana), name="keep-solana"),
        ]
        if self._postgres is not None:
            self._keepers.append(asyncio.create_task(self._keep("database", self._postgres), name="keep-database"))
        self.urls = {name: f"http://127.0.0.1:{ports[name]}" for name in ("registry", "facilitator", "api")}
        await self._settle_in(ports)
        await self._start_roles(ports)

    async def _start_roles(self, ports: dict[str, int]) -> None:
        environment = self._environment()
        for name, arguments in self._programs(ports):
            log = self.home / "logs" / f"{name}.log"
            self.children.append(
                Child(name, arguments, environment, log, self._nursery, listener=self._listeners.get(name))
            )
        async with asyncio.TaskGroup() as group:
            for child in self.children:
                group.create_task(child.start())
        async with httpx.AsyncClient() as client, asyncio.TaskGroup() as group:
            healthy = {
                name: group.create_task(self._noted(name, self._until_healthy(client, name, url)))
                for name, url in self.urls.items()
            }
            await healthy["api"]
            await self._noted("agents", self._until_sold(client))

    async def stop(self) -> None:
        """End everything: first who works, then what they stand on."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        async with asyncio.TaskGroup() as group:
            for child in self.children:
                group.create_task(child.stop())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._nursery.stop())
            if self._chain is not None:
                group.create_task(self._chain.stop())
            if self._solana is not None:
                group.create_task(self._solana.stop())
            if self._postgres is not None:
                group.create_task(self._postgres.stop())
        if self._chain is not None:
            await self._chain.rpc.close()
        if self._solana is not None:
            await self._solana.rpc.close()
        for listener in self._listeners.values():
            listener.close()

    async def _noted(self, name: str, work: Awaitable[None]) -> None:
        """Tell when a part is ready."""
        started = time.monotonic()
        await work
        self._tell(f"{name} ready ({time.monotonic() - started:.1f} s)")

    async def _keep(self, name: str, part: Kept, afterwards: Callable[[], Awaitable[None]] | None = None) -> None:
        """Start the database or the chain again when it ends."""
        while True:
            await part.ended()
            self._restarts[name] += 1
            self._tell(f"{name} ended and is started again")
            try:
                await part.start()
                if afterwards is not None:
                    await afterwards()
            except NexusError as error:
                self._tell(f"{name}: {error.message}")
                await asyncio.sleep(KEEP_SECONDS)

    async def _chain_is_back(self) -> None:
        """A killed node forgets its last moments; our transactions are stored, and sent again they are the same."""
        await self._deploy_contracts()
        database = await Database.open(self.database_url, max_size=2)
        try:
            sender = await TransactionSender.open(database, self.chain.rpc, self.chain.chain_id)
            for name in ("relayer", "buyer"):
                await sender.recover(self.chain.accounts[name].signer)
        finally:
            await database.close()

    def describe(self) -> dict[str, object]:
        """What programs need to use this economy; written to ``devnet.json``."""
        chain = self.chain.describe()
        return {
            "evm": {
                "rpc_url": chain["rpc_url"],
                "chain_id": chain["chain_id"],
                "contracts": {"usdc": chain["usdc"], **describe_contracts(self._contracts)},
                "usdc": chain["usdc"],
            },
            "solana": describe_solana(self.solana),
            "registry_url": self.urls["registry"],
            "facilitator_url": self.urls["facilitator"],
            "api_url": self.urls["api"],
            "web_url": self.urls["api"],
            "database_url": self.database_url,
            "accounts": chain["accounts"],
            "sellers": list(SELLERS),
            "user": LOCAL_USER,
            "token": self.token,
            "home": str(self.home),
            "pid": os.getpid(),
            "processes": {child.name: child.pid for child in self.children},
        }

    def status(self) -> list[Part]:
        """Every part with where it is and how it does."""
        parts = [
            self._ground("database", self.database_url.partition("@")[2], self._postgres),
            self._ground("chain", self.chain.rpc_url, self.chain),
            self._ground("solana", self.solana.rpc_url, self.solana),
        ]
        for child in self.children:
            state = "failing" if child.failure else "running" if child.pid else "restarting"
            parts.append(Part(child.name, self.urls.get(child.name, ""), state, child.restarts, child.pid))
        return parts

    def _ground(self, name: str, where: str, part: Kept | None) -> Part:
        pid = part.pid if part else None
        state = "running" if pid or part is None else "restarting"
        return Part(name, where, state, self._restarts[name], pid)

    async def _take_ports(self) -> dict[str, int]:
        """The ports of last time where they are free, else the well-known ones, else any.

        We listen on the roles' ports ourselves and hand the sockets down: no port can be lost between choosing and
        serving, or while a role is started again.
        """
        remembered = self._last_ports()
        ports: dict[str, int] = {}
        for name, known in sorted(
            DEFAULT_PORTS.items(), key=lambda each: each[0] in CHAINS
        ):  # their ports are not held
            wanted = [remembered[name]] if name in remembered else []
            wanted += [known] if self.plan.fixed_ports else []
            if name in CHAINS:
                free = [port for port in wanted if not await port_open("127.0.0.1", port)]
                ports[name] = free[0] if free else free_port()
                continue
            listener = next(filter(None, map(listen_on, [*wanted, 0])), None)
            if listener is None:
                raise Unavailable("there is no free port", next_step="end some of the programs that listen")
            self._listeners[name] = listener
            ports[name] = listener.getsockname()[1]
        return ports

    async def _start_chain(self, port: int) -> None:
        self._chain = DevelopmentChain(port=port, state=self.home / "chain.json", log=self.home / "logs" / "chain.log")
        try:
            await self._chain.start()
        except Unavailable:
            await self._chain.rpc.close()
            raise
        await self._deploy_contracts()

    async def _deploy_contracts(self) -> None:
        """Without npm's EntryPoint all else works: purchases on the chain are what is missing then."""
        try:
            self._contracts = await deploy_contracts(self.chain)
        except Unavailable as error:
            self._tell(f"no contracts on the chain: {error.message}; {error.next_step}")
            return
        self._contracts.save(self.home)

    async def _start_solana(self, port: int) -> None:
        log = self.home / "logs" / "solana.log"
        self._solana = SolanaDevelopmentChain(
            port=port, state=self.home / "solana.db", log=log, finality_slots=SOLANA_FINALITY_SLOTS
        )
        try:
            await self._solana.start()
        except Unavailable:
            await self._solana.rpc.close()
            raise

    async def _start_server(self, port: int) -> None:
        self._postgres = EmbeddedPostgres(self.home / "postgres", port=port)
        await self._postgres.start()

    def _last_ports(self) -> dict[str, int]:
        path = self.home / "ports.json"
        if not path.exists():
            return {}
        found: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
        return found

    async def _settle_in(self, ports: dict[str, int]) -> None:
        """Where the API is elsewhere than last time, our own entries in our registry move with it."""
        database = await Database.open(self.database_url, max_size=1)
        try:
            self.token = await self._local_token(database)
            before = self._last_ports().get("api", ports["api"])
            if before != ports["api"]:
                await RegistryStore(database).move(f"http://127.0.0.1:{before}/", f"{self.urls['api']}/")
        finally:
            await database.close()
        (self.home / "ports.json").write_text(json.dumps(ports), encoding="utf-8")

    async def _start_database(self) -> None:
        if not self.database_url:
            await bind_anew(self._start_server, free_port())
            assert self._postgres is not None
            self.database_url = self._postgres.url
        await migrate(self.database_url)

    async def _local_token(self, database: Database) -> str:
        """The local user's token, kept in a file that only its owner can read."""
        path = self.home / "token"
        if path.exists():
            return path.read_text(encoding="utf-8").strip()
        token = await Tokens(database, SystemEntropy()).issue(LOCAL_USER)
        path.touch(mode=0o600)
        path.write_text(token, encoding="utf-8")
        return token

    def _environment(self) -> dict[str, str]:
        accounts = self.chain.accounts
        return {
            "NEXUS_ENVIRONMENT": "local",
            "NEXUS_HOME": str(self.home),
            "NEXUS_DATABASE_URL": self.database_url,
            "NEXUS_EVM_RPC_URL": self.chain.rpc_url,
            "NEXUS_EVM_CHAIN_ID": str(self.chain.chain_id),
            "NEXUS_USDC_ADDRESS": self.chain.usdc.reference,
            "NEXUS_BUYER_KEY": accounts["buyer"].private_key,
            "NEXUS_RELAYER_KEY": accounts["relayer"].private_key,
            "NEXUS_SELLER_KEYS": ",".join(accounts[name].private_key for name in SELLERS),
            "NEXUS_FACILITATOR_URL": self.urls["facilitator"],
            "NEXUS_FACILITATOR_SHARES_DATABASE": "1",
            "NEXUS_REGISTRY_URL": self.urls["registry"],
            "NEXUS_API_URL": self.urls["api"],
            "NEXUS_AGENTS_DIR": str(self.plan.agents_dir.absolute()),
            "NEXUS_LOCAL_USER": LOCAL_USER,
            "NEXUS_UNSAFE_LOCAL": "1" if self.plan.unsafe_local else "0",
            **treasury_environment(self.solana, self.home),
            **self.plan.environment,
        }

    def _programs(self, ports: dict[str, int]) -> list[tuple[str, list[str]]]:
        served = [
            ("facilitator", ["facilitator", "--port", str(ports["facilitator"])]),
            ("registry", ["registry", "--port", str(ports["registry"])]),
            ("api", ["serve", "--port", str(ports["api"])]),
        ]
        return served + [(f"worker-{number}", ["worker"]) for number in range(1, self.plan.workers + 1)]

    async def _until_healthy(self, client: httpx.AsyncClient, name: str, url: str) -> None:
        child = next(child for child in self.children if child.name == name)

        async def healthy() -> bool:
            child.require_alive()
            try:
                return (await client.get(f"{url}/health", timeout=2)).status_code == 200
            except httpx.TransportError:
                return False

        await wait_until_ready(healthy, what=f"{name} ({child.name}.log)", timeout_seconds=READY_SECONDS)

    async def _until_sold(self, client: httpx.AsyncClient) -> None:
        """Ready means buyable: the sellers' services are in the registry."""

        async def listed() -> bool:
            try:
                answer = await client.get(f"{self.urls['registry']}/services/discover", timeout=2)
            except httpx.TransportError:
                return False
            await self._require_stock(client)
            entries = answer.json() if answer.status_code == 200 else []
            return any(str(entry["url"]).startswith(self.urls["api"]) for entry in entries)

        await wait_until_ready(listed, what="the sellers' listings", timeout_seconds=READY_SECONDS)

    async def _require_stock(self, client: httpx.AsyncClient) -> None:
        """Raises `Unavailable` with the API's reason when it has nothing to sell: nothing is worth waiting for then."""
        try:
            answer = await client.get(f"{self.urls['api']}/health/deep", timeout=5)
        except httpx.TransportError:
            return
        agents = answer.json().get("checks", {}).get("agents", {})
        if agents.get("status") == "unhealthy" and agents.get("details"):
            log = self.home / "logs" / "api.log"
            raise Unavailable(str(agents["details"]), next_step=f"`nexus doctor` checks this machine; see also {log}")


async def bind_anew(start: Callable[[int], Awaitable[None]], port: int) -> None:
    """Start what binds its port itself; where somebody was faster, on another port. Raises what `start` raises."""
    for tries_left in range(PORT_TRIES - 1, -1, -1):
        try:
            return await start(port)
        except Unavailable:
            if not tries_left or not await port_open("127.0.0.1", port):
                raise
            port = free_port()
    return None


@asynccontextmanager
async def run_economy(
    plan: Plan, tell: Callable[[str], None] = lambda _line: None, nursery: Nursery | None = None
) -> AsyncIterator[Economy]:
    """Start on entry, stop on exit; one economy per home folder at a time (`Conflict` otherwise).

    `tell` gets a line when a part is ready or has to be started again. A `nursery` that was started before saves time.
    """
    _keep_private(plan.home)
    with (plan.home / "lock").open("w") as lock:
        _take(lock, plan.home)
        economy = Economy(plan, tell, nursery)
        try:
            await _start(economy)
            yield economy
        finally:
            # A second Ctrl-C must not leave half of it running.
            await asyncio.shield(economy.stop())


def _keep_private(home: Path) -> None:
    """Keys, tokens and logs are for this user alone; run by root, the database's own user must get through to its."""
    for folder, mode in ((home, 0o711 if os.geteuid() == 0 else 0o700), (home / "logs", 0o700)):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(mode)


async def _start(economy: Economy) -> None:
    """Several parts may fail at once: the first expected failure is what the person needs to read."""
    try:
        await economy.start()
    except BaseExceptionGroup as group:
        first: BaseException = group.subgroup(NexusError) or group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from group


def write_description(economy: Economy, path: Path) -> None:
    """Atomically, readable by its owner only: it holds development keys and a token."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(economy.describe(), file, indent=2)
    fresh.replace(path)


def _take(lock: IO[str], home: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict(
            f"an economy is already running in {home}", next_step="use it, or stop it with Ctrl-C in its terminal"
        ) from error
