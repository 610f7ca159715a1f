"""Signing in over sample data: nobody, the local user, or somebody with passkeys."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response

from agentnexus.core.errors import NotAllowed, NotFound, SignInAgain
from agentnexus.identity.caller import COOKIE
from agentnexus.web.views.sign_in import ConnectPage, DeviceView, PasskeyView, VisitorView

NOW = datetime(2026, 11, 21, 9, 41, tzinfo=UTC)
CODE = "12345678"
PASSKEYS = [
    PasskeyView("AQ", "Laptop", NOW - timedelta(days=3), NOW - timedelta(hours=1)),
    PasskeyView("Ag", '<script>alert("name")</script>', NOW - timedelta(days=1)),
]
DEVICES = [
    DeviceView("tok_1", "Firefox on Linux", "with a passkey", NOW - timedelta(days=2), NOW, is_current=True),
    DeviceView("tok_2", '<script>alert("device")</script>', "", NOW - timedelta(days=9), NOW - timedelta(hours=3)),
]
ADA = VisitorView("mail." + "3f" * 16, "ada@example.org", "session", "ada@example.org", PASSKEYS, DEVICES)
LOCAL = VisitorView("local", "local", "local")


@dataclass
class PreviewSignIn:
    """Keeps what was asked of it. `refuse` is raised by everything that changes something."""

    shown: ConnectPage = field(default_factory=ConnectPage)
    asked: list[str] = field(default_factory=list)
    left: int = 0
    removed: list[str] = field(default_factory=list)
    refuse: Exception | None = None
    too_old: bool = False
    ended: list[str] = field(default_factory=list)

    async def page(self, request: Request) -> ConnectPage:
        return self.shown

    async def send_code(self, request: Request, email: str) -> str:
        if self.refuse:
            raise self.refuse
        self.asked.append(email)
        return "mail_1"

    async def enter(self, request: Request, response: Response, challenge: str, code: str) -> None:
        if code != CODE:
            raise NotAllowed("this code is wrong, used or too old", next_step="check its 8 digits")
        response.set_cookie(COOKIE, "nx_preview", httponly=True)

    async def leave(self, request: Request, response: Response) -> None:
        self.left += 1
        response.delete_cookie(COOKIE)

    async def require_recent(self, request: Request) -> None:
        if self.too_old:
            raise SignInAgain("this needs a proof of who you are that is not older than 5 minutes")

    async def end_device(self, request: Request, device_id: str) -> None:
        if device_id != "tok_2":
            raise NotFound("there is no token with that id")
        self.ended.append(device_id)

    async def end_devices(self, request: Request, response: Response) -> None:
        self.ended.append("all")
        response.delete_cookie(COOKIE)

    async def remove_passkey(self, request: Request, passkey_id: str) -> None:
        if self.refuse:
            raise self.refuse
        self.removed.append(passkey_id)
