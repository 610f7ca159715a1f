"""The treasury of prepaid accounts on Solana: one wallet that receives deposits and sends withdrawals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from solders.pubkey import Pubkey
from solders.signature import Signature

from agentnexus.bootstrap.ground import Ground
from agentnexus.bootstrap.wallet_files import solana_signer
from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.core.ports import Clock
from agentnexus.escrow.ports import SeenDeparture, SeenDeposit
from agentnexus.rails.solana.checked import CheckedSolanaRpc
from agentnexus.rails.solana.departures import find_departure
from agentnexus.rails.solana.deposits import DepositVerifier
from agentnexus.rails.solana.networks import network_by_name
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.wallet import SolanaRail
from agentnexus.rails.solana.watch import DepositWatcher

WATCHER = "treasury"


@dataclass(frozen=True, slots=True)
class SolanaTreasury:
    """Implements `escrow.ports.Treasury`."""

    rail: SolanaRail
    network: str
    address: str
    assets: Sequence[Asset]
    verifier: DepositVerifier
    clock: Clock
    claim_within: timedelta
    watchers: Mapping[str, DepositWatcher]

    async def deposit(self, signature: str, sender: str) -> SeenDeposit:
        """Final, without error, from `sender`, of an asset we take, and not too old."""
        oldest = self.clock.now() - self.claim_within
        seen = await self.verifier.verify_deposit(signature, sender=sender, not_before=oldest)
        return SeenDeposit(seen.signature, seen.sender, seen.amount, seen.sent_at)

    async def departure(self, signature: str) -> SeenDeparture:
        """Final and without error, of one asset."""
        seen = await find_departure(self.verifier, signature)
        return SeenDeparture(seen.signature, seen.receiver, seen.amount, await self.rail.sent_as(seen.signature))

    async def arrived(self, asset: Asset) -> Money:
        watcher = self.watchers[asset.caip19]
        await watcher.poll()
        return await watcher.total()

    async def arrivals(self, asset: Asset, limit: int) -> Sequence[SeenDeposit]:
        found = await self.watchers[asset.caip19].newest(limit)
        return [SeenDeposit(each.signature, each.sender, each.amount, each.sent_at) for each in found]

    def is_wallet(self, address: str) -> bool:
        try:
            return Pubkey.from_string(address).is_on_curve()
        except ValueError:
            return False

    def proves(self, wallet: str, message: str, signature: str) -> bool:
        """Ed25519 over the text, as wallets sign messages."""
        try:
            return Signature.from_string(signature).verify(Pubkey.from_string(wallet), message.encode())
        except ValueError:
            return False


@asynccontextmanager
async def open_treasury(ground: Ground, claim_within: timedelta) -> AsyncIterator[SolanaTreasury]:
    """Raises `InvalidInput` or `WrongNetwork` for keys and addresses that do not belong here."""
    settings = ground.settings
    if settings.solana_rpc_url is None or settings.treasury_keypair is None:
        raise Unavailable("no treasury is configured", next_step="set NEXUS_SOLANA_RPC_URL and NEXUS_TREASURY_KEYPAIR")
    network = network_by_name(settings.solana_network)
    signer = solana_signer(settings.treasury_keypair, network, settings.key_password_file)
    fees = settings.treasury_fee_keypair
    fee_payer = None if fees is None else solana_signer(fees, network, settings.key_password_file)
    async with CheckedSolanaRpc(settings.solana_rpc_url, network) as rpc:
        sender = TransactionSender(ground.database, rpc, network, clock=ground.clock)
        rail = SolanaRail(sender, signer, fee_payer=fee_payer, opens_accounts=False)
        assets = (network.usdc, network.native)
        verifier = DepositVerifier(rpc, network, rail.address, assets)
        watchers = {
            asset.caip19: DepositWatcher(ground.database, rpc, network, asset, rail.address, name=WATCHER, start_slot=0)
            for asset in assets
        }
        yield SolanaTreasury(rail, network.caip2, rail.address, assets, verifier, ground.clock, claim_within, watchers)
