"""Errors that survive a restart: as text in a row, and back to the class they were."""

from __future__ import annotations

import json
from collections.abc import Iterator

from agentnexus.core.errors import NexusError, SellerFailed


def error_text(error: NexusError) -> str:
    """``{code, message, next_step?, details?}`` as JSON text; details that JSON has no word for become text."""
    return json.dumps(error.to_json(), default=str, ensure_ascii=True)


def error_from_text(text: str | bytes) -> NexusError:
    """The error again, of its own class; an unknown code (from a newer version) is a `SellerFailed`."""
    body = json.loads(text)
    kind = _CLASSES.get(body["code"], SellerFailed)
    details = {str(key): value for key, value in (body.get("details") or {}).items()}
    error = kind(body["message"], next_step=body.get("next_step", ""))
    error.details = details
    return error


def _family(root: type[NexusError]) -> Iterator[type[NexusError]]:
    yield root
    for child in root.__subclasses__():
        yield from _family(child)


_CLASSES = {str(kind.code): kind for kind in _family(NexusError)}
