"""Alto, Pimlico's bundler, beside ours: a process of its own on a development chain. GPL, so a peer and nothing more.

Not among the packages of `npm ci` (364 MB): `bench/peers/alto_package/install` puts it under ``.nexus/tools/alto``.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.process import die_with_parent, free_port, wait_until_ready
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.encoding import checksum_address
from agentnexus.rails.evm.errors import ChainUnavailable, NodeError
from agentnexus.rails.evm.rpc import Rpc

PROGRAM = Path(__file__).resolve().parents[2] / ".nexus/tools/alto/node_modules/@pimlico/alto/esm/cli/alto.js"
# Its executor and utility keys; no role of ours has them.
_EXECUTOR, _UTILITY = "seller-5", "seller-6"


def installed() -> bool:
    return PROGRAM.is_file()


@asynccontextmanager
async def alto(chain: DevelopmentChain) -> AsyncIterator[Rpc]:
    """A running Alto. Its own contracts go on the chain when it starts."""
    port = free_port()
    accounts = chain.accounts
    process = await asyncio.create_subprocess_exec(
        "node",
        PROGRAM,
        *("--entrypoints", checksum_address(ENTRY_POINT), "--rpc-url", chain.rpc_url, "--port", str(port)),
        *("--executor-private-keys", accounts[_EXECUTOR].private_key),
        *("--utility-private-key", accounts[_UTILITY].private_key),
        *("--safe-mode", "false", "--min-bundle-interval", "10", "--max-bundle-interval", "50", "--block-time", "50"),
        *("--min-executor-balance", "0", "--executor-refill-interval", "100000", "--log-level", "warn"),
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=DEVNULL,
        start_new_session=True,
        preexec_fn=partial(die_with_parent, signal.SIGKILL, parent=os.getpid()),
    )
    async with Rpc(f"http://127.0.0.1:{port}", connect_retries=0) as rpc:

        async def answers() -> bool:
            try:
                return await rpc.chain_id() == chain.chain_id
            except (ChainUnavailable, NodeError):
                return False

        try:
            await wait_until_ready(answers, what="Alto", timeout_seconds=60)
            yield rpc
        finally:
            process.kill()
            await process.wait()
