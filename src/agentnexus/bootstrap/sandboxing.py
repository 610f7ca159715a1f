"""Where agents run on this node, and what the operator allows and gives them."""

from __future__ import annotations

import stat
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.platform.logs import log
from agentnexus.platform.settings import Settings
from agentnexus.runtime.egress import EgressRecord
from agentnexus.runtime.limits import MIB, Limits
from agentnexus.runtime.local.sandbox import LocalSandbox
from agentnexus.runtime.port import Runtime
from agentnexus.runtime.unsafe import UnsafeLocal
from agentnexus.sdk.manifest import Manifest

OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO


def allowed_by(settings: Settings) -> Limits:
    """The operator's maximum: whatever a manifest asks for, a run gets no more."""
    return Limits(
        memory_bytes=settings.agent_memory_mib * MIB,
        cpu=settings.agent_cpu,
        timeout_seconds=settings.agent_timeout_seconds,
        tmp_bytes=settings.agent_tmp_mib * MIB,
        processes=settings.agent_processes,
        concurrency=settings.agent_concurrency,
    )


@asynccontextmanager
async def open_runtime(settings: Settings, *, unsafe_local: bool) -> AsyncIterator[Runtime]:
    """The sandbox, or the runtime without isolation where that was asked for. Connections to the world are logged."""
    maximum = allowed_by(settings)
    if unsafe_local:
        async with UnsafeLocal(maximum=maximum) as unsafe:
            yield unsafe
        return
    async with LocalSandbox(maximum=maximum, egress_audit=_note_egress) as sandbox:
        yield sandbox


def _note_egress(execution_id: str, record: EgressRecord) -> None:
    log.info("runtime.egress", execution=execution_id, **asdict(record))


class AgentSecrets:
    """What the operator gives agents by name: a TOML file (0600), a table for each agent's name in its manifest.

    Raises `InvalidInput` when the file cannot be read, is no such file, or others may read it.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._given = {} if path is None else _read(path)

    def of(self, manifest: Manifest) -> Mapping[str, str]:
        """The secrets that `manifest` declares and no others. Raises `Unavailable` naming the first that is missing."""
        given = self._given.get(manifest.name, {})
        for name in manifest.secrets:
            if name not in given:
                where = "NEXUS_AGENT_SECRETS_FILE" if self._path is None else str(self._path)
                raise Unavailable(
                    f"the agent {manifest.name} needs the secret {name}",
                    next_step=f'put it into {where}: ["{manifest.name}"] and {name} = "…" below it',
                )
        return {name: given[name] for name in manifest.secrets}


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        others = path.stat().st_mode & OTHERS_MAY
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} is no TOML file of agents' secrets", field="NEXUS_AGENT_SECRETS_FILE") from error
    if others:
        raise InvalidInput(
            f"others on this machine may read {path}", next_step=f"chmod 600 {path}", field="NEXUS_AGENT_SECRETS_FILE"
        )
    for agent, table in tables.items():
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            raise InvalidInput(
                f"{path}: {agent} must be a table of texts",
                next_step='write ["org.example.agent"] and NAME = "…" below it',
                field="NEXUS_AGENT_SECRETS_FILE",
            )
    return tables
