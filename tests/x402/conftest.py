"""Fixtures of the x402 tests: both stores, a real facilitator on the development chain, a paying client."""

from __future__ import annotations

import httpx
import pytest
from tests.x402.support import RailPurse, requirement

from agentnexus.core.clock import SystemClock
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.markets.x402.buy import BuyLimits, X402Client
from agentnexus.markets.x402.facilitator import Facilitator
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.markets.x402.reservations import MemoryReservations, Reservations
from agentnexus.markets.x402.reservations_postgres import PostgresReservations
from agentnexus.platform.database import Database
from agentnexus.rails.evm.settlement import AuthorizationSettler
from agentnexus.rails.evm.transactions import TransactionSender
from agentnexus.rails.evm.wallet import EvmRail


@pytest.fixture(params=["memory", "postgres"])
def reservations(request: pytest.FixtureRequest) -> Reservations:
    if request.param == "memory":
        return MemoryReservations()
    return PostgresReservations(request.getfixturevalue("database"))


@pytest.fixture
async def sender(chain: DevelopmentChain, database: Database) -> TransactionSender:
    return await TransactionSender.open(database, chain.rpc, chain.chain_id)


@pytest.fixture
def settler(chain: DevelopmentChain, sender: TransactionSender) -> AuthorizationSettler:
    return AuthorizationSettler(sender, chain.accounts["relayer"].signer)


@pytest.fixture
def facilitator(sender: TransactionSender, chain: DevelopmentChain) -> Facilitator:
    return Facilitator.on(sender, chain.accounts["relayer"].signer, [chain.usdc])


@pytest.fixture
def purse(chain: DevelopmentChain, sender: TransactionSender) -> RailPurse:
    rail = EvmRail(sender, chain.accounts["buyer"].signer, relayer=chain.accounts["relayer"].signer)
    return RailPurse(rail)


@pytest.fixture
def usdc_price(chain: DevelopmentChain):
    """What the shops of these tests ask for on the development chain."""
    return requirement(asset=chain.usdc.reference, pay_to=chain.accounts["seller-1"].address)


@pytest.fixture
def policy(chain: DevelopmentChain) -> PaymentPolicy:
    return PaymentPolicy(assets={chain.usdc.caip19: chain.usdc})


@pytest.fixture
def limits() -> BuyLimits:
    return BuyLimits(pause=0.01, tries=3)


def client_of(http: httpx.AsyncClient, policy: PaymentPolicy, limits: BuyLimits | None = None) -> X402Client:
    return X402Client(http, policy, SystemClock(), limits or BuyLimits(pause=0.01, tries=3))
