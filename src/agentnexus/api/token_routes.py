"""A caller's own access tokens over HTTP: see them, replace the one in use, end any."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from agentnexus.core.errors import InvalidInput
from agentnexus.identity.caller import COOKIE, Caller, caller
from agentnexus.identity.tokens import ROTATION_GRACE, Tokens, id_of

Who = Annotated[Caller, Depends(caller)]


def token_routes(tokens: Tokens) -> APIRouter:
    """``/auth`` below the prefix it is mounted at."""
    router = APIRouter(tags=["auth"], prefix="/auth")

    @router.get("/tokens")
    async def tokens_of(who: Who, request: Request) -> dict[str, object]:
        """Your tokens and browsers' sessions that are good now, without their secrets."""
        own = id_of(_sent(request) or request.cookies.get(COOKIE, ""))
        shown = [token.to_json() | {"current": token.id == own} for token in await tokens.of(who.user_id)]
        return {"success": True, "data": shown}

    @router.delete("/tokens")
    async def end_all(who: Who) -> dict[str, object]:
        """Sign out everywhere: all that you got by signing in ends, in browsers and programs."""
        return {"success": True, "data": {"ended": await tokens.end_all(who.user_id)}}

    @router.post("/rotate")
    async def rotate(who: Who, request: Request) -> dict[str, object]:
        """A new token for the one you sent, shown this once; the old one is good for ten more minutes."""
        token = await tokens.rotate(_required(request))
        seconds = int(ROTATION_GRACE.total_seconds())
        return {"success": True, "data": {"user": who.user_id, "token": token, "old_ends_in_seconds": seconds}}

    @router.delete("/token")
    async def end(who: Who, request: Request) -> dict[str, object]:
        """End the token you sent, at once."""
        return {"success": True, "data": {"ended": await tokens.revoke(_required(request)), "user": who.user_id}}

    @router.delete("/tokens/{token_id}")
    async def end_one(who: Who, token_id: str) -> dict[str, object]:
        """End one of your tokens; an operator may end anybody's."""
        await tokens.end(token_id, who.acts_for)
        return {"success": True, "data": {"ended": True}}

    return router


def _sent(request: Request) -> str:
    """The token in the header, "" for none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def _required(request: Request) -> str:
    token = _sent(request)
    if not token:
        raise InvalidInput("no token was sent", next_step="send Authorization: Bearer <token>", field="authorization")
    return token
