"""The wallet on Solana that pays x402 sellers there: its rail, what arrives in it, and what the chain says it has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agentnexus.bootstrap.ground import Ground
from agentnexus.bootstrap.wallet_files import solana_signer
from agentnexus.core.errors import Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.hiring.cashier import Wallet
from agentnexus.ledger.books import Books
from agentnexus.platform.database import Connection
from agentnexus.rails.evm.networks import NetworkKind as EvmKind
from agentnexus.rails.evm.networks import network_by_id
from agentnexus.rails.solana.checked import CheckedSolanaRpc
from agentnexus.rails.solana.deposits import Deposit
from agentnexus.rails.solana.errors import WrongNetwork
from agentnexus.rails.solana.networks import Network, NetworkKind, network_by_name
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.wallet import SolanaRail
from agentnexus.rails.solana.watch import DepositWatcher

WATCHER = "buyer"


@dataclass(frozen=True, slots=True)
class SolanaBuyer:
    """What pays in USDC on the configured cluster."""

    rail: SolanaRail
    wallet: Wallet
    usdc: Asset
    watcher: DepositWatcher

    @property
    def account(self) -> str:
        """The ledger account of the wallet."""
        return self.wallet.account(self.usdc)

    async def book_deposits(self, books: Books) -> int:
        """Book what arrived and is final; how many deposits that was."""

        async def book(_connection: Connection, deposit: Deposit) -> None:
            # Its own transaction, repeatable by key, as on EVM: a crash between the two finds it booked.
            key = f"deposited:{self.usdc.network}:{deposit.signature}"
            memo = f"from {deposit.sender or 'several senders'}"
            await books.deposit(key, self.account, deposit.amount, correlation=deposit.signature, memo=memo)

        return len(await self.watcher.poll(book))

    async def observed(self) -> dict[str, Money]:
        """What the chain says the wallet has, by ledger account."""
        return {self.account: await self.rail.balance(self.usdc)}


@asynccontextmanager
async def open_solana_buyer(ground: Ground) -> AsyncIterator[SolanaBuyer]:
    """Needs ``solana_rpc_url`` and ``solana_buyer_keypair``.

    Raises `WrongNetwork` for a key or a cluster of another kind than the EVM chain: play money must not count as money.
    """
    settings = ground.settings
    if settings.solana_rpc_url is None or settings.solana_buyer_keypair is None:
        raise Unavailable(
            "no wallet on Solana is configured", next_step="set NEXUS_SOLANA_RPC_URL and NEXUS_SOLANA_BUYER_KEYPAIR"
        )
    network = network_by_name(settings.solana_network)
    _require_same_worth(network, settings.evm_chain_id)
    signer = solana_signer(settings.solana_buyer_keypair, network, settings.key_password_file)
    async with CheckedSolanaRpc(settings.solana_rpc_url, network) as rpc:
        rail = SolanaRail(TransactionSender(ground.database, rpc, network, clock=ground.clock), signer)
        watcher = DepositWatcher(ground.database, rpc, network, network.usdc, rail.address, name=WATCHER, start_slot=0)
        yield SolanaBuyer(rail, Wallet(rail, rail.address, frozenset({network.caip2})), network.usdc, watcher)


def _require_same_worth(network: Network, chain_id: int) -> None:
    chain = network_by_id(chain_id)
    if (network.kind is NetworkKind.MAINNET) != (chain.kind is EvmKind.MAINNET):
        raise WrongNetwork(
            f"USDC on {network.caip2} ({network.kind}) and on {chain.caip2} ({chain.kind}) are not worth the same",
            next_step="use two networks with real money or two without, or leave NEXUS_SOLANA_BUYER_KEYPAIR unset",
            network=network.caip2,
        )
