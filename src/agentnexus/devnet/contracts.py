"""Our contracts on the development chain: who has which part in them, and money for gas."""

from __future__ import annotations

import re
from collections.abc import Callable

from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.rails.evm.deployment import Design, Manifest, deploy

PAYMASTER_DEPOSIT_WEI = 100 * 10**18


def development_design(chain: DevelopmentChain) -> Design:
    """The deployer administers; the relayer, whose key the API has, does everything that services do."""
    deployer, relayer = chain.accounts["deployer"].address, chain.accounts["relayer"].address
    return Design(
        token=chain.usdc.reference,
        admin=deployer,
        operator=relayer,
        arbiter=deployer,
        policy_signer=relayer,
        fee_recipient=deployer,
        admin_delay_seconds=0,
    )


async def deploy_contracts(chain: DevelopmentChain, tell: Callable[[str], None] = lambda _line: None) -> Manifest:
    """Deploy what is not there; raises `Unavailable` without EntryPoint's package (``npm ci``)."""
    signer = chain.accounts["deployer"].signer
    return await deploy(
        chain.rpc,
        chain.network,
        signer,
        development_design(chain),
        paymaster_deposit_wei=PAYMASTER_DEPOSIT_WEI,
        tell=tell,
    )


def describe_contracts(manifest: Manifest | None) -> dict[str, object]:
    """Addresses by name (``account_factory``); nothing where nothing could be deployed."""
    addresses = manifest.addresses() if manifest else {}
    return {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): address for name, address in addresses.items()}
