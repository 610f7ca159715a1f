"""Why an operation's gas is not paid, in our error family and as the JSON-RPC codes of ERC-4337 services (ERC-7769)."""

from __future__ import annotations

from agentnexus.core.errors import (
    BudgetExceeded,
    Conflict,
    InsufficientFunds,
    InvalidInput,
    NexusError,
    NotAllowed,
    NotFound,
    RateLimited,
)
from agentnexus.rails.evm.errors import Reverted

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
OPERATION_REJECTED = -32500  # the operation itself would fail
PAYMASTER_REJECTED = -32501
THROTTLED = -32504
DEPOSIT_TOO_LOW = -32508


class NotSponsored(NotAllowed):
    """No policy pays for this operation."""


def rpc_code(error: NexusError) -> int:
    """The code by which wallets and bundlers know what to do."""
    match error:
        case InvalidInput() | NotFound():
            return INVALID_PARAMS
        case Reverted():
            return OPERATION_REJECTED
        case BudgetExceeded() | RateLimited():
            return THROTTLED
        case InsufficientFunds():
            return DEPOSIT_TOO_LOW
        case NotAllowed() | Conflict():
            return PAYMASTER_REJECTED
        case _:
            return INTERNAL_ERROR
