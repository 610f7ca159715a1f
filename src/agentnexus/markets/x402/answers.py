"""Answers a paid route gives beside its handler's own: errors, unfinished, too large; with the settlement header."""

from __future__ import annotations

from collections.abc import Mapping

from agentnexus.core.errors import LimitExceeded, NexusError, PaymentUnknown
from agentnexus.markets.x402.exchange import HeaderList, json_response
from agentnexus.markets.x402.reservations import StoredResponse
from agentnexus.markets.x402.wire import PAYMENT_RESPONSE, X_PAYMENT_RESPONSE, encode_header


def settlement_headers(version: int, settlement: Mapping[str, object]) -> HeaderList:
    """The settlement under the header name of the client's version."""
    name = PAYMENT_RESPONSE if version == 2 else X_PAYMENT_RESPONSE
    return [(name.lower().encode(), encode_header(settlement).encode())]


def error_response(error: NexusError, extra: HeaderList | None = None, *, status: int | None = None) -> StoredResponse:
    """The house's error shape."""
    return json_response(status or error.http_status, {"success": False, "error": error.to_json()}, extra)


def with_headers(response: StoredResponse, extra: HeaderList) -> StoredResponse:
    """The response with headers added."""
    more = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in extra)
    return StoredResponse(response.status, response.headers + more, response.body)


def unfinished(message: str, extra: HeaderList | None = None, *, transaction: str | None = None) -> StoredResponse:
    """202: not done and not refused. A 402 or 503 here would make common clients pay a second time."""
    error = PaymentUnknown(
        message,
        next_step="repeat this request with exactly the same payment header; do not sign a new payment",
        transaction=transaction,
    )
    return error_response(error, [(b"retry-after", b"1"), *(extra or [])], status=202)


def too_large(pattern: str, error: LimitExceeded | None) -> StoredResponse:
    """The answer does not fit; nothing is settled."""
    return error_response(
        error or LimitExceeded(f"the answer of {pattern} is too large", limit="response_bytes"), status=500
    )
