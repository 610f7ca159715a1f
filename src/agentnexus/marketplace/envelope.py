"""The one shape of every JSON answer under ``/api/v1``."""

from __future__ import annotations

from collections.abc import Mapping

from agentnexus.core.ports import Clock
from agentnexus.platform.logs import correlation_id

API_VERSION = "1"


def envelope(data: object, clock: Clock, *, pagination: Mapping[str, object] | None = None) -> dict[str, object]:
    """``{success, data, metadata: {timestamp, requestId, version}, pagination?}``."""
    body: dict[str, object] = {
        "success": True,
        "data": data,
        "metadata": {
            "timestamp": clock.now().isoformat(),
            "requestId": correlation_id.get(),
            "version": API_VERSION,
        },
    }
    if pagination is not None:
        body["pagination"] = dict(pagination)
    return body
