"""Who one is to this node, and signing out."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from agentnexus.api.signing_in import Door
from agentnexus.identity.passkeys import PasskeyLogin
from agentnexus.identity.session import require_own_page


def session_routes(passkeys: PasskeyLogin, door: Door) -> APIRouter:
    """``/auth/session`` below the prefix it is mounted at."""
    router = APIRouter(tags=["auth"], prefix="/auth")

    @router.get("/session")
    async def who(request: Request) -> JSONResponse:
        """Who you are (null: nobody), how that is known (``token``, ``session``, ``local``), and your passkeys."""
        visit = await door.sessions.visit(request)
        data: dict[str, object] = {"user": None, "role": None, "way": None, "passkeys": []}
        if visit.caller is not None:
            own = [each.to_json() for each in await passkeys.of(visit.caller.user_id)]
            data = {"user": visit.caller.user_id, "role": visit.caller.role, "way": visit.way, "passkeys": own}
        response = JSONResponse({"success": True, "data": data}, headers={"Cache-Control": "no-store"})
        if visit.stale:
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
