"""Calls of an account to itself: who may help when its owner is lost, and which keys act within limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts.account import Account, Guardian, Recovery
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.contracts.sessions import Grant
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, address, selector, word
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.wallets.model import Wallet

DAY_SECONDS = 86_400
DELAY_SECONDS_MIN, DELAY_SECONDS_MAX = DAY_SECONDS, 60 * DAY_SECONDS
_APPROVE = selector("approve(address,uint256)")
_UNTIL_MAX = (1 << 47) - 1  # the bit above would mean block numbers


@dataclass(frozen=True, slots=True)
class AccountState:
    """What the chain knows of an account beside its money. Nothing of it before its first operation."""

    deployed: bool
    guardian: Guardian | None = None
    recovery: Recovery | None = None


async def account_state(rpc: Rpc, wallet: Wallet) -> AccountState:
    """As it is now."""
    code = await rpc.call("eth_getCode", wallet.address, "latest")
    if code == "0x":
        return AccountState(deployed=False)
    account = Account(rpc, wallet.address)
    return AccountState(True, await account.guardian(), await account.pending_recovery())


def guardian_call(rpc: Rpc, wallet: Wallet, guardian: str, delay_seconds: int) -> tuple[Call, str]:
    """Name a guardian, or with the zero address none; what it does in words beside it."""
    who = address(guardian, field="guardian")
    account = Account(rpc, wallet.address)
    if who == ZERO_ADDRESS:
        return account.set_guardian(who, 0), "Dismiss the guardian"
    if who == wallet.address:
        raise InvalidInput("a wallet cannot guard itself", field="guardian", next_step="name somebody you trust")
    if not DELAY_SECONDS_MIN <= delay_seconds <= DELAY_SECONDS_MAX:
        raise InvalidInput(
            "the delay is 1 to 60 days",
            field="delay_seconds",
            next_step="take one in which you would notice a recovery that you did not want",
        )
    return account.set_guardian(who, delay_seconds), f"Let {who} propose a new owner, {_days(delay_seconds)} ahead"


def _days(seconds: int) -> str:
    """In words; the hours of a delay that is no whole number of days are told as part of one."""
    days = f"{seconds / DAY_SECONDS:.4g}"
    return f"{days} day" if days == "1" else f"{days} days"


def grant_call(rpc: Rpc, wallet: Wallet, grant: Grant, now: datetime) -> tuple[Call, str]:
    """Let a key act within limits. Raises `InvalidInput` for one that could never act."""
    if grant.key == ZERO_ADDRESS:
        raise InvalidInput("nobody has the key of the zero address", field="key", next_step="name a key's address")
    if not max(int(now.timestamp()), grant.valid_after) < grant.valid_until <= _UNTIL_MAX:
        raise InvalidInput("the session would be over already", field="valid_until", next_step="name a later time")
    return Account(rpc, wallet.address).grant_session(grant), f"Let the key {grant.key} act within limits"


def revoke_call(rpc: Rpc, wallet: Wallet, key: str) -> tuple[Call, str]:
    who = address(key, field="key")
    return Account(rpc, wallet.address).revoke_session(who), f"End what the key {who} may do"


def cancel_recovery_call(rpc: Rpc, wallet: Wallet) -> tuple[Call, str]:
    return Account(rpc, wallet.address).cancel_recovery(), "Refuse the recovery that waits"


def gas_allowance_call(token: str, paymaster: str, atomic: int) -> Call:
    """Let the paymaster take up to so many tokens for gas that it sells."""
    return Call(token, _APPROVE + word(paymaster) + word(atomic))
