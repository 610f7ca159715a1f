"""Which EVM networks carry real money, which play money, and the check that a key is used only on its own kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset
from agentnexus.rails.evm.encoding import address
from agentnexus.rails.evm.errors import WrongNetwork

# CAIP-2 allows 32 characters; a seller may write anything, and Python reads digits of every script.
_CAIP2 = re.compile(r"eip155:([0-9]{1,32})")


class NetworkKind(StrEnum):
    MAINNET = "mainnet"
    TESTNET = "testnet"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Network:
    """One chain as we know it.

    Args:
        chain_id: EIP-155 id.
        kind: what its money is worth.
        name: x402 v1 name, e.g. ``base-sepolia``.
        native_symbol: what gas is paid in.
        block_seconds: usual time between blocks; polling and fee caching follow it.
        confirmations: blocks after which we call a payment final, the including block counted.
        usdc: its issuer's contract, for whoever must not believe what somebody else says USDC is; "" where unknown.
    """

    chain_id: int
    kind: NetworkKind
    name: str
    native_symbol: str = "ETH"
    block_seconds: float = 2.0
    confirmations: int = 1
    usdc: str = ""

    @property
    def caip2(self) -> str:
        return f"eip155:{self.chain_id}"

    @property
    def trial_block(self) -> str:
        """The block to try calls on: a local chain makes none between transactions, so its latest may be long ago."""
        return "pending" if self.kind is NetworkKind.LOCAL else "latest"

    @property
    def native(self) -> Asset:
        """The asset gas is paid in (all listed networks use 18 decimals; SLIP-44 60 stands for "the native coin")."""
        return Asset(self.native_symbol, 18, f"{self.caip2}/slip44:60")

    def token(self, contract: str, *, symbol: str = "USDC", decimals: int = 6) -> Asset:
        """An ERC-20 on this network; USDC unless told otherwise."""
        return Asset(symbol, decimals, f"{self.caip2}/erc20:{address(contract, field='asset')}")


_MAIN, _TEST, _LOCAL = NetworkKind.MAINNET, NetworkKind.TESTNET, NetworkKind.LOCAL

NETWORKS: dict[int, Network] = {
    network.chain_id: network
    for network in (
        Network(
            1, _MAIN, "ethereum", block_seconds=12.0, confirmations=3, usdc="0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
        ),
        Network(10, _MAIN, "optimism", usdc="0x0b2c639c533813f4aa9d7837caf62653d097ff85"),
        Network(56, _MAIN, "bsc", "BNB", block_seconds=0.75, confirmations=3),
        Network(137, _MAIN, "polygon", "POL", confirmations=5, usdc="0x3c499c542cef5e3811e1192ce70d8cc03d5c3359"),
        Network(8453, _MAIN, "base", usdc="0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"),
        Network(42161, _MAIN, "arbitrum", block_seconds=0.25, usdc="0xaf88d065e77c8cc2239327c5edb3a432268e5831"),
        Network(43114, _MAIN, "avalanche", "AVAX", usdc="0xb97ef9ef8734c71904d8002f8b6bc66dd9c48a6e"),
        Network(97, _TEST, "bsc-testnet", "BNB"),
        Network(43113, _TEST, "avalanche-fuji", "AVAX"),
        Network(80002, _TEST, "polygon-amoy", "POL"),
        Network(84532, _TEST, "base-sepolia"),
        Network(421614, _TEST, "arbitrum-sepolia", block_seconds=0.25),
        Network(11155111, _TEST, "sepolia", block_seconds=12.0),
        Network(1337, _LOCAL, "local-1337", block_seconds=0.02),
        Network(31337, _LOCAL, "local", block_seconds=0.02),
    )
}


def network_by_id(chain_id: int) -> Network:
    """Raises `InvalidInput` for a chain nobody has told us the worth of: guessing "test" there could cost money."""
    try:
        return NETWORKS[chain_id]
    except KeyError:
        raise InvalidInput(
            f"chain {chain_id} is not a network this rail knows",
            field="chain_id",
            next_step="use one of " + ", ".join(str(known) for known in NETWORKS),
        ) from None


def network_by_name(text: object) -> Network:
    """Read ``eip155:8453`` (x402 v2) or ``base`` (v1)."""
    if isinstance(text, str):
        if numbered := _CAIP2.fullmatch(text):
            return network_by_id(int(numbered[1]))
        for network in NETWORKS.values():
            if network.name == text:
                return network
    raise InvalidInput(
        f"not an EVM network: {str(text)[:100]!r}", field="network", next_step="write it as eip155:<chain id>"
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
