"""Letters to people about their own account: that somebody signed in from where they never did before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from agentnexus.core.errors import NexusError
from agentnexus.identity.devices import Arrival
from agentnexus.platform.logs import log
from agentnexus.platform.mail import Mail, Mailer

WAYS = {"wallet": "with a wallet", "passkey": "with a passkey", "e-mail": "with a code by e-mail"}


class Notices:
    """Whoever signed in by e-mail once has an address; nobody else is told.

    Args:
        address_of: a person's address, "" where none is known.
        name: what this node calls itself; `url` is where it is, "" where that is not known.
    """

    def __init__(self, mailer: Mailer, address_of: Callable[[str], Awaitable[str]], *, name: str, url: str) -> None:
        self._mailer = mailer
        self._address_of = address_of
        self._name = name
        self._url = url

    async def tell(self, arrival: Arrival) -> None:
        """Once, after the answer; a letter that cannot be sent keeps nobody out."""
        try:
            address = await self._address_of(arrival.person_id)
            if address:
                await self._mailer.send(
                    Mail(address, f"Somebody signed in to {self._name} as you", self._text(arrival))
                )
        except NexusError as error:
            log.warning("mail.notice_not_sent", person=arrival.person_id, reason=str(error.code))

    def _text(self, arrival: Arrival) -> str:
        """No address of a network: it says where people are, and they could not tell it from a thief's."""
        page = f"{self._url}/connect" if self._url else "the page /connect"
        return (
            f"Somebody signed in to {self._name} as you:\n\n"
            f"    {arrival.device}, {WAYS.get(arrival.way, arrival.way)},\n"
            f"    on {arrival.at:%d %B %Y at %H:%M} UTC\n\n"
            "It was not used for that before. If it was you, do nothing.\n\n"
            f"If not: open {page}, sign in, choose “Sign out everywhere”, and remove passkeys that are not\n"
            "yours. If it came with a code, change the password of your mailbox first.\n"
        )
