"""What every role starts with: settings, database, clock, and the configured EVM chain."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from pydantic import SecretStr

from agentnexus.bootstrap.wallet_files import evm_signer
from agentnexus.core.clock import SystemClock, SystemEntropy, TimeOrderedIds
from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.core.money import Asset, Rate
from agentnexus.core.ports import Clock, Entropy, Ids
from agentnexus.platform.database import Database
from agentnexus.platform.logs import log
from agentnexus.platform.settings import Settings
from agentnexus.rails.evm.checked import CheckedRpc
from agentnexus.rails.evm.networks import network_by_id
from agentnexus.rails.evm.proofs import ProvenPayment, find_payment
from agentnexus.rails.evm.signer import LocalSigner
from agentnexus.rails.evm.transactions import TransactionSender

CHAIN_START_SECONDS = 3.0  # what a start waits for a chain that it can do without for now
USDC_WORTH = "USDC is counted as one dollar"  # why its prices compare, and why it counts one for one across networks
TRANSACTION = re.compile(r"^0x[0-9a-fA-F]{64}$")


@dataclass(frozen=True, slots=True)
class Ground:
    """Shared by everything in a process."""

    settings: Settings
    database: Database
    clock: Clock = field(default_factory=SystemClock)
    ids: Ids = field(default_factory=TimeOrderedIds)
    entropy: Entropy = field(default_factory=SystemEntropy)


@asynccontextmanager
async def open_ground(settings: Settings | None = None) -> AsyncIterator[Ground]:
    """Raises `Unavailable` when there is no database to use."""
    settings = settings or Settings()
    if settings.database_url is None:
        raise Unavailable(
            "no database is configured", next_step="run `nexus up`, or set DATABASE_URL and run `nexus db`"
        )
    database = await Database.open(settings.database_url, max_size=settings.database_pool_max)
    try:
        yield Ground(settings, database)
    finally:
        await database.close()


def dollar(asset: Asset, clock: Clock) -> Rate:
    """What one USDC is worth: by decree, so that no price feed can be away."""
    return Rate(asset, Decimal(1), USDC_WORTH, clock.now(), pegged=True)


@dataclass(frozen=True, slots=True)
class Chain:
    """The configured EVM chain and the one token that prices are in."""

    sender: TransactionSender
    usdc: Asset
    password_file: Path | None = None  # of encrypted key files

    def signer(self, key: SecretStr | None, what: str) -> LocalSigner:
        """The key as a signer for this chain's kind of network; raises `InvalidInput` when it is not configured."""
        if key is None:
            raise InvalidInput(
                f"{what} is not set", next_step=f"set NEXUS_{what.upper()} (`nexus up` does)", field=what
            )
        return evm_signer(key.get_secret_value(), self.sender.network.kind, self.password_file)

    def sellers(self, keys: SecretStr | None) -> list[LocalSigner]:
        """The sellers' keys, in the order of the built-in agents."""
        if keys is None:
            raise InvalidInput("seller_keys is not set", next_step="set NEXUS_SELLER_KEYS", field="seller_keys")
        kind = self.sender.network.kind
        given = [key.strip() for key in keys.get_secret_value().split(",") if key.strip()]
        return [evm_signer(key, kind, self.password_file) for key in given]

    async def paid(self, network: str, transaction: str, payer: str, payee: str) -> ProvenPayment | None:
        """What that transaction moved of our USDC from payer to payee on this chain; None when it did not."""
        if network != self.sender.network.caip2 or not TRANSACTION.match(transaction):
            return None
        return await find_payment(
            self.sender.rpc, self.sender.network, self.usdc.reference, transaction, payer=payer, payee=payee
        )


@asynccontextmanager
async def open_chain(ground: Ground, *, required: bool = True) -> AsyncIterator[Chain]:
    """Connect and check that the node is on the configured chain; raises `Unavailable`, `WrongNetwork`.

    Args:
        required: False for what shall run, and say that something is missing, while the node is away. Nothing is asked
            of a node or sent to it before it has passed the same check later.
    """
    settings = ground.settings
    if settings.evm_rpc_url is None or settings.usdc is None:
        raise Unavailable("no EVM chain is configured", next_step="set NEXUS_EVM_RPC_URL and NEXUS_USDC_ADDRESS")
    network = network_by_id(settings.evm_chain_id)
    async with CheckedRpc(settings.evm_rpc_url, network) as rpc:
        try:
            async with asyncio.timeout(None if required else CHAIN_START_SECONDS):
                await rpc.check()
        except (Unavailable, TimeoutError) as error:
            if required:
                raise
            log.warning("chain.not_there", url=settings.evm_rpc_url, reason=str(error) or "no answer in time")
        sender = TransactionSender(ground.database, rpc, network, clock=ground.clock)
        yield Chain(sender, settings.usdc, settings.key_password_file)
