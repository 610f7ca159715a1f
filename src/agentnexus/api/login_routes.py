"""Signing in with a wallet over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from agentnexus.api.signing_in import Door, SignInBody
from agentnexus.identity.wallets import WalletLogin

ADDRESS_CHARS = 100


class AddressBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    address: str = Field(max_length=ADDRESS_CHARS)


class SignedBody(SignInBody):
    """The challenge's nonce, and the signature over its message: hex for EVM wallets, base64 for Ed25519 keys.

    Smart accounts sign as ERC-1271 has it, those not made yet as ERC-6492.
    """

    address: str = Field(max_length=ADDRESS_CHARS)
    nonce: str = Field(max_length=64)
    signature: str = Field(max_length=20_000)


def login_routes(login: WalletLogin, door: Door) -> APIRouter:
    """``/auth`` below the prefix it is mounted at. Strangers are counted by where they call from."""
    router = APIRouter(tags=["auth"], prefix="/auth")

    @router.post("/challenge")
    async def challenge(body: AddressBody, request: Request) -> dict[str, object]:
        """A message to sign (EIP-4361); it is good for one answer, for five minutes."""
        await door.count(request)
        asked = await login.challenge(body.address, door.site(request))
        return {
            "success": True,
            "data": {"nonce": asked.nonce, "message": asked.message, "expires_at": asked.expires_at.isoformat()},
        }

    @router.post("/login")
    async def sign_in(body: SignedBody, request: Request) -> JSONResponse:
        """A token for the wallet's owner, shown this once, or a session."""
        await door.count(request)
        person, token = await login.sign_in(body.address, body.nonce, body.signature, lives=body.lives)
        return await door.welcome(request, body, person, token)

    return router
