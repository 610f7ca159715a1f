"""Sending e-mail: by a mail server, or into a folder for whoever develops on this machine."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid, parseaddr
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from agentnexus.core.clock import SystemClock, TimeOrderedIds
from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.core.ports import Clock
from agentnexus.platform.logs import log
from agentnexus.platform.signing import create_key_file

TIMEOUT_SECONDS = 10.0
AT_ONCE = 4  # each takes a thread for as long as the server likes
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PORTS = {"smtp": 587, "smtps": 465}


@dataclass(frozen=True, slots=True)
class Mail:
    """A message in plain text to one address."""

    to: str
    subject: str
    text: str


class Mailer(Protocol):
    async def send(self, mail: Mail) -> None:
        """Hand it over. Raises `InvalidInput` when the address is not taken, `Unavailable` when nothing is."""


class SmtpMailer:
    """A mail server. What it is told goes encrypted, but for one on this machine that needs no password.

    Args:
        url: ``smtps://user:password@host:465`` (TLS), or ``smtp://…`` (STARTTLS).
        sender: ``name@example.org`` or ``AgentNexus <name@example.org>``.
        context: a test's; otherwise the system's certificates count.
        timeout_seconds: of every step of the conversation.
    """

    def __init__(
        self,
        url: str,
        sender: str,
        *,
        context: ssl.SSLContext | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname:
            raise InvalidInput(
                "this is no address of a mail server",
                next_step="set NEXUS_SMTP_URL to smtps://user:password@host:465 or smtp://host:587",
                field="smtp_url",
            )
        if "@" not in parseaddr(sender)[1] or not sender.isprintable():
            raise InvalidInput(
                "this is no sender", next_step="set NEXUS_MAIL_FROM to an address such as node@example.org",
                field="mail_from",
            )  # fmt: skip
        self._host, self._port = parts.hostname, parts.port or PORTS[parts.scheme]
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._whole = parts.scheme == "smtps"
        self._encrypted = self._whole or bool(self._user) or self._host not in LOOPBACK
        self._sender = sender
        self._context = context or ssl.create_default_context()
        self._timeout_seconds = timeout_seconds
        self._room = asyncio.Semaphore(AT_ONCE)

    async def send(self, mail: Mail) -> None:
        message = message_of(mail, self._sender, SystemClock())
        try:
            async with self._room:
                await asyncio.to_thread(self._deliver, message)
        except smtplib.SMTPRecipientsRefused as error:
            raise InvalidInput("the mail server does not take this address", field="to") from error
        except (OSError, smtplib.SMTPException, ValueError) as error:
            log.error("mail.not_sent", host=self._host, reason=f"{type(error).__name__}: {error}"[:300])
            raise Unavailable(
                "the mail server does not take messages now", next_step="try again later, or sign in another way"
            ) from error

    def _deliver(self, message: EmailMessage) -> None:
        with self._connected() as server:
            if self._encrypted and not self._whole:
                server.starttls(context=self._context)  # raises where the server offers none
            if self._user:
                server.login(self._user, self._password)
            server.send_message(message)

    def _connected(self) -> smtplib.SMTP:
        if self._whole:
            return smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout_seconds, context=self._context)
        return smtplib.SMTP(self._host, self._port, timeout=self._timeout_seconds)


class MailFolder:
    """Messages as files that only their owner reads, the newest last: a tool for development."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self.path = path
        self._clock = clock or SystemClock()
        self._ids = TimeOrderedIds(self._clock)

    async def send(self, mail: Mail) -> None:
        message = message_of(mail, "AgentNexus <node@localhost>", self._clock)
        await asyncio.to_thread(self._write, message.as_bytes())

    def _write(self, content: bytes) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_key_file(self.path / f"{self._ids.new('mail')}.eml", content)


def message_of(mail: Mail, sender: str, clock: Clock) -> EmailMessage:
    """Raises `InvalidInput` for what would break out of its header."""
    if not f"{mail.to}{mail.subject}".isprintable():
        raise InvalidInput("this is no e-mail address", field="to", next_step="check how it is written")
    message = EmailMessage()
    message["To"], message["From"], message["Subject"] = mail.to, sender, mail.subject
    message["Date"] = format_datetime(clock.now())
    message["Message-ID"] = make_msgid(domain=parseaddr(sender)[1].rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text)
    return message
