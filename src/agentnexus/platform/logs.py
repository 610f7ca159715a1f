"""Structured JSON logs. Every line carries the correlation id of the request or job it belongs to."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

import structlog

correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")
SECRET_WORDS = ("key", "secret", "password", "token", "authorization", "mnemonic")

log: structlog.stdlib.BoundLogger = structlog.get_logger("agentnexus")


@contextmanager
def correlated(identifier: str) -> Iterator[None]:
    """Bind a job's lines to its id, unless they already belong to a request or to a larger job."""
    if correlation_id.get():
        yield
        return
    token = correlation_id.set(identifier)
    try:
        yield
    finally:
        correlation_id.reset(token)


def _add_correlation(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    current = correlation_id.get()
    if current:
        event.setdefault("correlation_id", current)
    return event


def _hide_secrets(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for name, value in event.items():
        if isinstance(value, str) and value and any(word in name.lower() for word in SECRET_WORDS):
            event[name] = value[:4] + "…"
    return event


def configure_logs(level: str = "INFO", *, role: str = "") -> None:
    """One JSON object a line on standard error; call once per process."""
    threshold = cast("int", getattr(logging, level.upper(), logging.INFO))
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_correlation,
            _hide_secrets,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    if role:
        structlog.contextvars.bind_contextvars(role=role)
