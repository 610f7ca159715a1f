"""Every error a caller can meet: one root, a stable code, an HTTP status and what to do next.

NexusError
├── InvalidInput            400  the request itself is wrong (names the field)
│   └── InvalidPlan         422  a workflow plan that cannot run
├── NotAllowed              403  the caller may not do this
│   └── SignInAgain         403  only who has just shown who they are may do this
├── NotFound                404  there is no such thing, or it belongs to somebody else
├── Conflict                409  the state does not allow it, or one key came with two bodies
├── Cancelled               409  somebody stopped it: what was held goes back
├── RateLimited             429  too many calls (says how long to wait)
├── BudgetExceeded          402  a limit would be passed (names limit, rest, when it frees)
├── InsufficientFunds       402  the account or wallet has too little
├── NoOffer                 404  nobody sells what is needed within the constraints
├── SellerFailed            502  a seller did not deliver
│   ├── BadResult           502  it delivered something that its own schema forbids
│   └── PaidUndelivered     502  it was paid, and its result could not be had: nobody pays for that again unasked
├── PaymentFailed           402  a payment was refused or reverted: nothing moved
├── PaymentUnknown          409  sent, outcome not known yet: never pay again before lookup
├── AgentFailed             502  an agent run ended without a result
│   ├── AgentRefused        422  the agent says this input cannot be served (permanent)
│   ├── AgentTimeout        408  the run took longer than it may
│   └── LimitExceeded       413  memory, processes, disk, output: says which
├── IsolationUnavailable    503  this host cannot isolate agents (says how to get it)
└── Unavailable             503  a part this needs is not there (chain, registry, database)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from typing import ClassVar


class ErrorCode(StrEnum):
    """Stable codes: they appear in JSON answers, logs and docs, and never change meaning."""

    INTERNAL = "internal"
    INVALID_INPUT = "invalid_input"
    INVALID_PLAN = "invalid_plan"
    NOT_ALLOWED = "not_allowed"
    SIGN_IN_AGAIN = "sign_in_again"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    CANCELLED = "cancelled"
    RATE_LIMITED = "rate_limited"
    BUDGET_EXCEEDED = "budget_exceeded"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    NO_OFFER = "no_offer"
    SELLER_FAILED = "seller_failed"
    BAD_RESULT = "bad_result"
    PAID_UNDELIVERED = "paid_undelivered"
    PAYMENT_FAILED = "payment_failed"
    PAYMENT_UNKNOWN = "payment_unknown"
    AGENT_FAILED = "agent_failed"
    AGENT_REFUSED = "agent_refused"
    AGENT_TIMEOUT = "agent_timeout"
    LIMIT_EXCEEDED = "limit_exceeded"
    ISOLATION_UNAVAILABLE = "isolation_unavailable"
    UNAVAILABLE = "unavailable"


class NexusError(Exception):
    """Root of all expected errors.

    Args:
        message: one sentence for the person who caused or meets it.
        next_step: what to do about it.
        details: facts for programs (JSON values only), e.g. ``field=…`` or ``limit=…``.
    """

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, next_step: str = "", **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.details = {key: value for key, value in details.items() if value is not None}

    def to_json(self) -> dict[str, object]:
        """``{code, message, next_step?, details?}``."""
        body: dict[str, object] = {"code": str(self.code), "message": self.message}
        if self.next_step:
            body["next_step"] = self.next_step
        if self.details:
            body["details"] = self.details
        return body


class InvalidInput(NexusError):
    code = ErrorCode.INVALID_INPUT
    http_status = 400


class InvalidPlan(InvalidInput):
    code = ErrorCode.INVALID_PLAN
    http_status = 422


class NotAllowed(NexusError):
    code = ErrorCode.NOT_ALLOWED
    http_status = 403


class SignInAgain(NotAllowed):
    code = ErrorCode.SIGN_IN_AGAIN


class NotFound(NexusError):
    code = ErrorCode.NOT_FOUND
    http_status = 404


class Conflict(NexusError):
    code = ErrorCode.CONFLICT
    http_status = 409


class Cancelled(NexusError):
    code = ErrorCode.CANCELLED
    http_status = 409


class RateLimited(NexusError):
    code = ErrorCode.RATE_LIMITED
    http_status = 429
    retryable = True


class BudgetExceeded(NexusError):
    """Details: ``budget``, ``limit`` (its name), ``left`` (decimal text), ``frees_at`` (RFC 3339, if ever)."""

    code = ErrorCode.BUDGET_EXCEEDED
    http_status = 402


class InsufficientFunds(NexusError):
    code = ErrorCode.INSUFFICIENT_FUNDS
    http_status = 402


class NoOffer(NexusError):
    code = ErrorCode.NO_OFFER
    http_status = 404


class SellerFailed(NexusError):
    code = ErrorCode.SELLER_FAILED
    http_status = 502
    retryable = True


class BadResult(SellerFailed):
    code = ErrorCode.BAD_RESULT
    retryable = False


class PaidUndelivered(SellerFailed):
    """Final on purpose: trying again would be a second payment, which is for the buyer to decide."""

    code = ErrorCode.PAID_UNDELIVERED
    retryable = False


class PaymentFailed(NexusError):
    code = ErrorCode.PAYMENT_FAILED
    http_status = 402


class PaymentUnknown(NexusError):
    code = ErrorCode.PAYMENT_UNKNOWN
    http_status = 409


class AgentFailed(NexusError):
    code = ErrorCode.AGENT_FAILED
    http_status = 502
    retryable = True


class AgentRefused(AgentFailed):
    code = ErrorCode.AGENT_REFUSED
    http_status = 422
    retryable = False


class AgentTimeout(AgentFailed):
    code = ErrorCode.AGENT_TIMEOUT
    http_status = 408
    retryable = False


class LimitExceeded(AgentFailed):
    code = ErrorCode.LIMIT_EXCEEDED
    http_status = 413
    retryable = False


class IsolationUnavailable(NexusError):
    code = ErrorCode.ISOLATION_UNAVAILABLE
    http_status = 503


class Unavailable(NexusError):
    code = ErrorCode.UNAVAILABLE
    http_status = 503
    retryable = True


def error_class(code: object) -> type[NexusError] | None:
    """The class in this module that owns a code; its subclasses in other rooms take other arguments."""
    return _classes().get(str(code))


def error_from_json(body: Mapping[str, object], otherwise: type[NexusError] = NexusError) -> NexusError:
    """The error that `NexusError.to_json` described, in the class of its code; `otherwise` for an unknown code."""
    kind = error_class(body.get("code")) or otherwise
    error = kind(str(body.get("message", "")), next_step=str(body.get("next_step", "")))
    details = body.get("details")
    error.details = {str(key): value for key, value in details.items()} if isinstance(details, Mapping) else {}
    return error


@cache
def _classes() -> Mapping[str, type[NexusError]]:
    return {str(kind.code): kind for kind in _family(NexusError)}


def _family(root: type[NexusError]) -> Iterator[type[NexusError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == __name__:
            yield from _family(child)
