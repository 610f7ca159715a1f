"""Named Solana development accounts and mints. Their keys are known to the whole world: play money only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from agentnexus.devnet.accounts import ACCOUNT_NAMES
from agentnexus.rails.solana.networks import DEVNET, NetworkKind
from agentnexus.rails.solana.signer import DEVELOPMENT_MNEMONIC, LocalSigner

SOLANA_ACCOUNT_NAMES = (*ACCOUNT_NAMES, "treasury")
USDC_MINT = Pubkey.from_string(DEVNET.usdc_mint)
USDC_DECIMALS = 6
# Neither may hold anything at the start: one shows what an empty wallet meets, the other what deposits do.
UNFUNDED_NAMES = ("outsider", "treasury")


@dataclass(frozen=True, slots=True)
class SolanaAccount:
    """One account. `signer` is for our rails, `keypair` for other people's tools."""

    name: str
    keypair: Keypair = field(repr=False)

    @property
    def public_key(self) -> Pubkey:
        return self.keypair.pubkey()

    @property
    def address(self) -> str:
        return str(self.keypair.pubkey())

    @property
    def signer(self) -> LocalSigner:
        return LocalSigner(self.keypair.secret(), NetworkKind.TESTNET)


@cache
def solana_accounts() -> Mapping[str, SolanaAccount]:
    """All accounts by name: the development phrase at the paths where Solana wallets look."""
    seed = hashlib.pbkdf2_hmac("sha512", DEVELOPMENT_MNEMONIC.encode(), b"mnemonic", 2048)
    return MappingProxyType(
        {
            name: SolanaAccount(name, Keypair.from_seed_and_derivation_path(seed, f"m/44'/501'/{index}'/0'"))
            for index, name in enumerate(SOLANA_ACCOUNT_NAMES)
        }
    )


@cache
def fee_mint_keypair() -> Keypair:
    """The address of the Token-2022 development mint, which keeps a fee of every transfer."""
    return Keypair.from_seed(hashlib.sha256(b"agentnexus development mint: token-2022").digest())
