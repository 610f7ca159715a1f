"""What operators see of hires and runs: counts by outcome, spans, and log lines that belong together."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import httpx
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentnexus.core.errors import SellerFailed, Unavailable
from agentnexus.hiring.testing import Script
from agentnexus.platform import telemetry
from agentnexus.platform.database import Database
from agentnexus.platform.logs import correlated, correlation_id
from agentnexus.platform.process import free_port
from tests.hiring.support import NEED, USDC, Economy, seller_key


def counted(name: str, **labels: str) -> float:
    return telemetry.REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Every span that ends, of a provider that only this test sees."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


async def test_a_settled_hire_its_payment_and_the_market_s_answer_are_counted(economy: Economy) -> None:
    market = economy.market.name
    names = (
        ("agentnexus_hires_total", {"market": market, "status": "settled"}),
        ("agentnexus_payments_total", {"rail": "scripted", "currency": USDC.caip19, "status": "confirmed"}),
        ("agentnexus_discovery_duration_seconds_count", {"market": market}),
    )
    before = [counted(name, **labels) for name, labels in names]
    hired = await economy.hire()
    assert {payment.rail for payment in hired.receipt.payments} == {"scripted"}
    assert [counted(name, **labels) for name, labels in names] == [number + 1 for number in before]
    page = telemetry.render_metrics().decode()
    assert f'agentnexus_hires_total{{market="{market}",status="settled"}}' in page


async def test_a_refunded_hire_is_counted_as_one(database: Database) -> None:
    def failing(given: object) -> object:
        raise SellerFailed("out of paper", next_step="choose another seller")

    economy = await Economy.build(database, scripts={seller_key(1): Script(output=failing)})
    labels = {"market": economy.market.name, "status": "refunded"}
    before = counted("agentnexus_hires_total", **labels)
    with pytest.raises(SellerFailed):
        await economy.hire(fallback=0)
    assert counted("agentnexus_hires_total", **labels) == before + 1


async def test_a_hire_is_a_span_that_names_its_key_and_capability(
    economy: Economy, spans: InMemorySpanExporter
) -> None:
    await economy.hire(key="wf_1:s1:1")
    (span,) = [span for span in spans.get_finished_spans() if span.name == "hire"]
    assert span.attributes is not None
    assert span.attributes["agentnexus.id"] == "wf_1:s1:1"
    assert span.attributes["agentnexus.capability"] == NEED.capability


async def test_a_failed_piece_of_work_marks_its_span(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="broken"), telemetry.observed("run", "exe_1", agent="org.x"):
        raise ValueError("broken")
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is trace.StatusCode.ERROR


async def test_lines_of_a_job_carry_its_id_and_those_of_a_request_keep_the_request_s(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from agentnexus.platform.logs import configure_logs

    before = structlog.get_config()
    configure_logs("INFO")
    try:
        with correlated("wf_1"):
            structlog.get_logger("test").info("inside")
            with correlated("wf_1:s1:1"):
                assert correlation_id.get() == "wf_1"
        structlog.get_logger("test").info("outside")
    finally:
        structlog.configure(**before)
    inside, outside = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert inside["correlation_id"] == "wf_1"
    assert "correlation_id" not in outside


async def test_a_role_without_http_serves_its_metrics_and_says_when_the_port_is_taken() -> None:
    port = free_port()
    telemetry.serve_metrics(port)
    async with httpx.AsyncClient(trust_env=False) as client:
        page = await client.get(f"http://127.0.0.1:{port}/metrics")
    assert "agentnexus_workflows_active" in page.text
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Unavailable, match="is taken") as refused:
            telemetry.serve_metrics(taken.getsockname()[1])
    assert "NEXUS_METRICS_PORT" in (refused.value.next_step or "")
