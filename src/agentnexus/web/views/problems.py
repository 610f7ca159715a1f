"""Errors of the house in the words of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agentnexus.core.errors import NexusError
from agentnexus.web.views.runs import Problem
from agentnexus.web.views.text import capital

REASONS_SHOWN: Final = 20
REASON_CHARACTERS: Final = 400


def problem_of(error: NexusError | Mapping[str, object] | None) -> Problem | None:
    """A `Problem` from an error or from its JSON form ``{code, message, next_step?, details?}``."""
    if error is None:
        return None
    facts = error.to_json() if isinstance(error, NexusError) else error
    message = str(facts.get("message") or "It did not work")
    said = sentence(message)
    reasons = [reason for reason in _reasons(facts.get("details")) if reason != said]
    next_step = sentence(str(facts.get("next_step") or ""))
    return Problem(said, next_step, str(facts.get("code") or ""), tuple(reasons) if _tells_more(said, reasons) else ())


def _tells_more(message: str, reasons: list[str]) -> bool:
    """A single reason mostly stands in the message already."""
    return len(reasons) > 1 or any(reason.rstrip(".").lower() not in message.lower() for reason in reasons)


def _reasons(details: object) -> list[str]:
    """Why a plan cannot run, why each seller that was tried failed, and who almost served; each once."""
    if not isinstance(details, Mapping):
        return []
    found: list[str] = []
    for name, read in (("reasons", _plain), ("attempts", _attempt), ("near_misses", _near_miss)):
        listed = details.get(name)
        found += [read(each) for each in listed] if isinstance(listed, list) else []
    told = (sentence(reason[:REASON_CHARACTERS]) for reason in found)
    return list(dict.fromkeys(reason for reason in told if reason))[:REASONS_SHOWN]


def _plain(reason: object) -> str:
    return reason if isinstance(reason, str) else ""


def _attempt(attempt: object) -> str:
    """``{seller, error: {message}}`` of one that was hired and failed."""
    facts = attempt if isinstance(attempt, Mapping) else {}
    error = facts.get("error")
    message = error.get("message") if isinstance(error, Mapping) else None
    return f"{facts.get('seller') or 'A seller'}: {message}" if message else ""


def _near_miss(miss: object) -> str:
    """``{seller, price, reason}`` of an offer that almost served."""
    facts = miss if isinstance(miss, Mapping) else {}
    price = f" for {facts['price']}" if facts.get("price") else ""
    return f"{facts.get('seller') or 'An offer'}{price}: {facts['reason']}" if facts.get("reason") else ""


def sentence(text: str) -> str:
    """Errors are written in lower case for logs; a page starts with a capital and ends with a stop."""
    text = capital(text.strip())
    return text + ("" if not text or text[-1] in ".!?" else ".")
