"""Codes by e-mail over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from agentnexus.api.signing_in import Door, SignInBody, caller_host
from agentnexus.core.errors import Unavailable
from agentnexus.identity.mail_codes import ADDRESS_CHARS, MailLogin


class EmailBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=ADDRESS_CHARS)


class CodeBody(SignInBody):
    """The id that ``/auth/email`` answered, and the code from the message."""

    id: str = Field(max_length=64)
    code: str = Field(max_length=20)


def mail_routes(login: MailLogin | None, door: Door) -> APIRouter:
    """``/auth/email`` below the prefix it is mounted at; without a way to send mail they say so."""
    router = APIRouter(tags=["auth"], prefix="/auth/email")

    @router.post("")
    async def begin(body: EmailBody, request: Request) -> dict[str, object]:
        """Send a code of eight digits; the answer is the same for every address."""
        await door.count(request)
        made = await sender(login).begin(body.email, caller=caller_host(request))
        return {"success": True, "data": {"id": made.id, "expires_at": made.expires_at.isoformat()}}

    @router.post("/verify")
    async def verify(body: CodeBody, request: Request) -> JSONResponse:
        """A token for the address's owner, shown this once, or a session."""
        await door.count(request)
        person, token = await sender(login).finish(body.id, body.code, lives=body.lives)
        return await door.welcome(request, body, person, token)

    return router


def sender(login: MailLogin | None) -> MailLogin:
    """Raises `Unavailable` where no mail can be sent."""
    if login is None:
        raise Unavailable(
            "this node sends no e-mail",
            next_step="sign in with a passkey or a wallet; the operator sets NEXUS_SMTP_URL",
        )
    return login
