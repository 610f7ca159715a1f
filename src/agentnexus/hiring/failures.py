"""Errors that survive a restart: as text in a row, and back to the class they were."""

from __future__ import annotations

import json

from agentnexus.core.errors import (
    AgentFailed,
    AgentRefused,
    InvalidInput,
    LimitExceeded,
    NexusError,
    SellerFailed,
    error_class,
    error_from_json,
)

# Answers that say the request is at fault, not the seller.
REQUEST_FAULTS = frozenset({400, 413, 415, 422})


def error_text(error: NexusError) -> str:
    """``{code, message, next_step?, details?}`` as JSON text; details that JSON has no word for become text."""
    return json.dumps(error.to_json(), default=str, ensure_ascii=True)


def error_from_text(text: str | bytes) -> NexusError:
    """The error again, of its own class; an unknown code (from a newer version) is a `SellerFailed`."""
    return error_from_json(json.loads(text), SellerFailed)


def as_the_seller_said(error: NexusError) -> NexusError:
    """A failed HTTP answer whose body is an error of this house, as that error; anything else unchanged.

    So that "the file is encrypted" reaches the buyer in the seller's own words, and counts against nobody.
    """
    status, answer = error.details.get("status"), error.details.get("answer")
    if not isinstance(error, SellerFailed) or status not in REQUEST_FAULTS:
        return error
    try:
        said = json.loads(str(answer))["error"]
        kind = error_class(said["code"])
        message, next_step = str(said["message"]), str(said.get("next_step", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        kind = None
    if kind is None:
        return AgentRefused(error.message, next_step=error.next_step or "check the input", status=status, answer=answer)
    if not issubclass(kind, InvalidInput | AgentRefused | LimitExceeded | AgentFailed):
        return error
    return kind(message, next_step=next_step, status=status)
