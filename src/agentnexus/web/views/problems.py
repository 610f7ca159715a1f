"""Errors of the house in the words of a page."""

from __future__ import annotations

from collections.abc import Mapping

from agentnexus.core.errors import NexusError
from agentnexus.web.views.runs import Problem
from agentnexus.web.views.text import capital


def problem_of(error: NexusError | Mapping[str, object] | None) -> Problem | None:
    """A `Problem` from an error or from its JSON form ``{code, message, next_step?}``."""
    if error is None:
        return None
    facts = error.to_json() if isinstance(error, NexusError) else error
    message = str(facts.get("message") or "It did not work")
    return Problem(sentence(message), sentence(str(facts.get("next_step") or "")), str(facts.get("code") or ""))


def sentence(text: str) -> str:
    """Errors are written in lower case for logs; a page starts with a capital and ends with a stop."""
    text = capital(text.strip())
    return text + ("" if not text or text[-1] in ".!?" else ".")
