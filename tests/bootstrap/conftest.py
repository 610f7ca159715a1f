"""A node's ground and chain as `nexus up` gives them to a role: real database, real chain, development keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentnexus.bootstrap.ground import Chain, Ground, open_chain, open_ground
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.devnet.economy import SELLERS
from agentnexus.platform.settings import Settings


@pytest.fixture
def facts(chain: DevelopmentChain, database_url: str, tmp_path: Path) -> dict[str, str]:
    """Settings by name, as they come from the environment."""
    return {
        "home": str(tmp_path),
        "database_url": database_url,
        "evm_rpc_url": chain.rpc_url,
        "usdc_address": chain.usdc.reference,
        "buyer_key": chain.accounts["buyer"].private_key,
        "relayer_key": chain.accounts["relayer"].private_key,
        "seller_keys": ",".join(chain.accounts[name].private_key for name in SELLERS),
        "facilitator_url": "http://127.0.0.1:1",
        "registry_url": "http://127.0.0.1:1",
        "api_url": "http://127.0.0.1:2",
    }


@pytest.fixture
def variables(facts: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in the environment, for what reads its settings itself."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    for name, value in facts.items():
        monkeypatch.setenv(f"NEXUS_{name.upper()}", value)


@pytest.fixture
async def ground(facts: dict[str, str]) -> AsyncIterator[Ground]:
    async with open_ground(Settings.model_validate(facts)) as opened:
        yield opened


@pytest.fixture
async def connected(ground: Ground) -> AsyncIterator[Chain]:
    async with open_chain(ground) as opened:
        yield opened
