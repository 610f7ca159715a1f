"""Pages with the real ways to sign in, beside the API that their scripts talk to, on this machine's own name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import cast

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.requests import Request

from agentnexus.api.mail_routes import mail_routes
from agentnexus.core.clock import SystemClock, SystemEntropy, TimeOrderedIds
from agentnexus.identity.caller import Callers
from agentnexus.identity.mail_codes import MailLogin
from agentnexus.platform.database import Database
from agentnexus.platform.mail import MailFolder
from agentnexus.platform.process import free_port
from agentnexus.platform.sealing import Sealer
from agentnexus.web.adapters.sign_in import HouseSignIn
from agentnexus.web.app import create_pages
from agentnexus.web.doors import Doors
from tests.identity.desk import Desk, open_desk
from tests.web.preview import preview_app
from tests.web.wallet_preview import PreviewWallet


@dataclass
class ConnectSite:
    """A node for visitors. `local_user` "" makes it one where nobody is signed in by being here."""

    app: FastAPI
    desk: Desk
    mail: MailFolder
    port: int
    wallet: PreviewWallet
    came: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def code(self) -> str:
        """In the newest message."""
        newest = max(self.mail.path.glob("*.eml"))
        text = cast("EmailMessage", message_from_bytes(newest.read_bytes(), policy=default)).get_content()
        return next(line.strip() for line in text.splitlines() if line.startswith("    "))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """Follows nothing, keeps cookies, asks for pages."""
        transport = httpx.ASGITransport(self.app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url=self.url, headers={"accept": "text/html"}) as made:
            yield made


def connect_site(database: Database, folder: Path, *, local_user: str = "", with_mail: bool = True) -> ConnectSite:
    port = free_port()
    # A development node, or else its own name would not be this machine's.
    desk = open_desk(database, SystemClock(), public_url=f"http://localhost:{port}", local_user=local_user or None)
    mail = MailFolder(folder / "mail")
    login = MailLogin(
        database, desk.tokens, mail, Sealer(b"k" * 32, SystemEntropy()), clock=SystemClock(), entropy=SystemEntropy(),
        ids=TimeOrderedIds(), name="the test",
    )  # fmt: skip
    given = login if with_mail else None
    desk.app.include_router(mail_routes(given, desk.door), prefix="/api/v1")
    preview = preview_app()
    site = ConnectSite(desk.app, desk, mail, port, preview.state.wallet)
    callers = Callers(desk.tokens, local_user=local_user or None)

    async def user(request: Request) -> str:
        found = await callers.identify(request)
        request.state.visitor = found.user_id
        site.came.append(found.user_id)
        return found.user_id

    doors: Doors = preview.state.doors
    door = HouseSignIn(desk.door, desk.passkeys, given, mail.path if with_mail else None)
    desk.app.router.routes.extend(create_pages(replace(doors, sign_in=door, user=user)))
    return site


@asynccontextmanager
async def serving(site: ConnectSite) -> AsyncIterator[ConnectSite]:
    """On its port until the test is over."""
    server = uvicorn.Server(
        uvicorn.Config(
            site.app, host="127.0.0.1", port=site.port, log_level="critical", lifespan="off",
            timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield site
    finally:
        server.should_exit = True
        await task
