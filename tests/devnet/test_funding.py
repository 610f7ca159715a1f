"""Play money in the local economy."""

from __future__ import annotations

import pytest

from agentnexus.core.errors import InvalidInput
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.devnet.funding import fund

WALLET = "0x00000000000000000000000000000000000000f1"


async def test_a_wallet_gets_play_money_on_top_of_what_it_has(chain: DevelopmentChain) -> None:
    facts = {"evm": chain.describe()}
    assert (await fund(facts, WALLET, "2.5")).decimal == 2.5
    assert (await fund(facts, WALLET, "1")).decimal == 3.5


@pytest.mark.parametrize("amount", ["0", "-1", "money", "0.0000001"])
async def test_no_amount_is_refused_and_nothing_is_made(chain: DevelopmentChain, amount: str) -> None:
    with pytest.raises(InvalidInput):
        await fund({"evm": chain.describe()}, WALLET, amount)
    assert await chain.usdc_of(WALLET) == 0


async def test_outside_the_local_economy_it_says_how_money_comes() -> None:
    with pytest.raises(InvalidInput) as caught:
        await fund({"api": "https://node.example"}, WALLET, "1")
    assert WALLET in caught.value.next_step
