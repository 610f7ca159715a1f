"""Web sessions: a token in a cookie that scripts cannot read, set and cleared by the API and the pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from starlette.background import BackgroundTask
from starlette.requests import HTTPConnection
from starlette.responses import Response

from agentnexus.core.errors import NotAllowed
from agentnexus.identity.caller import COOKIE, Caller, Callers
from agentnexus.identity.devices import KEPT, PROGRAM, Devices, device_of
from agentnexus.identity.notices import Notices
from agentnexus.identity.origin import same_origin
from agentnexus.identity.sites import Sites
from agentnexus.identity.tokens import SESSION_MAX, Tokens

LIVES = timedelta(hours=24)  # without being used
BROWSER = "nexus_browser"


@dataclass(frozen=True, slots=True)
class Visit:
    """Who is here. `way` is ``token``, ``session`` or ``local``, "" for nobody; `stale`: the cookie is over."""

    caller: Caller | None
    way: str = ""
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Sessions:
    """Who is signed in with a browser, and how that begins and ends. `notices`: where people can be written to."""

    callers: Callers
    tokens: Tokens
    sites: Sites
    devices: Devices
    notices: Notices | None = None

    async def visitor(self, connection: HTTPConnection) -> Caller | None:
        """None for who is not signed in; a cookie that is over counts as none. Raises `NotAllowed`."""
        return await self.callers.visitor(connection)

    async def visit(self, connection: HTTPConnection) -> Visit:
        """The same, with how they are known. Raises `NotAllowed`."""
        caller = await self.visitor(connection)
        if connection.headers.get("authorization", "").lower().startswith("bearer "):
            return Visit(caller, "token")
        cookie = connection.cookies.get(COOKIE)
        holds = cookie is not None and await self.tokens.find(cookie) is not None
        way = "session" if holds else "local" if caller else ""
        return Visit(caller, way, stale=cookie is not None and not holds)

    async def begin(self, connection: HTTPConnection, response: Response, token: str) -> None:
        """Sign this browser in with a token that lives for `LIVES`; who was signed in with it no longer is.

        The cookie stays as long as a session can: whether it goes on is for the token to say.
        """
        await self._end_cookie(connection)
        browser = self.devices.number(connection.cookies.get(BROWSER, ""))
        for name, value, kept in ((COOKIE, token, SESSION_MAX), (BROWSER, browser, KEPT)):
            response.set_cookie(
                name,
                value,
                max_age=int(kept.total_seconds()),
                path="/",
                httponly=True,
                samesite="lax",
                secure=self.sites.is_secure(connection),
            )
        await self._arrived(response, token, device_of(connection.headers.get("user-agent", "")), browser)

    async def begin_program(self, response: Response, token: str) -> None:
        """The same for who keeps the token: they are told of each."""
        await self._arrived(response, token, PROGRAM, None)

    async def _arrived(self, response: Response, token: str, device: str, browser: str | None) -> None:
        arrival = await self.devices.arrive(token, device, browser)
        if arrival.is_news and self.notices is not None:
            response.background = BackgroundTask(self.notices.tell, arrival)

    async def end(self, connection: HTTPConnection, response: Response) -> None:
        """Sign this browser, or this program, out; nothing happens for one that is not signed in."""
        await self._end_cookie(connection)
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            await self.tokens.revoke(token)
        self.forget(connection, response)

    def forget(self, connection: HTTPConnection, response: Response) -> None:
        """Take the cookie away, whatever it was worth."""
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax", secure=self.sites.is_secure(connection))

    async def _end_cookie(self, connection: HTTPConnection) -> None:
        token = connection.cookies.get(COOKIE)
        if token:
            await self.tokens.revoke(token)


def require_own_page(connection: HTTPConnection) -> None:
    """Only our own pages, and programs, may begin or end a session: no other site signs a visitor in as somebody."""
    if not same_origin(connection.headers):
        raise NotAllowed("this was sent by a page of another site", next_step="open the page here and sign in there")
