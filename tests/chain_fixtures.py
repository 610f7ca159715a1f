"""Fixtures with a real chain: one anvil for the session, put back to its first state after every test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentnexus.core.errors import Unavailable
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.devnet.contracts import deploy_contracts
from agentnexus.rails.evm.deployment import Manifest, entry_point_creation


def pytest_configure() -> None:
    """pytest-asyncio asks for the current loop, and Python 3.11 would make one that nobody closes."""
    asyncio.set_event_loop(None)


@pytest.fixture(scope="session")
def session_chain_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of the session's anvil. Its own loop keeps it apart from the per-test loops."""
    log = tmp_path_factory.mktemp("chain") / "anvil.log"
    with asyncio.Runner() as runner:
        chain = DevelopmentChain(log=log)
        runner.run(chain.start())
        yield chain.port
        runner.run(chain.stop())
        runner.run(chain.rpc.close())


@pytest.fixture
async def chain(session_chain_port: int) -> AsyncIterator[DevelopmentChain]:
    """A development chain with USDC and funded accounts, as new for every test."""
    attached = DevelopmentChain(port=session_chain_port)
    snapshot = await attached.snapshot()
    yield attached
    # What a test left waiting would be mined in the next one.
    await attached.rpc.call("anvil_dropAllTransactions")
    await attached.automine(True)
    await attached.revert(snapshot)
    await attached.rpc.close()


@pytest.fixture
async def own_chain(tmp_path: Path) -> AsyncIterator[DevelopmentChain]:
    """A chain of the test's own, with a state file, to stop, kill and restart."""
    async with DevelopmentChain(state=tmp_path / "chain.json", log=tmp_path / "anvil.log") as chain:
        yield chain


@dataclass(frozen=True)
class ContractsChain:
    """A development chain with all our contracts on it."""

    chain: DevelopmentChain
    manifest: Manifest


@pytest.fixture(scope="session")
def session_contracts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Manifest]]:
    """Port and manifest of an anvil of its own, on which the contracts are deployed once for the session."""
    try:
        entry_point_creation()
    except Unavailable as error:
        pytest.skip(error.message)
    log = tmp_path_factory.mktemp("contracts-chain") / "anvil.log"
    with asyncio.Runner() as runner:
        chain = DevelopmentChain(log=log)
        runner.run(chain.start())
        yield chain.port, runner.run(deploy_contracts(chain))
        runner.run(chain.stop())
        runner.run(chain.rpc.close())


@pytest.fixture
async def contracts_chain(session_contracts: tuple[int, Manifest]) -> AsyncIterator[ContractsChain]:
    """A development chain with our contracts, as new for every test."""
    port, manifest = session_contracts
    attached = DevelopmentChain(port=port)
    snapshot = await attached.snapshot()
    yield ContractsChain(attached, manifest)
    await attached.rpc.call("anvil_dropAllTransactions")
    await attached.automine(True)
    await attached.revert(snapshot)
    await attached.rpc.close()
