"""Who one is to this node, and signing out."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from agentnexus.api.signing_in import Door
from agentnexus.identity.passkeys import PasskeyLogin
from agentnexus.identity.session import require_own_page, way_of


def session_routes(passkeys: PasskeyLogin, door: Door) -> APIRouter:
    """``/auth/session`` below the prefix it is mounted at."""
    router = APIRouter(tags=["auth"], prefix="/auth")

    @router.get("/session")
    async def who(request: Request) -> JSONResponse:
        """Who you are (null: nobody), how that is known (``token``, ``session``, ``local``), and your passkeys."""
        visitor = await door.sessions.visitor(request)
        data: dict[str, object] = {"user": None, "role": None, "way": None, "passkeys": []}
        if visitor is not None:
            own = [each.to_json() for each in await passkeys.of(visitor.user_id)]
            data = {"user": visitor.user_id, "role": visitor.role, "way": way_of(request), "passkeys": own}
        response = JSONResponse({"success": True, "data": data}, headers={"Cache-Control": "no-store"})
        if way_of(request) == "session" and visitor is None:
            door.sessions.forget(request, response)
        return response

    @router.delete("/session")
    async def sign_out(request: Request) -> JSONResponse:
        """End this browser's session, and the token you sent."""
        require_own_page(request)
        response = JSONResponse({"success": True, "data": {"user": None}})
        await door.sessions.end(request, response)
        return response

    return router
