"""Streamed answers: money before the first byte, refusals before the money, and what a repeat gets."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from tests.x402.support import ScriptedFacilitator, Work, open_shop, outcome, requirement, sign, v2_payment

from agentnexus.core.errors import Unavailable
from agentnexus.devnet.accounts import development_accounts
from agentnexus.markets.x402.pricing import PricedRoute
from agentnexus.markets.x402.reservations import Reservations
from agentnexus.markets.x402.wire import PAYMENT_REQUIRED, PAYMENT_RESPONSE, decode_header

BUYER = development_accounts()["buyer"].signer
WHOLE = b"part 0 of run 1\npart 1 of run 1\npart 2 of run 1\n"


class Recorder(ScriptedFacilitator):
    """Writes down when the money moved, among the handler's steps."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    async def settle(self, payload: object, requirements: object):
        self.events.append("settled")
        return await super().settle(payload, requirements)


@pytest.fixture
def scripted() -> Recorder:
    return Recorder()


async def payment(key: str = "s1") -> dict[str, str]:
    return v2_payment(requirement(), await sign(BUYER, requirement(), key))


class Stepwise(Work):
    """Streams one part per `step`, and notes each in the facilitator's list."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events
        self.break_after: int | None = None

    async def stream(self, request: Request) -> Response:
        self.runs += 1
        run = self.runs

        async def parts():
            for number in range(3):
                if self.break_after == number:
                    raise RuntimeError("the engine stopped")
                self.events.append(f"part {number}")
                yield f"part {number} of run {run}\n".encode()
                await asyncio.sleep(0)

        return StreamingResponse(parts(), media_type="text/plain")


async def test_the_money_moves_after_the_first_part_is_ready_and_before_it_leaves(
    scripted: Recorder, reservations: Reservations
) -> None:
    work = Stepwise(scripted.events)
    async with open_shop(scripted, reservations=reservations, work=work) as shop:
        response = await shop.http.get("/stream", headers=await payment())
        assert response.status_code == 200
        assert response.content == WHOLE
        assert PAYMENT_RESPONSE in response.headers
        assert scripted.events == ["part 0", "settled", "part 1", "part 2"]


async def test_a_repeat_of_a_stream_is_given_from_store(scripted: Recorder, reservations: Reservations) -> None:
    async with open_shop(scripted, reservations=reservations) as shop:
        headers = await payment()
        first = await shop.http.get("/stream", headers=headers)
        again = await shop.http.get("/stream", headers=headers)
        assert first.content == again.content == WHOLE
        assert (shop.work.runs, scripted.settled) == (1, 1)


async def test_eight_copies_of_a_paid_stream_run_once(scripted: Recorder, reservations: Reservations) -> None:
    async with open_shop(scripted, reservations=reservations) as shop:
        headers = await payment()
        answers = await asyncio.gather(*(shop.http.get("/stream", headers=headers) for _ in range(8)))
        assert {answer.content for answer in answers} == {WHOLE}
        assert (shop.work.runs, scripted.settled) == (1, 1)


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_a_refusal_comes_before_the_money(scripted: Recorder, reservations: Reservations, status: int) -> None:
    async with open_shop(scripted, reservations=reservations, work=Work(status=status)) as shop:
        headers = await payment()
        assert (await shop.http.get("/stream", headers=headers)).status_code == status
        assert scripted.settled == 0
        shop.work.status = 200
        assert (await shop.http.get("/stream", headers=headers)).status_code == 200


async def test_a_handler_that_breaks_before_its_first_part_costs_nothing(
    scripted: Recorder, reservations: Reservations
) -> None:
    async with open_shop(scripted, reservations=reservations, work=Work(failure=RuntimeError("boom"))) as shop:
        headers = await payment()
        assert (await shop.http.get("/stream", headers=headers)).status_code == 500
        assert scripted.settled == 0
        shop.work.failure = None
        assert (await shop.http.get("/stream", headers=headers)).content.startswith(b"part 0 of run 2")


async def test_a_refused_settlement_lets_no_part_out_and_stops_the_handler(
    scripted: Recorder, reservations: Reservations
) -> None:
    scripted.settle_script = [outcome("invalid_exact_evm_insufficient_balance")]
    work = Stepwise(scripted.events)
    async with open_shop(scripted, reservations=reservations, work=work) as shop:
        response = await shop.http.get("/stream", headers=await payment())
        assert response.status_code == 402
        assert b"part" not in response.content
        assert decode_header(response.headers[PAYMENT_REQUIRED], part="402")["error"] == (
            "invalid_exact_evm_insufficient_balance"
        )
        assert scripted.events == ["part 0", "settled"]


@pytest.mark.parametrize("failure", [outcome("settlement_pending"), Unavailable("down"), httpx.ReadTimeout("slow")])
async def test_an_unknown_settlement_is_settled_again_before_the_repeat_works_again(
    scripted: Recorder, reservations: Reservations, failure: object
) -> None:
    scripted.settle_script = [failure]  # type: ignore[list-item]  # a settlement or an exception
    work = Stepwise(scripted.events)
    async with open_shop(scripted, reservations=reservations, work=work) as shop:
        headers = await payment()
        assert (await shop.http.get("/stream", headers=headers)).status_code == 202
        scripted.verify_reason = "invalid_exact_evm_nonce_already_used"  # the money did move
        scripted.events.clear()
        again = await shop.http.get("/stream", headers=headers)
        assert again.status_code == 200
        assert scripted.events == ["settled", "part 0", "part 1", "part 2"]


async def test_a_stream_that_breaks_after_the_money_is_made_again_for_free(
    scripted: Recorder, reservations: Reservations
) -> None:
    work = Stepwise(scripted.events)
    work.break_after = 1
    async with open_shop(scripted, reservations=reservations, work=work) as shop:
        headers = await payment()
        with pytest.raises(RuntimeError, match="engine"):
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(shop.http._transport.app), base_url="http://localhost"
            ) as http:
                await http.get("/stream", headers=headers)
        assert scripted.settled == 1
        work.break_after = None
        again = await shop.http.get("/stream", headers=headers)
        assert again.content == WHOLE.replace(b"run 1", b"run 2")
        assert scripted.settled == 1


async def test_a_stream_too_long_to_keep_is_delivered_once(scripted: Recorder, reservations: Reservations) -> None:
    route = PricedRoute("GET /stream", [requirement()], streaming=True, max_response_bytes=20)
    async with open_shop(scripted, reservations=reservations, routes=[route]) as shop:
        headers = await payment()
        assert (await shop.http.get("/stream", headers=headers)).content == WHOLE
        again = await shop.http.get("/stream", headers=headers)
        assert again.status_code == 409
        assert "not kept" in again.json()["error"]["message"]


async def test_the_official_middleware_buffers_what_we_stream() -> None:
    """Facts §2.3: it is a BaseHTTPMiddleware that holds the whole body back until it has settled."""
    from starlette.middleware.base import BaseHTTPMiddleware
    from x402.http.middleware.fastapi import PaymentMiddlewareASGI

    from agentnexus.markets.x402.sell import SellerMiddleware

    assert issubclass(PaymentMiddlewareASGI, BaseHTTPMiddleware)
    assert not issubclass(SellerMiddleware, BaseHTTPMiddleware)
