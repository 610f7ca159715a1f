"""The node's keys on the development chain, as the files that the roles read: buyer, prepaid treasury, fee payer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agentnexus.devnet.solana.accounts import solana_accounts
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain

BUYER, TREASURY, FEE_PAYER = "buyer", "treasury", "relayer"


def treasury_environment(chain: SolanaDevelopmentChain, home: Path) -> dict[str, str]:
    """Settings of roles that buy there and keep prepaid accounts; key files are written below `home` at first use."""
    return {
        "NEXUS_SOLANA_RPC_URL": chain.rpc_url,
        "NEXUS_SOLANA_NETWORK": chain.network.name,
        "NEXUS_SOLANA_BUYER_KEYPAIR": str(_key_file(home, BUYER)),
        "NEXUS_TREASURY_KEYPAIR": str(_key_file(home, TREASURY)),
        "NEXUS_TREASURY_FEE_KEYPAIR": str(_key_file(home, FEE_PAYER)),
    }


def describe(chain: SolanaDevelopmentChain) -> Mapping[str, object]:
    """What programs need to use the chain: addresses, and development keys as the JSON arrays Solana tools read."""
    return {
        "rpc_url": chain.rpc_url,
        "websocket_url": chain.websocket_url,
        "network": chain.network.caip2,
        "usdc": chain.usdc.reference,
        "treasury": solana_accounts()[TREASURY].address,
        "accounts": {
            name: {"address": account.address, "keypair": list(bytes(account.keypair))}
            for name, account in solana_accounts().items()
        },
    }


def _key_file(home: Path, name: str) -> Path:
    path = home / f"solana-{name}.json"
    if not path.exists():
        solana_accounts()[name].signer.write_keypair_file(path)
    return path
