"""The caller of a request: from a bearer token, a session cookie, or, on a laptop only, the one local user."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from agentnexus.core.errors import NotAllowed, NotFound
from agentnexus.identity.origin import from_this_machine, may_act
from agentnexus.identity.tokens import Tokens

COOKIE = "nexus_session"
SIGNED_OUT = "signed_out"  # `details.reason` of refusals that signing in would end


@dataclass(frozen=True, slots=True)
class Caller:
    """`role` is ``basic`` or ``operator``; an operator may see and touch what others own."""

    user_id: str
    role: str = "basic"

    @property
    def acts_for(self) -> str | None:
        """Whose things this caller may touch: None means everybody's."""
        return None if self.role == "operator" else self.user_id

    def require_owner(self, owner_id: str, what: str = "this") -> None:
        """Raises `NotFound`, not 403: a stranger must not learn that it exists."""
        if self.role != "operator" and self.user_id != owner_id:
            raise NotFound(f"there is no {what} with that id", next_step="check the id and whose token you use")


class Callers:
    """Finds out who calls. `local_user` is set only in the local economy, and is found only on this machine."""

    def __init__(self, tokens: Tokens, *, local_user: str | None = None) -> None:
        self._tokens = tokens
        self._local_user = local_user

    async def identify(self, connection: HTTPConnection) -> Caller:
        """Raises `NotAllowed` (401-like) when there is neither a valid token nor a local user.

        Cookies and the local user count for our own pages and for programs, never for another site's page.
        """
        is_explicit, token = self._sent(connection)
        if token:
            caller = await self._tokens.find(token)
            if caller is None:
                raise NotAllowed(
                    "the access token is unknown, revoked or over",
                    next_step="sign in with your wallet, or ask the operator for one (`nexus token issue`)",
                    reason=None if is_explicit else SIGNED_OUT,
                )
            return Caller(*caller)
        local = self._local(connection)
        if local is None:
            raise NotAllowed("sign in first", next_step="send Authorization: Bearer <token>", reason=SIGNED_OUT)
        return local

    async def visitor(self, connection: HTTPConnection) -> Caller | None:
        """The same for places where one may be signed out: None, and a cookie that is over counts as none.

        Raises `NotAllowed` for a wrong token in the header, and for other sites' pages.
        """
        is_explicit, token = self._sent(connection)
        found = await self._tokens.find(token) if token else None
        if found is None and is_explicit:
            return await self.identify(connection)  # which says what is wrong
        return self._local(connection) if found is None else Caller(*found)

    def _sent(self, connection: HTTPConnection) -> tuple[bool, str]:
        """Whether the token came in the header, and the token; "" for none."""
        scheme, _, value = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return True, value
        if not may_act(connection):
            raise NotAllowed(
                "this was sent by a page of another site",
                next_step="open the page here, or send Authorization: Bearer <token>",
            )
        return False, connection.cookies.get(COOKIE, "")

    def _local(self, connection: HTTPConnection) -> Caller | None:
        if self._local_user is not None and from_this_machine(connection):
            return Caller(self._local_user)
        return None


async def caller(connection: HTTPConnection) -> Caller:
    """FastAPI dependency; `app.state.callers` is set in bootstrap, `app.state.limiter` too."""
    callers: Callers = connection.app.state.callers
    found = await callers.identify(connection)
    await connection.app.state.limiter.take(found.user_id)
    return found
