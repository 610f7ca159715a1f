"""Named development accounts. Their keys are known to the whole world and work on local chains only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

from agentnexus.rails.evm.encoding import checksum_address
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.signer import DEVELOPMENT_MNEMONIC, LocalSigner, derive_key

ACCOUNT_NAMES = (
    "deployer",
    "relayer",
    "buyer",
    "seller-1",
    "seller-2",
    "seller-3",
    "seller-4",
    "seller-5",
    "seller-6",
    "alice",
    "bob",
    "outsider",
)


@dataclass(frozen=True, slots=True)
class DevelopmentAccount:
    """One account: `address` in lower case, `signer` for our rails, `private_key` (hex) for other people's tools."""

    name: str
    address: str
    private_key: str = field(repr=False)
    signer: LocalSigner = field(repr=False)

    @property
    def checksum_address(self) -> str:
        return checksum_address(self.address)


@cache
def development_accounts() -> Mapping[str, DevelopmentAccount]:
    """All accounts by name, in the order of their derivation index."""
    return MappingProxyType({name: _account(name, index) for index, name in enumerate(ACCOUNT_NAMES)})


def _account(name: str, index: int) -> DevelopmentAccount:
    key = derive_key(DEVELOPMENT_MNEMONIC, index)
    signer = LocalSigner(key, NetworkKind.LOCAL)
    return DevelopmentAccount(name, signer.public_id, "0x" + key.hex(), signer)
