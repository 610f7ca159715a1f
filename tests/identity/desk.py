"""The ways to sign in over HTTP, on a database of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError

from agentnexus.api.app import _on_invalid_request
from agentnexus.api.login_routes import login_routes
from agentnexus.api.passkey_routes import passkey_routes
from agentnexus.api.session_routes import session_routes
from agentnexus.api.signing_in import Door
from agentnexus.core.clock import SystemEntropy
from agentnexus.core.ports import Clock
from agentnexus.identity.caller import Callers
from agentnexus.identity.devices import Devices
from agentnexus.identity.limits import Limiter
from agentnexus.identity.notices import Notices
from agentnexus.identity.passkeys import PasskeyLogin
from agentnexus.identity.session import Sessions
from agentnexus.identity.sites import Sites
from agentnexus.identity.tokens import Tokens
from agentnexus.identity.wallets import WalletLogin
from agentnexus.platform.database import Database
from agentnexus.platform.http import install_error_handlers

ORIGIN = "https://nexus.example"
CHAIN_ID = 31337


@dataclass
class Desk:
    """The application and its parts."""

    app: FastAPI
    tokens: Tokens
    passkeys: PasskeyLogin
    door: Door

    @asynccontextmanager
    async def browser(self, origin: str = ORIGIN, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
        """Keeps cookies and says where its page is from, as browsers do."""
        transport = httpx.ASGITransport(self.app)
        sent = {"origin": origin, **headers}
        async with httpx.AsyncClient(transport=transport, base_url=origin, headers=sent) as client:
            yield client


def open_desk(
    database: Database,
    clock: Clock,
    *,
    public_url: str = ORIGIN,
    local_user: str | None = None,
    per_minute: int = 1000,
    more: tuple[APIRouter, ...] = (),
    notices: Notices | None = None,
) -> Desk:
    """With `local_user` it is a development node."""
    tokens = Tokens(database, SystemEntropy())
    callers = Callers(tokens, local_user=local_user)
    limiter = Limiter(database, per_minute=per_minute, clock=clock)
    sites = Sites(public_url, local=local_user is not None)
    door = Door(Sessions(callers, tokens, sites, Devices(database, SystemEntropy()), notices), limiter)
    parts = database, tokens, clock, SystemEntropy()
    passkeys, wallets = PasskeyLogin(*parts), WalletLogin(*parts, chain_id=CHAIN_ID)
    app = FastAPI()
    app.state.callers, app.state.limiter = callers, limiter
    for router in (login_routes(wallets, door), passkey_routes(passkeys, door), session_routes(passkeys, door), *more):
        app.include_router(router, prefix="/api/v1")
    install_error_handlers(app)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    return Desk(app, tokens, passkeys, door)
