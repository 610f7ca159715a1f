"""Play money for a wallet on the development chain: USDC made from nothing, which no other chain would allow."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Money
from agentnexus.devnet.chain import DevelopmentChain


async def fund(facts: Mapping[str, object], address: str, amount: str) -> Money:
    """Give `address` so much play USDC (decimal text), in the economy that `facts` describes; what it holds then.

    Raises `InvalidInput` outside the local economy and for no amount.
    """
    described = facts.get("evm")
    if not isinstance(described, dict):
        raise InvalidInput(
            "play money is for the local economy of `nexus up` alone",
            next_step=f"send USDC to {address} from a wallet or an exchange",
        )
    chain = DevelopmentChain(port=urlsplit(str(described["rpc_url"])).port)
    money = chain.usdc.parse(amount)
    if money.atomic <= 0:
        raise InvalidInput("an amount is more than nothing", field="amount", next_step="give e.g. 5")
    try:
        await chain.mint(address, money.atomic)
        return Money(chain.usdc, await chain.usdc_of(address))
    finally:
        await chain.rpc.close()
