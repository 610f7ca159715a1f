"""The ways to sign in, put together for the API process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from agentnexus.api.login_routes import login_routes
from agentnexus.api.passkey_routes import passkey_routes
from agentnexus.api.session_routes import session_routes
from agentnexus.api.signing_in import Door
from agentnexus.bootstrap.gas import load_contracts
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.passkeys import PasskeyLogin
from agentnexus.identity.session import Sessions
from agentnexus.identity.sites import Sites
from agentnexus.identity.tokens import Tokens
from agentnexus.identity.wallets import Verify, WalletLogin
from agentnexus.platform.settings import Environment
from agentnexus.rails.evm.contracts.signatures import verify_signature


@dataclass(frozen=True, slots=True)
class SigningIn:
    """Who comes in, and how."""

    door: Door
    wallets: WalletLogin
    passkeys: PasskeyLogin

    def routers(self) -> Sequence[APIRouter]:
        return (
            login_routes(self.wallets, self.door),
            passkey_routes(self.passkeys, self.door),
            session_routes(self.passkeys, self.door),
        )


def open_signing_in(ground: Ground, chain: Chain, callers: Callers, tokens: Tokens, limiter: Limiter) -> SigningIn:
    """All ways that the settings allow."""
    settings = ground.settings
    sites = Sites(settings.api_url or "", local=settings.environment is Environment.LOCAL)
    parts = ground.database, tokens, ground.clock, ground.entropy
    return SigningIn(
        Door(Sessions(callers, tokens, sites), limiter),
        WalletLogin(*parts, chain_id=settings.evm_chain_id, verify=account_verifier(ground, chain)),
        PasskeyLogin(*parts),
    )


def account_verifier(ground: Ground, chain: Chain) -> Verify:
    """Asks smart accounts on our chain; those not made yet only where they are of our own factory."""

    async def verify(address: str, digest: bytes, signature: bytes) -> bool:
        contracts = load_contracts(ground)  # may be deployed while we run
        factories = () if contracts is None else (contracts.address("AccountFactory"),)
        return await verify_signature(chain.sender.rpc, address, digest, signature, factories=factories)

    return verify
