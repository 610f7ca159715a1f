"""The selling side of a node, opened as its API does."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.selling import Selling, open_selling
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.wakeups import Wakeups
from tests.chain_fixtures import ContractsChain


def contract_facts(contracts: ContractsChain, database_url: str, home: Path) -> dict[str, str]:
    """Settings of a node whose home has the manifest of that chain's contracts."""
    chain = contracts.chain
    contracts.manifest.save(home)
    return {
        "home": str(home),
        "database_url": database_url,
        "evm_rpc_url": chain.rpc_url,
        "usdc_address": chain.usdc.reference,
        "relayer_key": chain.accounts["relayer"].private_key,
    }


def with_settings(ground: Ground, **changes: object) -> Ground:
    """The same node with other settings."""
    return dataclasses.replace(ground, settings=ground.settings.model_copy(update=changes))


@asynccontextmanager
async def selling_from(ground: Ground, chain: Chain, **changes: object) -> AsyncIterator[Selling]:
    """Without isolation, and with these changes of the settings."""
    own = with_settings(ground, unsafe_local=True, **changes)
    async with (
        httpx.AsyncClient() as http,
        Wakeups(ground.database) as wakeups,
        open_selling(own, chain, http, PostgresBlobs(ground.database), wakeups) as selling,
    ):
        yield selling
