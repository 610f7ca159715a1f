"""HTTP of buying and of running what was bought; everything belongs to the caller, and a stranger's is not found."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from agentnexus.core.errors import NexusError, Unavailable
from agentnexus.core.ports import Clock
from agentnexus.identity.caller import Caller, caller
from agentnexus.marketplace.entitlements.model import Use
from agentnexus.marketplace.entitlements.service import Entitlements
from agentnexus.marketplace.envelope import envelope
from agentnexus.marketplace.purchases.kinds import QUANTITY_MAX, Kind
from agentnexus.marketplace.purchases.model import Purchase, Step
from agentnexus.marketplace.purchases.service import KEY_CHARACTERS_MAX, Purchases
from agentnexus.marketplace.purchases.views import access_json, purchase_json, quote_json, right_json, use_json
from agentnexus.marketplace.streaming import position, streamed
from agentnexus.wallets.views import SignatureBody, operation_json, signing_json

WAIT_MAX = 30.0
ID_CHARACTERS_MAX = 80
Json = dict[str, object]
Who = Annotated[Caller, Depends(caller)]
Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=KEY_CHARACTERS_MAX)]
Wait = Annotated[float, Query(ge=0, le=WAIT_MAX, description="seconds to wait for it to move")]
After = Annotated[int, Query(ge=0, le=2**31 - 1)]


class PurchaseBody(BaseModel):
    """How many runs, or a period. `at_most`: what you were told it costs, as decimal text; nothing is bought for more.

    `upgrade`: unused runs of the agent are given back once the period is there.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Kind = Kind.RUNS
    quantity: int = Field(default=1, ge=1, le=QUANTITY_MAX)
    at_most: str | None = Field(default=None, pattern=r"^[0-9]{1,30}(\.[0-9]{1,18})?$")
    upgrade: bool = False


class ExecuteBody(BaseModel):
    """What the agent is given."""

    model_config = ConfigDict(extra="forbid")

    input: JsonValue


class TransferBody(BaseModel):
    """What is passed on, and to which address."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind = Kind.RUNS
    to: str = Field(max_length=ID_CHARACTERS_MAX)
    count: int = Field(default=1, ge=1, le=QUANTITY_MAX)
    token_id: str | None = Field(default=None, pattern=r"^[0-9]{1,78}$", description="which month; else the first")


def purchase_routes(purchases: Purchases, entitlements: Entitlements, clock: Clock) -> APIRouter:
    """The router, below the prefix it is put at."""
    router = APIRouter(tags=["purchases"])
    _add_purchases(router, purchases, entitlements, clock)
    _add_reading(router, purchases, entitlements, clock)
    _add_rights(router, entitlements, clock)
    _add_uses(router, entitlements, clock)
    return router


def _add_purchases(router: APIRouter, purchases: Purchases, entitlements: Entitlements, clock: Clock) -> None:
    async def shown(purchase: Purchase, who: Caller) -> Json:
        body = purchase_json(purchase, await entitlements.store.held([purchase.id]), clock.now())
        sign, refused = None, None
        if purchase.step is Step.SIGNING and purchase.user_id == who.user_id:
            try:
                sign = signing_json(await purchases.signing_request(who.user_id, purchase.id))
            except NexusError as error:  # what is to be signed cannot be made now; the purchase is shown all the same
                refused = error.to_json()
        return envelope(body | {"sign": sign, "sign_error": refused}, clock)

    @router.get("/agents/{agent_id}/quote")
    async def quote(
        agent_id: str, who: Who, kind: Kind = Kind.RUNS, quantity: Annotated[int, Query(ge=1, le=QUANTITY_MAX)] = 1
    ) -> Json:
        """What buying costs the caller now."""
        return envelope(quote_json(await purchases.quote(who.user_id, agent_id, kind, quantity)), clock)

    @router.post("/agents/{agent_id}/purchase", status_code=202)
    async def buy(agent_id: str, body: PurchaseBody, who: Who, key: Key) -> Json:
        """Buy it with the caller's wallet, once per `Idempotency-Key`; `sign` is what its owner has to sign."""
        at_most = None if body.at_most is None else Decimal(body.at_most)
        bought = await purchases.begin(
            who.user_id, agent_id, body.quantity, key, kind=body.kind, at_most=at_most, upgrade=body.upgrade
        )
        return await shown(bought, who)

    @router.get("/purchases/{purchase_id}")
    async def purchase(purchase_id: str, who: Who, wait: Wait = 0.0) -> Json:
        """How far it is; with `wait`, once it moves or time is up."""
        return await shown(await purchases.get(who.acts_for, _id(purchase_id), wait_seconds=wait), who)

    @router.post("/purchases/{purchase_id}/signature")
    async def sign(purchase_id: str, body: SignatureBody, who: Who) -> Json:
        """The owner's signature over what `sign` said."""
        return await shown(await purchases.sign(who.user_id, _id(purchase_id), body.answer()), who)

    @router.post("/purchases/{purchase_id}/refund", status_code=202)
    async def refund(purchase_id: str, who: Who) -> Json:
        """Have what was not used back; what waits for a signature is cancelled."""
        return await shown(await purchases.refund(who.user_id, _id(purchase_id)), who)


