"""The ways to sign in, put together for the API process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter

from agentnexus.api.login_routes import login_routes
from agentnexus.api.mail_routes import mail_routes
from agentnexus.api.passkey_routes import passkey_routes
from agentnexus.api.session_routes import session_routes
from agentnexus.api.signing_in import Door
from agentnexus.bootstrap.gas import load_contracts
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.core.errors import InvalidInput
from agentnexus.identity.caller import Callers
from agentnexus.identity.devices import Devices
from agentnexus.identity.limits import Limiter
from agentnexus.identity.mail_codes import MailLogin
from agentnexus.identity.notices import Notices
from agentnexus.identity.passkeys import PasskeyLogin
from agentnexus.identity.session import Sessions
from agentnexus.identity.sites import Sites
from agentnexus.identity.tokens import Tokens
from agentnexus.identity.wallets import Verify, WalletLogin
from agentnexus.platform.mail import Mailer, MailFolder, SmtpMailer
from agentnexus.platform.sealing import Sealer
from agentnexus.platform.settings import Environment, Settings
from agentnexus.rails.evm.contracts.signatures import verify_signature
from agentnexus.web.adapters.sign_in import HouseSignIn
from agentnexus.web.doors import SignInDoor


@dataclass(frozen=True, slots=True)
class SigningIn:
    """Who comes in, and how."""

    door: Door
    wallets: WalletLogin
    passkeys: PasskeyLogin
    mail: MailLogin | None
    mail_folder: Path | None = None

    def routers(self) -> Sequence[APIRouter]:
        return (
            login_routes(self.wallets, self.door),
            passkey_routes(self.passkeys, self.door),
            mail_routes(self.mail, self.door),
            session_routes(self.passkeys, self.door),
        )

    def page_door(self) -> SignInDoor:
        return HouseSignIn(self.door, self.passkeys, self.mail, self.mail_folder)


def open_signing_in(ground: Ground, chain: Chain, callers: Callers, tokens: Tokens, limiter: Limiter) -> SigningIn:
    """All ways that the settings allow."""
    settings = ground.settings
    sites = Sites(settings.api_url or "", local=_is_local(ground))
    parts = ground.database, tokens, ground.clock, ground.entropy
    mailer = open_mailer(ground)
    mail = None if mailer is None else open_mail_login(ground, tokens, mailer)
    notices = None
    if mailer is not None and mail is not None:
        notices = Notices(mailer, mail.address_of, name=_name(settings), url=settings.api_url or "")
    sessions = Sessions(callers, tokens, sites, Devices(ground.database, ground.entropy), notices)
    return SigningIn(
        Door(sessions, limiter),
        WalletLogin(*parts, chain_id=settings.evm_chain_id, verify=account_verifier(ground, chain)),
        PasskeyLogin(*parts),
        mail,
        mail_folder(settings) if settings.smtp_url is None and _is_local(ground) else None,
    )


def open_mailer(ground: Ground) -> Mailer | None:
    """None where no mail can be sent: a mail server is configured, or a development node writes files."""
    settings = ground.settings
    if settings.smtp_url is not None:
        if settings.mail_from is None:
            raise InvalidInput("mail_from is not set", next_step="set NEXUS_MAIL_FROM", field="mail_from")
        return SmtpMailer(settings.smtp_url.get_secret_value(), settings.mail_from)
    return MailFolder(mail_folder(settings), ground.clock) if _is_local(ground) else None


def open_mail_login(ground: Ground, tokens: Tokens, mailer: Mailer) -> MailLogin:
    """Codes that go out by this mailer."""
    return MailLogin(
        ground.database,
        tokens,
        mailer,
        Sealer.load_or_create(ground.settings.home / "sealing-key", ground.entropy),
        clock=ground.clock,
        entropy=ground.entropy,
        ids=ground.ids,
        name=_name(ground.settings),
    )


def _name(settings: Settings) -> str:
    """What this node calls itself in letters."""
    return urlsplit(settings.api_url or "").netloc or "AgentNexus"


def mail_folder(settings: Settings) -> Path:
    """Where a development node without a mail server leaves its messages."""
    return settings.home / "mail"


def _is_local(ground: Ground) -> bool:
    return ground.settings.environment is Environment.LOCAL


def account_verifier(ground: Ground, chain: Chain) -> Verify:
    """Asks smart accounts on our chain; those not made yet only where they are of our own factory."""

    async def verify(address: str, digest: bytes, signature: bytes) -> bool:
        contracts = load_contracts(ground)  # may be deployed while we run
        factories = () if contracts is None else (contracts.address("AccountFactory"),)
        return await verify_signature(chain.sender.rpc, address, digest, signature, factories=factories)

    return verify
