"""The Solana half of our facilitator: its fee payers, its limits, and what it does between requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from agentnexus.bootstrap.ground import Ground
from agentnexus.bootstrap.sponsoring import ANY, is_loopback
from agentnexus.bootstrap.wallet_files import solana_signer
from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.markets.x402.sponsor import Sponsor, SponsorLimits
from agentnexus.markets.x402.svm.facilitator import SolanaFacilitator, lamport_limits
from agentnexus.markets.x402.svm.settle import TransferSettler
from agentnexus.markets.x402.svm.settlements import Settlements
from agentnexus.platform.logs import log
from agentnexus.platform.settings import Environment, Settings
from agentnexus.rails.solana.checked import CheckedSolanaRpc
from agentnexus.rails.solana.cluster import Cluster
from agentnexus.rails.solana.networks import network_by_name
from agentnexus.rails.solana.programs import public_key

KEPT_SECONDS = 7 * 86_400.0  # what has ended is told again so long; its blockhash lived for a minute
# Of a public facilitator: some two hundred payments of one payer and some four thousand of all.
PRODUCTION_LAMPORTS_PER_PAYER_HOUR = 2_000_000
PRODUCTION_LAMPORTS_PER_HOUR = 40_000_000


class SolanaSponsor:
    """A `SolanaFacilitator` with its upkeep."""

    def __init__(self, facilitator: SolanaFacilitator) -> None:
        self.facilitator = facilitator

    async def keep(self) -> None:
        """One round: bring to its end what a killed process left, forget what is over."""
        try:
            left = await self.facilitator.recover()
        except Unavailable as error:
            log.info("facilitator.waits_for_solana", reason=error.message)
            return
        forgotten = await self.facilitator.settler.settlements.purge(KEPT_SECONDS)
        if left or forgotten:
            log.info("facilitator.solana_kept", still_open=left, forgotten=forgotten)


@asynccontextmanager
async def open_sponsor(ground: Ground, host: str) -> AsyncIterator[SolanaSponsor]:
    """Settles on the configured cluster with the key of ``solana_sponsor_keypair``, for whom the settings say.

    Raises `InvalidInput` or `WrongNetwork` for keys and addresses that do not belong here.
    """
    settings = ground.settings
    if settings.solana_rpc_url is None or settings.solana_sponsor_keypair is None:
        raise Unavailable(
            "no fee payer on Solana is configured",
            next_step="set NEXUS_SOLANA_RPC_URL and NEXUS_SOLANA_SPONSOR_KEYPAIR",
        )
    network = network_by_name(settings.solana_network)
    signer = solana_signer(settings.solana_sponsor_keypair, network, settings.key_password_file)
    limits = solana_limits(settings, host)
    async with CheckedSolanaRpc(settings.solana_rpc_url, network) as rpc:
        settler = TransferSettler(Cluster(rpc), network.caip2, [signer], Settlements(ground.database), ground.clock)
        sponsor = Sponsor(ground.database, ground.clock, limits)
        yield SolanaSponsor(SolanaFacilitator(settler, [network.usdc], clock=ground.clock, sponsor=sponsor))


def solana_limits(settings: Settings, host: str) -> SponsorLimits:
    """Whose fees are paid: as on EVM, everybody's in the local economy only. Raises `InvalidInput`."""
    is_local = settings.environment is Environment.LOCAL and is_loopback(host)
    wanted = settings.solana_sponsored_payees or (ANY if is_local else "")
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if not names:
        raise InvalidInput(
            "the facilitator does not know whose payments on Solana it shall pay the fees of",
            next_step="set NEXUS_SOLANA_SPONSORED_PAYEES to addresses or any",
            field="solana_sponsored_payees",
        )
    payees = None
    if names != [ANY]:
        payees = frozenset(str(public_key(name, field="solana_sponsored_payees")).lower() for name in names)
    minimum = "0" if is_local else settings.sponsored_minimum
    return replace(
        lamport_limits(),
        payees=payees,
        minimum=network_by_name(settings.solana_network).usdc.parse(minimum or "0.001").atomic,
        gas_per_payer_hour=None if is_local else PRODUCTION_LAMPORTS_PER_PAYER_HOUR,
        gas_per_hour=None if is_local else PRODUCTION_LAMPORTS_PER_HOUR,
    )
