"""Passkeys over HTTP: create one, and sign in with one. Options and credentials are WebAuthn's own JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from agentnexus.api.signing_in import Door, SignInBody
from agentnexus.identity.caller import Caller, caller
from agentnexus.identity.ceremonies import decoded
from agentnexus.identity.passkeys import NAME_CHARS, PasskeyLogin

Who = Annotated[Caller, Depends(caller)]


class AnswerBody(BaseModel):
    """``response`` of a PublicKeyCredential, bytes as base64url. What browsers add beside these is left alone."""

    model_config = ConfigDict(extra="ignore")

    clientDataJSON: str = Field(max_length=8_000)
    attestationObject: str | None = Field(default=None, max_length=16_000)
    authenticatorData: str | None = Field(default=None, max_length=4_000)
    signature: str | None = Field(default=None, max_length=1_000)
    userHandle: str | None = Field(default=None, max_length=200)


class CredentialBody(BaseModel):
    """A PublicKeyCredential, as its ``toJSON()`` writes it."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(max_length=1_400)
    rawId: str = Field(max_length=1_400)
    type: str = Field(max_length=20)
    response: AnswerBody

    def plain(self) -> dict[str, object]:
        """As the ceremonies take it."""
        return self.model_dump(exclude_none=True)


class LoginBody(SignInBody):
    credential: CredentialBody


class PersonBody(BaseModel):
    """`own`: of somebody new, also where a development node takes whoever uses this machine for its local user."""

    model_config = ConfigDict(extra="ignore")

    own: bool = False


class NewPasskeyBody(LoginBody):
    """`name` tells its owner's passkeys apart; `own` as it was for the options."""

    name: str = Field(default="", max_length=NAME_CHARS)
    own: bool = False


def passkey_routes(passkeys: PasskeyLogin, door: Door) -> APIRouter:
    """``/auth/passkeys`` below the prefix it is mounted at."""
    router = APIRouter(tags=["auth"], prefix="/auth/passkeys")

    @router.post("/options")
    async def creation(request: Request, body: PersonBody | None = None) -> dict[str, object]:
        """Options for ``navigator.credentials.create``: of who is signed in, or of somebody new."""
        await door.count(request)
        visitor = await _owner(door, request, own=body is not None and body.own)
        options = await passkeys.creation(door.site(request), visitor.user_id if visitor else None)
        return {"success": True, "data": options}

    @router.post("", status_code=201)
    async def create(body: NewPasskeyBody, request: Request) -> JSONResponse:
        """Keep the new passkey. Who was nobody before is signed in as its person; for others nothing else changes."""
        await door.count(request)
        visitor = await _owner(door, request, own=body.own)
        person = visitor.user_id if visitor else None
        made = await passkeys.create(door.site(request), person, body.credential.plain(), body.name)
        shown = made.to_json()
        if visitor is not None:
            return JSONResponse({"success": True, "data": {"user": made.person_id, "passkey": shown}}, 201)
        token = await door.sessions.tokens.admit(made.person_id, lives=body.lives, label="passkey")
        return await door.welcome(request, body, made.person_id, token, status=201, passkey=shown)

    @router.post("/login/options")
    async def request_options(request: Request) -> dict[str, object]:
        """Options for ``navigator.credentials.get``."""
        await door.count(request)
        return {"success": True, "data": await passkeys.request(door.site(request))}

    @router.post("/login")
    async def sign_in(body: LoginBody, request: Request) -> JSONResponse:
        """A token for the passkey's person, shown this once, or a session."""
        await door.count(request)
        person, token = await passkeys.sign_in(door.site(request), body.credential.plain(), lives=body.lives)
        return await door.welcome(request, body, person, token)

    @router.delete("/{credential_id}")
    async def remove(credential_id: str, who: Who) -> dict[str, object]:
        """It signs you in no more. A wallet that it owns is still its own."""
        who.require_recent()
        await passkeys.remove(who.user_id, decoded(credential_id))
        return {"success": True, "data": {"removed": True}}

    return router


async def _owner(door: Door, request: Request, *, own: bool) -> Caller | None:
    """Whose passkey it will be, None for somebody new. Another way in is for who has just come by one."""
    visit = await door.sessions.visit(request)
    if visit.caller is None or (own and visit.way == "local"):
        return None
    visit.caller.require_recent()
    return visit.caller
