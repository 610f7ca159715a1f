"""The caller of a request: from a bearer token, a session cookie, or, on a laptop only, the one local user."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from starlette.requests import HTTPConnection

from agentnexus.core.errors import NotAllowed, NotFound, SignInAgain
from agentnexus.identity.origin import from_this_machine, may_act
from agentnexus.identity.tokens import Holder, Tokens

COOKIE = "nexus_session"
SIGNED_OUT = "signed_out"  # `details.reason` of refusals that signing in would end
RECENT = timedelta(minutes=5)
_WAYS = "the page /connect, `nexus sign-in --email` or --key-file"


@dataclass(frozen=True, slots=True)
class Caller:
    """`role` is ``basic`` or ``operator``; an operator may see and touch what others own.

    `proof_age`: since they last showed who they are; None where they did not, as with a token given to them.
    """

    user_id: str
    role: str = "basic"
    proof_age: timedelta | None = field(default=None, compare=False)

    @property
    def acts_for(self) -> str | None:
        """Whose things this caller may touch: None means everybody's."""
        return None if self.role == "operator" else self.user_id

    def require_owner(self, owner_id: str, what: str = "this") -> None:
        """Raises `NotFound`, not 403: a stranger must not learn that it exists."""
        if self.role != "operator" and self.user_id != owner_id:
            raise NotFound(f"there is no {what} with that id", next_step="check the id and whose token you use")

    def require_recent(self) -> None:
        """For what a stolen token must not do. Raises `SignInAgain` unless they have just shown who they are."""
        if self.proof_age is None or self.proof_age > RECENT:
            minutes = int(RECENT.total_seconds() // 60)
            raise SignInAgain(
                f"this needs a proof of who you are that is not older than {minutes} minutes",
                next_step="sign in again (`nexus sign-in`, or the page /connect), then repeat it",
                seconds=int(RECENT.total_seconds()),
            )


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
            holder = await self._tokens.find(token)
            if holder is None:
                raise NotAllowed(
                    "the access token is unknown, revoked or over",
                    next_step=f"sign in ({_WAYS}), or ask the operator for one (`nexus token issue`)",
                    reason=None if is_explicit else SIGNED_OUT,
                )
            return self._caller(connection, holder)
        local = self._local(connection)
        if local is None:
            raise NotAllowed(
                "sign in first",
                next_step=f"{_WAYS}, or send Authorization: Bearer <token>",
                reason=SIGNED_OUT,
            )
        return local

    async def visitor(self, connection: HTTPConnection) -> Caller | None:
        """The same for places where one may be signed out: None, and a cookie that is over counts as none.

        Raises `NotAllowed` for a wrong token in the header, and for other sites' pages.
        """
        is_explicit, token = self._sent(connection)
        found = await self._tokens.find(token) if token else None
        if found is None and is_explicit:
            return await self.identify(connection)  # which says what is wrong
        return self._local(connection) if found is None else self._caller(connection, found)

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

    def _caller(self, connection: HTTPConnection, holder: Holder) -> Caller:
        """The local user needs no token here, so one of theirs takes nothing away either."""
        local = self._local(connection)
        if local is not None and local.user_id == holder.person_id:
            return Caller(holder.person_id, holder.role, local.proof_age)
        return Caller(holder.person_id, holder.role, holder.proof_age)

    def _local(self, connection: HTTPConnection) -> Caller | None:
        """Being at this machine is all the proof that the local user can give, and is given with every request."""
        if self._local_user is not None and from_this_machine(connection):
            return Caller(self._local_user, proof_age=timedelta())
        return None


async def caller(connection: HTTPConnection) -> Caller:
    """FastAPI dependency; `app.state.callers` is set in bootstrap, `app.state.limiter` too."""
    callers: Callers = connection.app.state.callers
    found = await callers.identify(connection)
    await connection.app.state.limiter.take(found.user_id)
    return found
