"""EIP-712 domains and the final digest, packed by hand because hashing is on the path of every payment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from agentnexus.rails.evm.encoding import keccak, word

_DOMAIN_TYPEHASH = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")


@dataclass(frozen=True, slots=True)
class Domain:
    """What a typed signature is bound to. `contract` is a lower-case address."""

    name: str
    version: str
    chain_id: int
    contract: str

    @property
    def separator(self) -> bytes:
        return _separator(self)

    def digest(self, struct_hash: bytes) -> bytes:
        """The 32 bytes that are signed."""
        return keccak(b"\x19\x01" + _separator(self) + struct_hash)


@lru_cache(maxsize=256)
def _separator(domain: Domain) -> bytes:
    return keccak(
        _DOMAIN_TYPEHASH
        + keccak(domain.name.encode())
        + keccak(domain.version.encode())
        + word(domain.chain_id)
        + word(domain.contract)
    )
