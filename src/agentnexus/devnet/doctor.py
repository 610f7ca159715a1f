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


def _tool(name: str, use: str) -> Finding:
    path = shutil.which(name)
    return Finding(name, path is not None, "installed" if path else f"only for {use}", f"apt-get install {name}", True)


def _extra(module: str, extra: str, use: str) -> Finding:
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    return Finding(f"extra {extra}", found, "installed" if found else use, f"install agentnexus[{extra}]", True)
