"""A real mail server on this machine, with TLS, passwords and moods."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from email.policy import default
from ipaddress import ip_address
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from agentnexus.platform.process import free_port

USER, PASSWORD = "node", "p@ss/word"


@dataclass
class Post:
    """What arrived, and what is refused."""

    port: int = 0
    envelopes: list[Envelope] = field(default_factory=list)
    signed_in: list[bool] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    whole: bool = False
    refuse_recipient: str = ""
    refuse_data: str = ""

    @property
    def messages(self) -> list[Message]:
        return [
            message_from_bytes(bytes(each.content or b"").replace(b"\r\n", b"\n"), policy=default)
            for each in self.envelopes
        ]

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, to: str, _o: list[str]) -> str:
        if self.refuse_recipient:
            return self.refuse_recipient
        envelope.rcpt_tos.append(to)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refuse_data:
            return self.refuse_data
        self.envelopes.append(envelope)
        self.signed_in.append(bool(session.authenticated))
        self.encrypted.append(self.whole or session.ssl is not None)
        return "250 OK"


@contextmanager
def mail_server(*, tls: ssl.SSLContext | None = None, whole: bool = False, auth: bool = False) -> Iterator[Post]:
    """`tls` offers STARTTLS, or with `whole` speaks it from the first byte; `auth` takes one user's password only."""
    post = Post(port=free_port(), whole=whole)

    def check(_server: SMTP, _session: Session, _envelope: Envelope, mechanism: str, data: object) -> AuthResult:
        assert isinstance(data, LoginPassword)
        right = (data.login.decode(), data.password.decode()) == (USER, PASSWORD)
        return AuthResult(success=right)

    settings: dict[str, object] = {}
    if tls is not None and not whole:
        settings |= {"tls_context": tls, "require_starttls": True}
    if auth:
        settings |= {"authenticator": check, "auth_required": True, "auth_require_tls": not whole}
    controller = Controller(post, hostname="127.0.0.1", port=post.port, ssl_context=tls if whole else None, **settings)
    controller.start()
    try:
        yield post
    finally:
        controller.stop()


def certificates(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(the server's, that of a client which trusts it) for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail of a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, SHA256())
    )
    path = folder / "mail.pem"
    pem = made.public_bytes(Encoding.PEM)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=pem.decode())
