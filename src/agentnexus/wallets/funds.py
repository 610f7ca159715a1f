"""Whether an account has what its calls take, and obeys whom we think: asked before anything is built."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from agentnexus.core.errors import InsufficientFunds, NexusError, NotAllowed
from agentnexus.core.money import Asset, Money
from agentnexus.rails.evm.contracts.abi import abi_of
from agentnexus.rails.evm.contracts.account import Owner
from agentnexus.rails.evm.contracts.contract import Call, as_bytes, as_text, as_tuple
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.encoding import WORD, from_hex, selector, uint, word
from agentnexus.rails.evm.paymaster.policy import TokenPrice
from agentnexus.rails.evm.paymaster.refusals import NotSponsored
from agentnexus.rails.evm.rpc import Call as RpcCall
from agentnexus.rails.evm.rpc import RpcValue, call_data, call_int, eth_call
from agentnexus.rails.evm.token import balance_call
from agentnexus.rails.evm.userops.model import UserOperation
from agentnexus.wallets.building import WalletChain
from agentnexus.wallets.model import Wallet

_TRANSFER, _ALLOWANCE = selector("transfer(address,uint256)"), selector("allowance(address,address)")
_OPERATIONS_ALLOWED = 10  # what is offered to allow is for so many, in whole dollars


async def require_funds(chain: WalletChain, wallet: Wallet, calls: Sequence[Call]) -> None:
    """Raises `InsufficientFunds` with the amounts, or `NotAllowed` when the account has other owners by now."""
    tokens = _token_needs(calls)
    answers = await chain.rpc.batch(
        [
            RpcCall("eth_getBalance", (wallet.address, "latest")),
            eth_call(wallet.address, abi_of("Account").encode("owner", ())),
            *(eth_call(token, balance_call(wallet.address)) for token in tokens),
        ]
    )
    owner = _owner(answers[1])
    if owner not in (None, wallet.owner):
        raise NotAllowed(
            f"the account {wallet.address} has new owners: it was recovered, or handed over",
            next_step="name the new owner by POST /wallet: the wallet keeps its address",
        )
    coin = chain.network.native
    _require(Money(coin, sum(each.value for each in calls)), Money(coin, call_int(answers[0])), wallet)
    for (token, needed), answer in zip(tokens.items(), answers[2:], strict=True):
        data = call_data(answer)
        if len(data) == WORD:  # else it is no token, and the call will say so itself
            asset = _asset(chain, token)
            _require(Money(asset, needed), Money(asset, uint(data)), wallet)


async def require_gas(chain: WalletChain, wallet: Wallet, operation: UserOperation, calls: Sequence[Call]) -> None:
    """For an account that pays its own gas: beside what its calls send, it has the most that this may cost."""
    deposit = abi_of("EntryPoint").encode("balanceOf", (wallet.address,))
    coin, held = await chain.rpc.batch(
        [RpcCall("eth_getBalance", (wallet.address, "latest")), eth_call(ENTRY_POINT, deposit)]
    )
    asset = chain.network.native
    needed = sum(each.value for each in calls) + max(operation.max_cost_wei - uint(call_data(held)), 0)
    _require(Money(asset, needed), Money(asset, call_int(coin)), wallet, "with its gas, ")


async def gas_in_usdc_refused(chain: WalletChain, wallet: Wallet, refused: NotSponsored, paymaster: str) -> NexusError:
    """Why the paymaster would not get its USDC: there is too little, or it may not take so much."""
    most = refused.details.get("amount")
    if not isinstance(most, str):
        return refused
    usdc, needed = chain.usdc, Money(chain.usdc, int(most))
    answers = await chain.rpc.batch(
        [
            eth_call(usdc.reference, balance_call(wallet.address)),
            eth_call(usdc.reference, _ALLOWANCE + word(wallet.address) + word(paymaster)),
        ]
    )
    held, allowed = [Money(usdc, uint(call_data(each))) for each in answers]
    if held < needed:
        return _lacking(needed, held, wallet, "for its gas, ")
    if allowed >= needed:
        return refused
    amount = str(max(1, -(-needed.atomic * _OPERATIONS_ALLOWED // 10**usdc.decimals)))
    return NotSponsored(
        f"this takes up to {needed} for gas, and the wallet lets {allowed} be taken",
        next_step=f"let more be taken first, which is free: on /wallet, by `nexus wallet gas --allow {amount}` or POST"
        " /api/v1/wallet/gas; not in the same operation, as gas is taken before its calls run",
        allow={"amount": amount, "asset": usdc.caip19, "spender": paymaster},
        needed=needed.to_json(),
        allowed=allowed.to_json(),
    )


async def require_gas_in_usdc(
    chain: WalletChain, wallet: Wallet, price: TokenPrice, operation: UserOperation, calls: Sequence[Call]
) -> None:
    """Gas is taken before the calls run: what they send is there as well, or they would fail and cost gas."""
    sent = _token_needs(calls).get(chain.usdc.reference, 0)
    (held,) = await chain.rpc.batch([eth_call(chain.usdc.reference, balance_call(wallet.address))])
    needed = Money(chain.usdc, sent + price.most(operation))
    _require(needed, Money(chain.usdc, uint(call_data(held))), wallet, "with its gas, ")


def _owner(answer: RpcValue | Exception) -> Owner | None:
    """None for an account that does not exist yet, or does not run our code yet."""
    data = b"" if isinstance(answer, Exception) else from_hex(answer, field="owner")
    if len(data) != 3 * WORD:
        return None
    (told,) = abi_of("Account").decode("owner", data)
    key, x, y = as_tuple(told)
    return Owner(as_text(key), as_bytes(x), as_bytes(y))


def _token_needs(calls: Sequence[Call]) -> dict[str, int]:
    """What plain transfers take, by token."""
    needs: defaultdict[str, int] = defaultdict(int)
    for each in calls:
        if each.data[:4] == _TRANSFER and len(each.data) == 4 + 2 * WORD:
            needs[each.target] += uint(each.data[4 + WORD :])
    return needs


def _asset(chain: WalletChain, token: str) -> Asset:
    """USDC as it is; other tokens are counted in their smallest unit."""
    if token == chain.usdc.reference:
        return chain.usdc
    return chain.network.token(token, symbol=token, decimals=0)


def _require(needed: Money, held: Money, wallet: Wallet, why: str = "") -> None:
    if held < needed:
        raise _lacking(needed, held, wallet, why)


def _lacking(needed: Money, held: Money, wallet: Wallet, why: str) -> InsufficientFunds:
    return InsufficientFunds(
        f"{why}this takes {needed}, and the wallet has {held}",
        next_step=f"send {needed.asset.symbol} to {wallet.address}, or send less",
        needed=needed.to_json(),
        available=held.to_json(),
        address=wallet.address,
    )
