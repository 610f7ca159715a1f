"""Metrics (Prometheus) and traces (OpenTelemetry API: free until an exporter is configured)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server

from agentnexus.core.errors import Unavailable
from agentnexus.platform.logs import correlated

REGISTRY = CollectorRegistry()
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

payments_total = Counter(
    "agentnexus_payments_total", "Payments by outcome", ["rail", "currency", "status"], registry=REGISTRY
)
executions_total = Counter(
    "agentnexus_agent_executions_total", "Agent runs by outcome", ["agent_id", "status"], registry=REGISTRY
)
execution_seconds = Histogram(
    "agentnexus_agent_execution_duration_seconds", "Time an agent run took", ["agent_id"], registry=REGISTRY
)
hires_total = Counter("agentnexus_hires_total", "Hires by outcome", ["market", "status"], registry=REGISTRY)
discovery_seconds = Histogram(
    "agentnexus_discovery_duration_seconds", "Time a market took to answer", ["market"], registry=REGISTRY
)
workflows_active = Gauge("agentnexus_workflows_active", "Workflows being executed here", registry=REGISTRY)
indexer_behind_blocks = Gauge(
    "agentnexus_indexer_behind_blocks",
    "Blocks that the leading process has yet to read",
    ["indexer", "network"],
    registry=REGISTRY,
)
sponsorships_total = Counter(
    "agentnexus_sponsorships_total",
    "Requests to pay an operation's gas by outcome",
    ["network", "status"],
    registry=REGISTRY,
)
sponsoring_coin = Gauge(
    "agentnexus_sponsoring_coin",
    "Of the paymaster's deposit in the books: what is free, and what is promised",
    ["network", "part"],
    registry=REGISTRY,
)
wallet_operations_total = Counter(
    "agentnexus_wallet_operations_total",
    "Operations of users' wallets by the state they came to",
    ["network", "kind", "gas", "state"],
    registry=REGISTRY,
)
wallet_seconds = Histogram(
    "agentnexus_wallet_mined_seconds",
    "Time from an operation's signature until it was seen mined",
    ["network", "gas"],
    registry=REGISTRY,
)
purchase_differences_total = Counter(
    "agentnexus_purchase_differences_total", "Purchases that differed from the chain", registry=REGISTRY
)
http_seconds = Histogram(
    "agentnexus_http_request_duration_seconds",
    "Time to the end of the answer",
    ["method", "status"],
    registry=REGISTRY,
)

tracer = trace.get_tracer("agentnexus")


@contextmanager
def observed(work: str, identifier: str, **attributes: str) -> Iterator[None]:
    """A span named `work`, and log lines that carry `identifier`."""
    told = {f"agentnexus.{name}": value for name, value in {"id": identifier, **attributes}.items()}
    with correlated(identifier), tracer.start_as_current_span(work, attributes=told):
        yield


def render_metrics() -> bytes:
    """The Prometheus text page."""
    return generate_latest(REGISTRY)


def serve_metrics(port: int, host: str = "127.0.0.1") -> None:
    """The page at ``/metrics`` of a role that answers no HTTP itself, from a thread that ends with the process."""
    try:
        start_http_server(port, host, REGISTRY)
    except OSError as error:
        raise Unavailable(
            f"port {port} for the metrics is taken", next_step="give every process its own NEXUS_METRICS_PORT"
        ) from error


def configure_traces(role: str) -> None:
    """Export traces when ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set; needs the extra ``otel``."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise Unavailable(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set but the exporter is missing", next_step="install agentnexus[otel]"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": f"agentnexus-{role}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
