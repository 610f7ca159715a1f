"""The worker role with `NEXUS_ENGINE=restate`: it answers Restate, and SIGTERM still is its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import httpx

from agentnexus.platform.process import free_port
from agentnexus.workflows.engine.restate.server import RestateServer

from .conftest import until
from .test_chaos import ROOT


async def test_a_worker_on_restate_starts_and_stops_when_it_is_asked_to(
    restate: RestateServer, database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": database_url, "NEXUS_HOME": str(tmp_path), "NEXUS_ENGINE": "restate",
        "NEXUS_EVM_RPC_URL": "http://127.0.0.1:9", "NEXUS_USDC_ADDRESS": "0x" + "12" * 20,
        "NEXUS_BUYER_KEY": "0x" + "11" * 32, "NEXUS_RELAYER_KEY": "0x" + "22" * 32,
        "NEXUS_RESTATE_URL": restate.ingress_url, "NEXUS_RESTATE_ADMIN_URL": restate.admin_url,
        "NEXUS_RESTATE_LISTEN_PORT": str(port), "NEXUS_RESTATE_NAMESPACE": "role",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentnexus.cli", "worker", cwd=ROOT, env=environment,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def registered() -> bool:
        """Restate has asked it by then: from its first request on, the SDK would take SIGTERM for itself."""
        assert process.returncode is None
        async with httpx.AsyncClient() as client:
            return f":{port}/" in (await client.get(f"{restate.admin_url}/deployments")).text

    try:
        await until(registered, "Restate knows the worker")
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            _, said = await process.communicate()
    assert process.returncode == 0, said.decode()[-2000:]
