"""What the ways to sign in over HTTP share: counting strangers, and answering with a token or a cookie."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from agentnexus.identity.limits import Limiter
from agentnexus.identity.origin import counted_as
from agentnexus.identity.session import LIVES, Sessions, require_own_page
from agentnexus.identity.sites import Site


class SignInBody(BaseModel):
    """`cookie`: begin a web session instead of answering the token."""

    model_config = ConfigDict(extra="forbid")

    cookie: bool = False

    @property
    def lives(self) -> timedelta | None:
        """How long the token is good unused: tokens of programs have no end of their own."""
        return LIVES if self.cookie else None


@dataclass(frozen=True, slots=True)
class Door:
    """Where strangers come in."""

    sessions: Sessions
    limiter: Limiter

    async def count(self, request: Request) -> None:
        """Strangers are counted by where they call from; raises `RateLimited`. Other sites' pages are refused."""
        require_own_page(request)
        await self.limiter.take(f"login {caller_host(request)}")

    def site(self, request: Request) -> Site:
        return self.sessions.sites.of(request)

    async def welcome(
        self, request: Request, body: SignInBody, person: str, token: str, *, status: int = 200, **more: object
    ) -> JSONResponse:
        """Who it is, and the token unless it went into the cookie."""
        data: dict[str, object] = {"user": person, **more}
        if not body.cookie:
            data["token"] = token
        response = JSONResponse({"success": True, "data": data}, status, headers={"Cache-Control": "no-store"})
        if body.cookie:
            await self.sessions.begin(request, response, token)
        else:
            await self.sessions.begin_program(response, token)
        return response


def caller_host(request: Request) -> str:
    """Where a request comes from, as far as this process sees, as it is counted."""
    return counted_as(request.client.host) if request.client is not None else "nowhere"
