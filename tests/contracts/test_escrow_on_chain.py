"""Deals on a real chain by the committed bytecode: the money's ways and what each transaction costs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import pytest

from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, from_hex
from agentnexus.rails.evm.errors import Reverted
from agentnexus.rails.evm.rpc import RpcValue
from tests.contracts.conftest import Contract, Value, deploy, role

PERMIT2 = "0x000000000022d473030f116ddee9f6b43ac78ba3"
PRICE = 1_000_000
FEE = 25_000
DAY_SECONDS = 24 * 60 * 60
OPEN, RELEASED, REFUNDED, EXPIRED = 1, 2, 3, 4


@dataclass(frozen=True)
class Terms:
    buyer: str
    seller: str
    salt: int
    amount: int = PRICE
    lifetime: int = 0
    fee_bps: int = 250

    def value(self) -> Value:
        return (self.buyer, self.seller, self.amount, self.lifetime, self.fee_bps, self.salt)


@dataclass(frozen=True)
class Market:
    chain: DevelopmentChain
    escrow: Contract

    def terms(self, salt: int) -> Terms:
        return Terms(self.account("buyer"), self.account("seller-1"), salt)

    def account(self, name: str) -> str:
        return self.chain.accounts[name].address

    async def open(self, terms: Terms) -> bytes:
        await self.escrow.send(terms.buyer, "deposit", terms.value())
        return await self.id(terms)

    async def id(self, terms: Terms) -> bytes:
        answer = await self.escrow.read("dealId", terms.value())
        assert isinstance(answer, bytes)
        return answer

    async def status(self, deal: bytes) -> Value:
        state = await self.escrow.read("deal", deal)
        assert isinstance(state, tuple)
        return state[0]


@pytest.fixture
async def market(chain: DevelopmentChain) -> Market:
    admin = chain.accounts["deployer"].address
    escrow = await deploy(chain, "Escrow", chain.usdc.reference, PERMIT2, chain.accounts["alice"].address, admin, 0)
    await escrow.send(admin, "grantRole", role("ORCHESTRATOR_ROLE"), chain.accounts["relayer"].address)
    usdc = Contract(
        chain,
        chain.usdc.reference,
        [
            {
                "type": "function",
                "name": "approve",
                "inputs": [{"type": "address"}, {"type": "uint256"}],
                "outputs": [{"type": "bool"}],
            }
        ],
    )
    await usdc.send(chain.accounts["buyer"].address, "approve", escrow.address, (1 << 256) - 1)
    return Market(chain, escrow)


async def test_a_delivered_deal_pays_the_seller_and_the_fee(market: Market) -> None:
    first, second = market.terms(1), market.terms(2 << 100)
    await market.open(first)
    await market.escrow.send(market.account("relayer"), "release", first.value())
    seller = await market.chain.usdc_of(first.seller)
    deposit_gas = await market.escrow.send(second.buyer, "deposit", second.value())
    release_gas = await market.escrow.send(market.account("relayer"), "release", second.value())
    assert await market.chain.usdc_of(second.seller) == seller + PRICE - FEE
    assert await market.escrow.read("fees") == 2 * FEE
    assert await market.status(await market.id(second)) == RELEASED
    assert deposit_gas <= 70_000
    assert release_gas <= 55_000


async def test_a_failed_deal_goes_back_whole(market: Market) -> None:
    await market.open(market.terms(1))
    terms = market.terms(2)
    before = await market.chain.usdc_of(terms.buyer)
    deal = await market.open(terms)
    assert await market.status(deal) == OPEN
    gas = await market.escrow.send(market.account("relayer"), "refund", terms.value())
    assert await market.status(deal) == REFUNDED
    assert await market.chain.usdc_of(terms.buyer) == before
    assert gas <= 48_000


async def test_a_forgotten_deal_is_ended_by_anyone_after_a_day(market: Market) -> None:
    await market.open(market.terms(1))
    terms = market.terms(2)
    deal = await market.open(terms)
    with pytest.raises(Reverted):
        await market.escrow.chain.rpc.read_contract(market.escrow.address, market.escrow.data("expire", terms.value()))
    await market.chain.set_next_block_time(int(time.time()) + 2 * DAY_SECONDS)
    gas = await market.escrow.send(market.account("outsider"), "expire", terms.value())
    assert await market.status(deal) == EXPIRED
    assert gas <= 48_000


async def test_the_event_of_a_deposit_carries_all_terms(market: Market) -> None:
    terms = replace(market.terms(7), lifetime=60)
    await market.open(terms)
    (log,) = await _logs(market)
    topics = log["topics"]
    assert isinstance(topics, list)
    data = from_hex(log["data"])
    assert [int(str(topic), 16) for topic in topics[2:]] == [int(terms.buyer, 16), int(terms.seller, 16)]
    numbers = [int.from_bytes(data[at : at + 32], "big") for at in range(0, len(data), 32)]
    assert numbers == [terms.amount, terms.lifetime, terms.fee_bps, terms.salt]


async def test_coin_has_an_escrow_of_its_own(market: Market) -> None:
    admin = market.account("deployer")
    escrow = await deploy(market.chain, "Escrow", ZERO_ADDRESS, PERMIT2, market.account("alice"), admin, 0)
    terms = market.terms(1)
    await escrow.send(terms.buyer, "depositNative", terms.value(), value=PRICE)
    before = await market.chain.rpc.read_int("eth_getBalance", terms.seller, "latest")
    await escrow.send(terms.buyer, "release", terms.value())
    assert await market.chain.rpc.read_int("eth_getBalance", terms.seller, "latest") == before + PRICE - FEE


async def _logs(market: Market) -> list[dict[str, RpcValue]]:
    answer = await market.chain.rpc.call(
        "eth_getLogs", {"address": market.escrow.address, "fromBlock": "latest", "toBlock": "latest"}
    )
    assert isinstance(answer, list)
    return [each for each in answer if isinstance(each, dict)]
