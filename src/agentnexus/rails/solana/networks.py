"""Which Solana clusters carry real money, told apart by their genesis hash, and the key check that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from solders.pubkey import Pubkey

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset
from agentnexus.rails.solana.errors import WrongNetwork
from agentnexus.rails.solana.programs import public_key

# CAIP-2 allows 32 characters, a genesis hash has 43 or 44.
_CAIP2_REFERENCE_LENGTH = 32
SOL_DECIMALS = 9


class NetworkKind(StrEnum):
    """What a cluster's money is worth. A development chain poses as devnet, so it is a test network as well."""

    MAINNET = "mainnet"
    TESTNET = "testnet"


@dataclass(frozen=True, slots=True)
class Network:
    """One cluster as we know it.

    Args:
        genesis_hash: its identity.
        kind: what its money is worth.
        name: x402 v1 name, e.g. ``solana-devnet``.
        usdc_mint: Circle's USDC there.
        slot_seconds: usual time between blocks; polling follows it.
    """

    genesis_hash: str
    kind: NetworkKind
    name: str
    usdc_mint: str
    slot_seconds: float = 0.4

    @property
    def caip2(self) -> str:
        return f"solana:{self.genesis_hash[:_CAIP2_REFERENCE_LENGTH]}"

    @property
    def native(self) -> Asset:
        """SOL (SLIP-44 501)."""
        return Asset("SOL", SOL_DECIMALS, f"{self.caip2}/slip44:501")

    @property
    def usdc(self) -> Asset:
        return self.token(self.usdc_mint)

    def token(self, mint: str | Pubkey, *, symbol: str = "USDC", decimals: int = 6) -> Asset:
        """An SPL token on this cluster, of either token program; USDC unless told otherwise."""
        return Asset(symbol, decimals, f"{self.caip2}/token:{public_key(mint, field='asset')}")


_TEST_USDC = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"
MAINNET = Network(
    "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d",
    NetworkKind.MAINNET,
    "solana",
    "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
)
DEVNET = Network("EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG", NetworkKind.TESTNET, "solana-devnet", _TEST_USDC)
TESTNET = Network("4uhcVJyU9pJkvQyS88uRDiswHXSCkY3zQawwpjk2NsNY", NetworkKind.TESTNET, "solana-testnet", _TEST_USDC)
NETWORKS: tuple[Network, ...] = (MAINNET, DEVNET, TESTNET)


def network_by_name(text: object) -> Network:
    """Read ``solana:EtWTR…`` (x402 v2), ``solana-devnet`` (v1) or a genesis hash. Raises `InvalidInput`."""
    for network in NETWORKS:
        if text in (network.caip2, network.name, network.genesis_hash):
            return network
    raise InvalidInput(
        f"not a Solana network: {str(text)[:100]!r}",
        field="network",
        next_step="write it as one of " + ", ".join(network.caip2 for network in NETWORKS),
    )


def require_kind(key_kind: NetworkKind, network: Network, who: str) -> None:
    """A key made for one kind of network never signs on another; raises `WrongNetwork`."""
    if key_kind is not network.kind:
        raise WrongNetwork(
            f"{who} is a {key_kind} key and {network.caip2} is a {network.kind} network",
            next_step=f"use a key made for {network.kind}, or the network the key belongs to",
            key=str(key_kind),
            network=network.caip2,
        )
