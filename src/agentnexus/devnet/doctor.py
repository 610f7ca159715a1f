"""What the economy needs of a machine, checked one by one; each finding says how to get what is missing."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

from agentnexus.core.errors import NexusError
from agentnexus.platform.settings import Settings

EXTRAS = {
    "redis": ("redis", "shared cache over several machines"),
    "opentelemetry.sdk": ("otel", "trace export"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked part. A missing optional part does not fail the examination."""

    name: str
    good: bool
    found: str
    next_step: str = ""
    optional: bool = False

    def to_json(self) -> dict[str, object]:
        return asdict(self)


async def examine() -> list[Finding]:
    """All findings, the required parts first."""
    findings = [_python(), _try("database", _database), _try("development chain", _chain), _agents()]
    findings += _isolation()
    findings += [_solana_parts(), *await _solana_chain()]
    findings += [_tool("chromium", "browser tests"), _tool("redis-server", "tests of the shared cache")]
    return findings + [_extra(module, extra, use) for module, (extra, use) in EXTRAS.items()]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")


def _database() -> str:
    if Settings().database_url:
        return "DATABASE_URL is set"
    from agentnexus.platform.embedded import binaries

    return f"embedded, {binaries().parent.name}"


def _chain() -> str:
    from agentnexus.devnet.chain import find_anvil

    return find_anvil().name


def _try(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, look())
    except NexusError as error:
        return Finding(name, False, error.message, error.next_step)


def _agents() -> Finding:
    folder = Settings().agents_dir
    found = sorted(path.parent.name for path in folder.glob("*/agent.toml"))
    missing = [name for name in ("pypdf", "trafilatura", "polars") if importlib.util.find_spec(name) is None]
    if missing:
        return Finding("agents", False, f"missing {', '.join(missing)}", "install agentnexus[agents]")
    return Finding("agents", bool(found), ", ".join(found) or f"none in {folder}", "run in the project's folder")


def _isolation() -> list[Finding]:
    from agentnexus.runtime.local.probe import checks

    return [Finding(f"sandbox: {check.name}", check.present, check.detail, check.fix) for check in checks()]


def _solana_parts() -> Finding:
    found = importlib.util.find_spec("solders") is not None
    shown = "installed" if found else "missing: the second development chain and prepaid accounts need it"
    return Finding("extra solana", found, shown, "install agentnexus[solana]")


async def _solana_chain() -> list[Finding]:
    """The configured cluster, and the treasury's key where prepaid accounts are kept."""
    settings = Settings()
    if settings.solana_rpc_url is None:
        return [Finding("Solana", True, "not configured; `nexus up` brings a development chain", optional=True)]
    findings = [await _cluster(settings.solana_rpc_url, settings.solana_network)]
    key = settings.treasury_keypair
    if key is None:
        return [*findings, Finding("treasury key", True, "not set: no prepaid accounts", optional=True)]
    private = key.is_file() and not key.stat().st_mode & 0o077
    found = "only its owner can read it" if private else "readable by others" if key.is_file() else f"no file {key}"
    return [*findings, Finding("treasury key", private, found, f"put the keypair there and chmod 600 {key}")]


async def _cluster(url: str, name: str) -> Finding:
    """Whether the node answers and is on the network that it should be on."""
    try:
        from agentnexus.rails.solana.checked import CheckedSolanaRpc
        from agentnexus.rails.solana.networks import network_by_name

        network = network_by_name(name)
        async with CheckedSolanaRpc(url, network) as rpc:
            await rpc.call("getSlot")
    except ImportError:
        return Finding("Solana", False, "cannot be asked: the Solana parts are missing", "install agentnexus[solana]")
    except NexusError as error:
        return Finding("Solana", False, error.message, error.next_step)
    return Finding("Solana", True, f"{network.name} answers")


def _tool(name: str, use: str) -> Finding:
    path = shutil.which(name)
    return Finding(name, path is not None, "installed" if path else f"only for {use}", f"apt-get install {name}", True)


def _extra(module: str, extra: str, use: str) -> Finding:
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    return Finding(f"extra {extra}", found, "installed" if found else use, f"install agentnexus[{extra}]", True)
