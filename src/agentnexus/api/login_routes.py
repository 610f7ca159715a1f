"""Signing in with a wallet over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from agentnexus.identity.limits import Limiter
from agentnexus.identity.wallets import WalletLogin


class AddressBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    address: str = Field(max_length=100)


class SignedBody(AddressBody):
    """The challenge's nonce, and the signature over its message: hex for EVM wallets, base64 for Ed25519 keys."""

    nonce: str = Field(max_length=64)
    signature: str = Field(max_length=400)


def login_routes(login: WalletLogin, limiter: Limiter) -> APIRouter:
    """``/auth`` below the prefix it is mounted at. Strangers are counted by where they call from."""
    router = APIRouter(tags=["auth"], prefix="/auth")

    async def counted(request: Request) -> None:
        host = request.client.host if request.client is not None else "nowhere"
        await limiter.take(f"login {host}")

    @router.post("/challenge")
    async def challenge(body: AddressBody, request: Request) -> dict[str, object]:
        """A message to sign; it is good for one answer."""
        await counted(request)
        asked = await login.challenge(body.address)
        return {
            "success": True,
            "data": {"nonce": asked.nonce, "message": asked.message, "expires_at": asked.expires_at.isoformat()},
        }

    @router.post("/login")
    async def sign_in(body: SignedBody, request: Request) -> dict[str, object]:
        """A token for the wallet's owner, shown this once."""
        await counted(request)
        person, token = await login.sign_in(body.address, body.nonce, body.signature)
        return {"success": True, "data": {"user": person, "token": token}}

    return router
