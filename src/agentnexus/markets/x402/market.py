"""The x402 market: offers from registries and Bazaars, bought by one HTTP call that is paid for on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from urllib.parse import urlencode

from agentnexus.core.canonical import Json, canonical_json
from agentnexus.core.errors import BadResult, InvalidInput, Unavailable
from agentnexus.core.offers import Job, Need, Offer, Quote, RefundRule
from agentnexus.core.payments import Payment
from agentnexus.core.ports import Clock, Purse
from agentnexus.core.updates import Progress, Result, Update
from agentnexus.markets.x402.buy import Answer, Bought, Call, X402Client
from agentnexus.markets.x402.discover import OfferSource
from agentnexus.markets.x402.following import EXECUTION_HEADER, Follower, execution_id, watch_url
from agentnexus.markets.x402.kinds import canonical_address
from agentnexus.markets.x402.networks import caip2
from agentnexus.platform.logs import log

QUOTE_LIFE = timedelta(minutes=5)


class X402Market:
    """The core `Market` for services that sell over x402.

    Args:
        sources: where offers come from; all are asked at once.
        firm_quotes: ask the seller itself for its price of this very job (one unpaid request); otherwise the list
            price is the quote and the cap at the same time.
        follower: hears what sellers tell while they work; without one nobody listens.
    """

    name = "x402"

    def __init__(
        self,
        client: X402Client,
        sources: Sequence[OfferSource],
        clock: Clock,
        *,
        firm_quotes: bool = False,
        follower: Follower | None = None,
    ) -> None:
        self._client = client
        self._sources = tuple(sources)
        self._clock = clock
        self._firm_quotes = firm_quotes
        self._follower = follower
        self._dead: dict[str, str] = {}

    def dead_sources(self) -> Mapping[str, str]:
        """Sources that did not answer when they were asked last, with why."""
        return dict(self._dead)

    async def discover(self, need: Need) -> AsyncIterator[Offer]:
        """Offers of all sources as they arrive; raises `Unavailable` at the end when every source is dead."""
        queue: asyncio.Queue[Offer | Unavailable | None] = asyncio.Queue()

        async def drain(source: OfferSource) -> None:
            try:
                async for offer in source.discover(need):
                    queue.put_nowait(offer)
                self._dead.pop(source.name, None)
            except Unavailable as error:
                self._dead[source.name] = error.message
                log.warning("discovery.source_failed", market=self.name, source=source.name, reason=error.message)
                queue.put_nowait(error)
            finally:
                queue.put_nowait(None)

        tasks = [asyncio.create_task(drain(source)) for source in self._sources]
        dead: list[Unavailable] = []
        running = len(tasks)
        try:
            while running:
                item = await queue.get()
                if item is None:
                    running -= 1
                elif isinstance(item, Unavailable):
                    dead.append(item)
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if dead and len(dead) == len(tasks):
            raise dead[0]

    async def quote(self, offer: Offer, job: Job) -> Quote:
        """The seller's price for this job where `firm_quotes`, else the list price; raises `SellerFailed`."""
        maximum = offer.price.maximum
        if self._firm_quotes:
            answer = await self._client.ask(_call(offer, job), maximum)
            maximum = maximum.asset.zero() if isinstance(answer, Answer) else answer.price
        return Quote(
            offer_id=offer.id,
            job_id=job.id,
            maximum=maximum,
            breakdown={"per job": str(maximum)},
            valid_until=self._clock.now() + QUOTE_LIFE,
            refund_rule=RefundRule.NOT_SETTLED_ON_FAILURE,
        )

    async def buy(self, offer: Offer, job: Job, purse: Purse) -> AsyncIterator[Update]:
        """Ask, pay, and end with the `Result`. Never pays more than the offer's price."""
        yield Progress(message=f"asking {offer.title}")
        buying = asyncio.create_task(self._client.buy(_call(offer, job), purse, offer.price.maximum))
        try:
            if self._follower is not None:
                async with aclosing(self._follower.during(buying, offer, job)) as told:
                    async for update in told:
                        yield update
            bought = await buying
        finally:  # whoever leaves early leaves no purchase behind that goes on by itself
            buying.cancel()
            await asyncio.gather(buying, return_exceptions=True)
        payments: tuple[Payment, ...] = (bought.payment,) if bought.payment else ()
        yield Result(output=_output(offer, bought), payments=payments)


def _call(offer: Offer, job: Job) -> Call:
    """The HTTP request of a job: its input as JSON body, or as query where the seller takes GET."""
    if not offer.endpoint:
        raise InvalidInput(f"offer {offer.id} has no endpoint", field="offer.endpoint")
    payees = tuple(
        canonical_address(caip2(str(rail.get("network", "eip155"))), str(rail["payTo"]))
        for rail in offer.rails
        if rail.get("payTo")
    )
    method = str(offer.evidence.get("method", "POST")).upper()
    data: Mapping[str, object] = job.need.input
    if method in ("GET", "HEAD", "DELETE"):
        query = urlencode({key: value if isinstance(value, str) else json.dumps(value) for key, value in data.items()})
        separator = "&" if "?" in offer.endpoint else "?"
        return Call(method, offer.endpoint + (separator + query if query else ""), job.key, payees=payees)
    body: Json = json.loads(json.dumps(data))
    headers = {"content-type": "application/json", "accept": "application/json"}
    if watch_url(offer):
        headers[EXECUTION_HEADER] = execution_id(job)
    # Canonical bytes: a repeat after a restart must be the same request to the byte, or it is refused as another.
    return Call(method, offer.endpoint, job.key, canonical_json(body), headers, payees)


def _output(offer: Offer, bought: Bought) -> object:
    media_type = bought.answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type and media_type != "application/json" and not media_type.endswith("+json"):
        return {"media_type": media_type, "text": bought.answer.body.decode(errors="replace")}
    try:
        output: object = json.loads(bought.answer.body)
    except (ValueError, RecursionError) as error:
        raise BadResult(
            f"{offer.title} did not answer in JSON",
            next_step="hire another seller; this one was paid for what it sent",
            payment=bought.payment.id if bought.payment else None,
        ) from error
    return output
