"""Names of networks: x402 v1 has its own words for chains, v2 uses CAIP-2."""

from __future__ import annotations

from agentnexus.core.errors import InvalidInput

SOLANA = "solana"
V1_CHAIN_IDS: dict[str, int] = {
    "abstract": 2741,
    "abstract-testnet": 11124,
    "avalanche": 43114,
    "avalanche-fuji": 43113,
    "base": 8453,
    "base-sepolia": 84532,
    "celo": 42220,
    "educhain": 656476,
    "ethereum": 1,
    "flare": 14,
    "iotex": 4689,
    "megaeth": 4326,
    "monad": 143,
    "monad-testnet": 10143,
    "peaq": 3338,
    "polygon": 137,
    "polygon-amoy": 80002,
    "sei": 1329,
    "sei-testnet": 1328,
    "skale-base-sepolia": 1444673419,
    "stable": 988,
    "stable-testnet": 2201,
    "story": 1513,
}
V1_SOLANA: dict[str, str] = {
    "solana": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
    "solana-devnet": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
    "solana-testnet": "solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z",
}
_TO_CAIP2 = {name: f"eip155:{chain_id}" for name, chain_id in V1_CHAIN_IDS.items()} | V1_SOLANA
_TO_V1 = {caip2: name for name, caip2 in _TO_CAIP2.items()}


def caip2(name: str) -> str:
    """CAIP-2 of a v1 name; a CAIP-2 id stays as it is. Raises `InvalidInput` for a word nobody knows."""
    if ":" in name:
        return name
    try:
        return _TO_CAIP2[name]
    except KeyError:
        raise InvalidInput(f"unknown x402 v1 network {name!r}", field="network") from None


def v1_name(network: str) -> str:
    """The v1 word for a CAIP-2 network; networks v1 never named (a local chain) keep their CAIP-2 id."""
    return _TO_V1.get(network, network)


def evm_chain_id(network: str) -> int:
    """Chain id of an ``eip155:<n>`` network; raises `InvalidInput` for any other family."""
    family, _, reference = network.partition(":")
    if family != "eip155" or not reference.isascii() or not reference.isdigit() or len(reference) > 32:
        raise InvalidInput(f"not an EVM network: {network!r}", field="network")
    return int(reference)


def family(network: str) -> str:
    """The namespace of a CAIP-2 id: ``eip155``, ``solana`` …"""
    return network.partition(":")[0]
