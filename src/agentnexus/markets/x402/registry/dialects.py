"""Registrations and changes in the words of older sellers' templates, read as ours.

A template sends ``{pricing: {amount, asset, network}, walletAddress, network, metadata}`` and no `accepts`. A decimal
price does not say which token is paid, so the terms are then taken from the service's own 402, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentnexus.core.errors import InvalidInput

STATUS_WORDS = {"INACTIVE": "PAUSED", "DISABLED": "PAUSED", "ENABLED": "ACTIVE", "RETIRED": "DEPRECATED"}
FROM_METADATA = ("category", "tags", "capabilities", "description", "inputSchema", "outputSchema")


def registration_of(body: object) -> dict[str, object]:
    """The body under our names; a name of ours always wins over an older one. Raises `InvalidInput` for no object."""
    entry = _object(body)
    for ours, theirs in (("url", "resource"), ("url", "endpoint"), ("ownerWalletAddress", "walletAddress")):
        if ours not in entry and theirs in entry:
            entry[ours] = entry[theirs]
    pricing = entry.get("pricing")
    if "pricePerCall" not in entry and pricing is not None:
        entry["pricePerCall"] = pricing.get("amount") if isinstance(pricing, Mapping) else pricing
    metadata = entry.get("metadata")
    if isinstance(metadata, Mapping):
        entry = {name: metadata[name] for name in FROM_METADATA if name in metadata} | entry
        rest = {name: value for name, value in metadata.items() if name not in FROM_METADATA}
        entry.setdefault("extra", rest)
    return entry


def replacement_of(known: Mapping[str, object], body: object) -> dict[str, object]:
    """`body` over what is known; a new price drops the known terms, which would contradict it."""
    fresh = registration_of(body)
    kept = {name: value for name, value in known.items() if name != "accepts" or "pricePerCall" not in fresh}
    return kept | fresh


def status_of(body: object) -> dict[str, object]:
    """``{status}`` in our words: ``inactive`` is PAUSED. Other fields do not belong to this call."""
    entry = _object(body)
    word = str(entry.get("status", "")).upper()
    return entry | {"status": STATUS_WORDS.get(word, word)}


def _object(body: object) -> dict[str, object]:
    if not isinstance(body, dict):
        raise InvalidInput("the body is not an object", next_step="send one JSON object")
    return dict(body)
