"""Users' wallets on the configured chain: their keys, who pays their gas, and who brings what they send on chain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal

from fastapi import APIRouter

from agentnexus.bootstrap.gas import load_contracts, open_paymaster
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import AMOUNT
from agentnexus.identity.passkeys import PasskeyLogin
from agentnexus.ledger.books import Books
from agentnexus.platform.sealing import Sealer
from agentnexus.rails.evm.fees import FeeLimits
from agentnexus.rails.evm.transactions import TransactionSender
from agentnexus.rails.evm.userops.self_bundler import BUNDLE_GAS_MAX, SelfBundler
from agentnexus.wallets.building import WalletChain
from agentnexus.wallets.keys import SealedKeys
from agentnexus.wallets.routes import no_wallet_routes, wallet_routes
from agentnexus.wallets.service import Wallets


@asynccontextmanager
async def open_wallets(ground: Ground, chain: Chain, books: Books) -> AsyncIterator[Wallets | None]:
    """None where our contracts are not deployed, or no key brings operations on chain. Starts without the chain."""
    settings, manifest = ground.settings, load_contracts(ground)
    if manifest is None or settings.relayer_key is None:
        yield None
        return
    shared = chain.sender
    limits = replace(FeeLimits(), maximum_gas=BUNDLE_GAS_MAX)
    sender = TransactionSender(ground.database, shared.rpc, shared.network, clock=ground.clock, limits=limits)
    sealer = Sealer.load_or_create(settings.home / "sealing-key", ground.entropy)
    async with SelfBundler(sender, chain.signer(settings.relayer_key, "relayer_key")) as bundler:
        yield Wallets(
            ground.database,
            WalletChain(
                shared.rpc, shared.network, chain.usdc, manifest.address("AccountFactory"), manifest.address("Escrow")
            ),
            bundler,
            SealedKeys(sealer, shared.network.kind, ground.entropy),
            open_paymaster(ground, chain, books),
            clock=ground.clock,
            ids=ground.ids,
            coin_usd=_coin_usd(settings.coin_usd),
        )


def routes_of(wallets: Wallets | None, passkeys: PasskeyLogin) -> APIRouter:
    """``/wallet/…``, or what says that there are none."""
    return no_wallet_routes() if wallets is None else wallet_routes(wallets, passkeys.of)


def _coin_usd(text: str | None) -> Decimal | None:
    if text is None:
        return None
    if not AMOUNT.fullmatch(text) or Decimal(text) <= 0:
        raise InvalidInput(
            f"{text[:50]!r} is no price of a coin", field="coin_usd", next_step="set NEXUS_COIN_USD to a number"
        )
    return Decimal(text)