def _add_reading(router: APIRouter, purchases: Purchases, entitlements: Entitlements, clock: Clock) -> None:
    @router.get("/purchases/{purchase_id}/stream", response_class=StreamingResponse)
    async def stream(
        purchase_id: str, who: Who, after: After = 0, last_event_id: Annotated[str | None, Header()] = None
    ) -> StreamingResponse:
        """Every event as server-sent events, from `after` or ``Last-Event-ID`` on, until nothing is under way."""
        await purchases.get(who.acts_for, _id(purchase_id))
        return streamed(purchases.events(who.acts_for, purchase_id, position(after, last_event_id)))

    @router.get("/me/purchases")
    async def mine(
        who: Who,
        before: Annotated[str, Query(max_length=ID_CHARACTERS_MAX)] = "",
        limit: Annotated[int, Query(ge=1, le=200)] = 20,
    ) -> Json:
        """The caller's purchases, newest first; `before` is the last id of the page before."""
        found = await purchases.list(who.user_id, before, limit)
        held = await entitlements.store.held([each.id for each in found])
        lines = [purchase_json(each, held, clock.now()) for each in found]
        more = found[-1].id if len(found) == limit else None
        return envelope(lines, clock, pagination={"limit": limit, "nextBefore": more})


def _add_rights(router: APIRouter, entitlements: Entitlements, clock: Clock) -> None:
    @router.get("/me/entitlements")
    async def rights(who: Who) -> Json:
        """What the caller bought or was given, and what is left of it."""
        return envelope([right_json(each) for each in await entitlements.list(who.user_id)], clock)

    @router.get("/me/entitlements/{agent_id}")
    async def access(agent_id: str, who: Who) -> Json:
        """What the caller may run now, read from the chain."""
        return envelope(access_json(agent_id, await entitlements.access(who.user_id, agent_id)), clock)

    @router.post("/me/entitlements/{agent_id}/transfer", status_code=202)
    async def transfer(agent_id: str, body: TransferBody, who: Who, key: Key) -> Json:
        """Pass it on to another wallet, once per `Idempotency-Key`: an operation of the caller's wallet."""
        token_id = None if body.token_id is None else int(body.token_id)
        operation = await entitlements.transfer(
            who.user_id, agent_id, body.kind, to=body.to, count=body.count, key=key, token_id=token_id
        )
        sign = signing_json(await entitlements.signing_request(operation))
        return envelope(operation_json(operation) | {"sign": sign}, clock)


def _add_uses(router: APIRouter, entitlements: Entitlements, clock: Clock) -> None:
    async def shown(use: Use) -> Json:
        return envelope(use_json(use, await entitlements.execution(use)), clock)

    @router.post("/agents/{agent_id}/execute", status_code=202)
    async def execute(agent_id: str, body: ExecuteBody, who: Who, key: Key) -> Json:
        """Run it on what the caller bought, once per `Idempotency-Key`. One that fails is not used up."""
        return await shown(await entitlements.run(who.user_id, agent_id, body.input, key))

    @router.get("/me/uses")
    async def uses(who: Who, limit: Annotated[int, Query(ge=1, le=200)] = 20) -> Json:
        """The caller's newest runs on what they bought, without results."""
        return envelope([use_json(each, None) for each in await entitlements.uses(who.user_id, limit)], clock)

    @router.get("/me/uses/{use_id}")
    async def use(use_id: str, who: Who, wait: Wait = 0.0) -> Json:
        """A run and its result; with `wait`, once it ended or time is up."""
        return await shown(await entitlements.use(who.acts_for, _id(use_id), wait_seconds=wait))


def no_purchase_routes() -> APIRouter:
    """The same paths on a node without contracts: every question is answered with what is missing."""
    router = APIRouter(tags=["purchases"])

    async def not_sold() -> None:
        raise Unavailable(
            "runs are not sold in advance on this node",
            next_step="pay per run over x402; its operator deploys the contracts (`nexus contracts deploy`)",
        )

    for path in ("/agents/{agent_id}/purchase", "/agents/{agent_id}/execute", "/me/entitlements/{id}/transfer"):
        router.add_api_route(path, not_sold, methods=["POST"], include_in_schema=False)
    for path in (
        "/agents/{agent_id}/quote",
        "/purchases/{path:path}",
        "/me/purchases",
        "/me/entitlements",
        "/me/entitlements/{id}",
        "/me/uses",
        "/me/uses/{id}",
    ):
        router.add_api_route(path, not_sold, methods=["GET", "POST"], include_in_schema=False)
    return router


def _id(text: str) -> str:
    """Longer ones are nobody's, and none of them has to be looked for."""
    return text[:ID_CHARACTERS_MAX]
