"""Whose gas our facilitator pays, from the settings."""

from __future__ import annotations

from ipaddress import ip_address

from agentnexus.bootstrap.ground import Chain
from agentnexus.core.errors import InvalidInput
from agentnexus.markets.x402.sponsor import SponsorLimits
from agentnexus.platform.settings import Environment, Settings
from agentnexus.rails.evm.encoding import address

# Of a public facilitator: some hundred payments of one payer and some thousand of all.
PRODUCTION_MINIMUM = "0.001"
PRODUCTION_GAS_PER_PAYER_HOUR = 20_000_000
PRODUCTION_GAS_PER_HOUR = 400_000_000
OWN, ANY = "own", "any"


def sponsor_limits(settings: Settings, chain: Chain, host: str) -> SponsorLimits:
    """What was set, else what suits the environment. Raises `InvalidInput` for what cannot be read.

    Only the local economy is open to everybody, and only while nobody else can reach it at `host`.
    """
    is_local = settings.environment is Environment.LOCAL and is_loopback(host)
    minimum = settings.sponsored_minimum or ("0" if is_local else PRODUCTION_MINIMUM)
    return SponsorLimits(
        payees=_payees(settings, chain, settings.sponsored_payees or (ANY if is_local else OWN)),
        minimum=chain.usdc.parse(minimum).atomic,
        gas_per_payment=settings.sponsored_gas_per_payment,
        gas_per_payer_hour=_budget(settings.sponsored_gas_per_payer_hour, is_local, PRODUCTION_GAS_PER_PAYER_HOUR),
        gas_per_hour=_budget(settings.sponsored_gas_per_hour, is_local, PRODUCTION_GAS_PER_HOUR),
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _payees(settings: Settings, chain: Chain, wanted: str) -> frozenset[str] | None:
    if wanted == ANY:
        return None
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if OWN in names and settings.seller_keys is None:
        raise InvalidInput(
            "the facilitator does not know whose payments it shall pay the gas of",
            next_step="set NEXUS_SPONSORED_PAYEES to addresses or any, or NEXUS_SELLER_KEYS",
            field="sponsored_payees",
        )
    own = {signer.public_id for signer in chain.sellers(settings.seller_keys)} if OWN in names else set()
    payees = own | {address(name, field="sponsored_payees") for name in names if name != OWN}
    if not payees:
        raise InvalidInput(
            "sponsored_payees names nobody", next_step="name addresses, own or any", field="sponsored_payees"
        )
    return frozenset(payees)


def _budget(chosen: int | None, is_local: bool, otherwise: int) -> int | None:
    if chosen is None:
        return None if is_local else otherwise
    return chosen or None
