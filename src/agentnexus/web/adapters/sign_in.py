"""`SignInDoor` over the identity room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from agentnexus.api.mail_routes import sender
from agentnexus.api.signing_in import Door, caller_host
from agentnexus.core.errors import InvalidInput, NexusError
from agentnexus.identity.caller import COOKIE
from agentnexus.identity.ceremonies import decoded
from agentnexus.identity.devices import PROGRAM, UNKNOWN
from agentnexus.identity.mail_codes import MailLogin
from agentnexus.identity.notices import WAYS
from agentnexus.identity.passkeys import PasskeyLogin
from agentnexus.identity.session import LIVES
from agentnexus.identity.tokens import id_of
from agentnexus.web.views.problems import sentence
from agentnexus.web.views.sign_in import ConnectPage, DeviceView, PasskeyView, VisitorView, short_person


@dataclass(frozen=True, slots=True)
class HouseSignIn:
    """`mail_folder`: where codes are left instead of being sent, on a development node without a mail server."""

    door: Door
    passkeys: PasskeyLogin
    mail: MailLogin | None
    mail_folder: Path | None = None

    async def page(self, request: Request) -> ConnectPage:
        visit = await self.door.sessions.visit(request)
        problem, by_name = self._passkeys_here(request)
        return ConnectPage(
            visitor=None if visit.caller is None else await self._visitor(request, visit.caller.user_id, visit.way),
            stale=visit.stale,
            mail=self.mail is not None,
            mail_folder=str(self.mail_folder or ""),
            no_passkeys=problem,
            by_name=by_name,
        )

    async def send_code(self, request: Request, email: str) -> str:
        await self.door.count(request)
        return (await sender(self.mail).begin(email, caller=caller_host(request))).id

    async def enter(self, request: Request, response: Response, challenge: str, code: str) -> None:
        await self.door.count(request)
        _, token = await sender(self.mail).finish(challenge, code, lives=LIVES)
        await self.door.sessions.begin(request, response, token)

    async def leave(self, request: Request, response: Response) -> None:
        await self.door.sessions.end(request, response)

    async def remove_passkey(self, request: Request, passkey_id: str) -> None:
        visitor = await self.door.sessions.callers.identify(request)
        visitor.require_recent()
        await self.passkeys.remove(visitor.user_id, decoded(passkey_id))

    async def end_device(self, request: Request, device_id: str) -> None:
        visitor = await self.door.sessions.callers.identify(request)
        await self.door.sessions.tokens.end(device_id, visitor.user_id)

    async def end_devices(self, request: Request, response: Response) -> None:
        visitor = await self.door.sessions.callers.identify(request)
        await self.door.sessions.tokens.end_all(visitor.user_id)
        self.door.sessions.forget(request, response)

    async def require_recent(self, request: Request) -> None:
        (await self.door.sessions.callers.identify(request)).require_recent()

    async def _visitor(self, request: Request, person_id: str, way: str) -> VisitorView:
        address = "" if self.mail is None else await self.mail.address_of(person_id)
        own = await self.passkeys.of(person_id)
        return VisitorView(
            person_id,
            address or short_person(person_id),
            way,
            address,
            [PasskeyView(each.id, each.name, each.created_at, each.last_used_at) for each in own],
            await self._devices(person_id, id_of(request.cookies.get(COOKIE, ""))),
        )

    async def _devices(self, person_id: str, current: str) -> list[DeviceView]:
        """All that came by signing in, this one first."""
        found = [
            DeviceView(
                id=each.id,
                name=each.device or (UNKNOWN if each.is_session else PROGRAM),
                way=WAYS.get(each.label, ""),
                signed_in_at=each.proven_at,
                last_used_at=each.last_used_at,
                is_current=each.id == current,
            )
            for each in await self.door.sessions.tokens.of(person_id)
            if each.proven_at is not None
        ]
        return sorted(found, key=lambda each: not each.is_current)

    def _passkeys_here(self, request: Request) -> tuple[str, str]:
        """Why there can be none at this address, and the address where there can."""
        try:
            self.door.site(request).require_name()
        except InvalidInput as error:
            return sentence(error.message), str(error.details.get("open", ""))
        except NexusError as error:
            return sentence(error.message), ""
        return "", ""
