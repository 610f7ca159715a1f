"""What listed agents cost on Solana: the same number of USDC, to one wallet, beside their price on EVM."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from x402.schemas import PaymentRequirements

from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Money
from agentnexus.marketplace.listings.model import Listing
from agentnexus.markets.x402.facilitator_client import FacilitatorClient
from agentnexus.platform.logs import log
from agentnexus.platform.settings import Settings

RETRY_SECONDS = 2.0


class SolanaPrices:
    """Prices to `solana_pay_to`, as soon as the facilitator has said who pays the network's fee there."""

    def __init__(self, settings: Settings, facilitator: FacilitatorClient) -> None:
        self._settings = settings
        self._facilitator = facilitator
        self._fee_payer = ""

    def beside(self, listing: Listing) -> Sequence[PaymentRequirements]:
        """What to ask beside the listing's own requirements; nothing while it is not known, or not wanted."""
        pay_to = self._settings.solana_pay_to
        if not self._fee_payer or pay_to is None:
            return ()
        from agentnexus.markets.x402.svm.pricing import exact_on_solana
        from agentnexus.rails.solana.networks import network_by_name

        usdc = network_by_name(self._settings.solana_network).usdc
        price = listing.price
        if (price.asset.symbol, price.asset.decimals) != (usdc.symbol, usdc.decimals):
            return ()
        return (exact_on_solana(Money(usdc, price.atomic), pay_to, fee_payer=self._fee_payer),)

    async def learn(self) -> bool:
        """Ask the facilitator until it answers; whether anything can be asked on Solana.

        Raises `InvalidInput` for an address or a network that is none, `Unavailable` when the parts are missing.
        """
        if self._settings.solana_pay_to is None:
            return False
        try:
            from agentnexus.markets.x402.svm.pricing import fee_payer_of
            from agentnexus.rails.solana.networks import network_by_name
            from agentnexus.rails.solana.programs import public_key
        except ImportError as error:
            raise Unavailable(
                "the Solana parts are not installed", next_step="install them: uv sync --extra solana"
            ) from error
        public_key(self._settings.solana_pay_to, field="solana_pay_to")
        network = network_by_name(self._settings.solana_network).caip2
        while True:
            try:
                supported = await self._facilitator.fetch_supported()
                break
            except Unavailable as error:
                log.info("selling.waits_for_facilitator", reason=error.message)
                await asyncio.sleep(RETRY_SECONDS)
        try:
            self._fee_payer = fee_payer_of(supported, network)
        except Unavailable as error:
            log.warning("selling.not_on_solana", reason=error.message, next_step=error.next_step)
        return bool(self._fee_payer)
