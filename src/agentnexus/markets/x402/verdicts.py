"""What a facilitator answers when a payment is no good, in the protocol's shapes."""

from __future__ import annotations

from x402.schemas import SettleResponse, VerifyResponse

from agentnexus.core.errors import InvalidInput
from agentnexus.markets.x402.codes import Reason
from agentnexus.markets.x402.wire import WireError


def reason_of(error: InvalidInput) -> Reason:
    """The protocol's word for a message that cannot be read."""
    return error.reason if isinstance(error, WireError) else Reason.INVALID_NETWORK


def invalid(reason: Reason, message: str, payer: str | None) -> VerifyResponse:
    """It would not settle."""
    return VerifyResponse(is_valid=False, invalid_reason=str(reason), invalid_message=message, payer=payer)


def failed(
    reason: Reason, message: str, network: str, payer: str | None, transaction: str | None = None
) -> SettleResponse:
    """It did not settle, or not that anybody knew."""
    return SettleResponse(
        success=False,
        error_reason=str(reason),
        error_message=message,
        payer=payer,
        transaction=transaction or "",
        network=network,
    )
