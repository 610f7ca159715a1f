"""What an account holds, read from one block, in tokens and in dollars."""

from __future__ import annotations

from decimal import Decimal

from agentnexus.core.money import Money
from agentnexus.rails.evm.encoding import uint
from agentnexus.rails.evm.rpc import Call, call_data, call_int, eth_call
from agentnexus.rails.evm.token import balance_call
from agentnexus.wallets.building import WalletChain
from agentnexus.wallets.model import Balances, Wallet

_CENT = Decimal("0.01")


async def read_balances(chain: WalletChain, wallet: Wallet, coin_usd: Decimal | None) -> Balances:
    """Coin and USDC in the same block; `coin_usd` is the worth of a whole coin."""
    number = await chain.rpc.read_int("eth_blockNumber")
    block = hex(number)
    coin, usdc = await chain.rpc.batch(
        [
            Call("eth_getBalance", (wallet.address, block)),
            eth_call(chain.usdc.reference, balance_call(wallet.address), block=block),
        ]
    )
    native = Money(chain.network.native, call_int(coin))
    dollars = Money(chain.usdc, uint(call_data(usdc)))
    return Balances(
        coin=native,
        usdc=dollars,
        coin_usd=None if coin_usd is None else (native.decimal * coin_usd).quantize(_CENT),
        usdc_usd=dollars.decimal.quantize(_CENT),
        block_number=number,
    )
