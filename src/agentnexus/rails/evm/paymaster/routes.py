"""HTTP of the paymaster service: JSON-RPC by ``POST /paymaster``, its policies by ``GET /paymaster``."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from agentnexus.core.errors import InvalidInput, LimitExceeded, Unavailable
from agentnexus.identity.caller import Caller, caller
from agentnexus.rails.evm.paymaster.jsonrpc import answer
from agentnexus.rails.evm.paymaster.refusals import PARSE_ERROR
from agentnexus.rails.evm.paymaster.service import PaymasterService
from agentnexus.rails.evm.rpc import RpcValue

BODY_BYTES_MAX = 64 * 1024
Who = Annotated[Caller, Depends(caller)]


def paymaster_routes(service: PaymasterService) -> APIRouter:
    """``/paymaster``. The same authentication as all of the API: a bearer token, or the one user of a laptop."""
    router = APIRouter(prefix="/paymaster", tags=["paymaster"])

    @router.get("")
    async def describe(who: Who) -> dict[str, object]:
        """Which operations are paid for, how much of it is left for everybody and for you."""
        return {"success": True, **await service.describe(who.user_id)}

    @router.post("")
    async def call(request: Request, who: Who) -> Response:
        """ERC-7677: `pm_getPaymasterStubData`, `pm_getPaymasterData`; also `pm_sponsorUserOperation`."""
        body = await request.body()
        if len(body) > BODY_BYTES_MAX:
            raise LimitExceeded(f"a request has at most {BODY_BYTES_MAX} bytes", next_step="send a smaller operation")
        try:
            answered = await answer(service, who.user_id, _parsed(body))
        except _Unread:
            unread = InvalidInput("the body is not JSON", next_step="send one JSON-RPC request")
            error = {"code": PARSE_ERROR, "message": unread.message, "data": unread.to_json()}
            return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error})
        return Response(status_code=204) if answered is None else JSONResponse(answered)

    return router


class _Unread(Exception):
    """The body is no JSON that can be answered."""


def _parsed(body: bytes) -> RpcValue:
    """JSON as everybody reads it: Python's also takes NaN and half characters, which no answer could repeat."""
    try:
        asked: RpcValue = json.loads(body)
        json.dumps(asked, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _Unread from error
    return asked


def no_paymaster_routes() -> APIRouter:
    """``/paymaster`` of a node that pays for nobody: every question is answered with what is missing."""
    router = APIRouter(prefix="/paymaster", tags=["paymaster"])

    @router.api_route("", methods=["GET", "POST"], include_in_schema=False)
    async def not_kept() -> None:
        raise Unavailable(
            "this node pays nobody's gas",
            next_step="its operator deploys the contracts and sets NEXUS_PAYMASTER_KEY and NEXUS_PAYMASTER_POLICIES",
        )

    return router
