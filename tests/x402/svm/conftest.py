"""Fixtures of the tests of x402 on Solana: one development chain for the session, fresh keys for every test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.x402.svm.support import Stage

from agentnexus.core.money import Asset
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.platform.database import Database


@pytest.fixture(scope="session")
def solana_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of the session's chain, whose clock only tests and transactions move."""
    log = tmp_path_factory.mktemp("solana") / "chain.log"
    with asyncio.Runner() as runner:
        chain = SolanaDevelopmentChain(log=log, slot_milliseconds=0, finality_slots=2)
        runner.run(chain.start())
        yield chain.port
        runner.run(chain.stop())
        runner.run(chain.rpc.close())


@pytest.fixture
async def solana(solana_port: int) -> AsyncIterator[SolanaDevelopmentChain]:
    """The session's chain without the faults that an earlier test left over."""
    chain = SolanaDevelopmentChain(port=solana_port)
    yield chain
    await chain.release()
    await chain.rpc.close()


@pytest.fixture
async def stage(solana: SolanaDevelopmentChain, database: Database) -> Stage:
    made = Stage(solana, database)
    await made.fund()
    return made


@pytest.fixture
def solana_policy(solana: SolanaDevelopmentChain) -> PaymentPolicy:
    usdc: Asset = solana.usdc
    return PaymentPolicy(assets={usdc.caip19: usdc})
