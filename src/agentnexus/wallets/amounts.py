"""From what people type to calls: plain transfers of the coin, of USDC and of other tokens."""

from __future__ import annotations

from collections.abc import Sequence

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset, Money
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.encoding import MAX_WORD, WORD, ZERO_ADDRESS, address, selector, string, uint
from agentnexus.rails.evm.errors import Reverted
from agentnexus.rails.evm.rpc import RpcValue, call_data, eth_call
from agentnexus.rails.evm.token import transfer_call
from agentnexus.wallets.building import WalletChain
from agentnexus.wallets.model import Transfer

_DECIMALS, _SYMBOL = selector("decimals()"), selector("symbol()")
_DECIMALS_MAX, _SYMBOL_CHARACTERS = 36, 20


class Transfers:
    """Reads transfers, for one chain; remembers what tokens are called."""

    def __init__(self, chain: WalletChain) -> None:
        self._chain = chain
        self._known: dict[str, Asset] = {chain.usdc.reference: chain.usdc}

    async def calls(self, items: Sequence[Transfer | Call]) -> tuple[list[Call], str]:
        """The calls, and what they do in words. Raises `InvalidInput` for amounts or addresses that cannot be meant."""
        calls, words = [], []
        for each in items:
            if isinstance(each, Call):
                calls.append(each)
                words.append(f"call {each.target}")
            else:
                to, money = address(each.to, field="to"), await self.money(each.amount, each.asset)
                calls.append(self._call(to, money))
                words.append(f"send {money} to {to}")
        title = words[0] if len(words) == 1 else f"{words[0]}, and {len(words) - 1} more" if words else ""
        return calls, title[:1].upper() + title[1:]

    async def money(self, amount: str, asset_name: str) -> Money:
        """An amount that can be sent: more than nothing."""
        if "e" in amount.lower():  # 1e3 is a slip more often than a thousand
            raise InvalidInput(
                f"{amount[:100]!r} is not how amounts are written here", field="amount", next_step="write it as 1000"
            )
        money = (await self.asset(asset_name)).parse(amount)
        if not 0 < money.atomic <= MAX_WORD:
            raise InvalidInput(f"{amount[:100]} cannot be sent", field="amount", next_step="send more than nothing")
        return money

    async def asset(self, name: str) -> Asset:
        """By symbol (USDC, the coin) or by a token's address."""
        usdc, coin = self._chain.usdc, self._chain.network.native
        for known in (usdc, coin):
            if name.upper() == known.symbol:
                return known
        if not name.startswith("0x"):
            raise InvalidInput(
                f"{name[:50]!r} is no asset here",
                field="asset",
                next_step=f"use {usdc.symbol}, {coin.symbol} or a token's address",
            )
        token = address(name, field="asset")
        if token not in self._known:
            self._known[token] = await self._read(token)
        return self._known[token]

    async def _read(self, token: str) -> Asset:
        decimals, symbol = await self._chain.rpc.batch([eth_call(token, _DECIMALS), eth_call(token, _SYMBOL)])
        data = _data(decimals)
        if len(data) != WORD or uint(data) > _DECIMALS_MAX:
            raise InvalidInput(
                f"{token} is no token here", field="asset", next_step="check the address and the network"
            )
        return self._chain.network.token(token, symbol=_shown(_data(symbol)) or token, decimals=uint(data))

    def _call(self, to: str, money: Money) -> Call:
        if to == ZERO_ADDRESS:
            raise InvalidInput(
                "nothing is sent to the zero address: it would be lost",
                field="to",
                next_step="check the address of who is to have it",
            )
        if money.asset == self._chain.network.native:
            return Call(to, b"", money.atomic)
        return Call(money.asset.reference, transfer_call(to, money.atomic))


def plain(money: Money) -> str:
    """Decimal text without needless zeros."""
    text = f"{money.decimal:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _data(answer: RpcValue | Exception) -> bytes:
    """What a token said; nothing where it refused."""
    return b"" if isinstance(answer, Reverted) else call_data(answer)  # type: ignore[arg-type]  # other errors raise


def _shown(data: bytes) -> str:
    """A token's symbol, as far as it is one: anybody may call a token anything."""
    if len(data) < 2 * WORD or uint(data) != WORD:
        return ""
    return "".join(each for each in string(data) if each.isascii() and each.isalnum())[:_SYMBOL_CHARACTERS]
