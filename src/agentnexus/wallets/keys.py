"""Keys of the wallets that this node signs for: made here, sealed at rest, opened only to sign or to hand over."""

from __future__ import annotations

from agentnexus.core.ports import Entropy
from agentnexus.platform.sealing import Sealer
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.signer import LocalSigner, signer_from_hex


class SealedKeys:
    """Keys by the id of their wallet; a sealed one opens in no other wallet's place."""

    def __init__(self, sealer: Sealer, kind: NetworkKind, entropy: Entropy) -> None:
        self._sealer = sealer
        self._kind = kind
        self._entropy = entropy

    def make(self, wallet_id: str) -> tuple[str, str]:
        """(address, sealed text) of a fresh key."""
        secret = self._entropy.random_bytes(32)
        return LocalSigner(secret, self._kind).public_id, self._sealer.seal(secret.hex(), _place(wallet_id))

    def signer(self, wallet_id: str, sealed: str) -> LocalSigner:
        """Raises `NotAllowed` when another host's key file sealed it."""
        return signer_from_hex(self._sealer.open(sealed, _place(wallet_id)), self._kind)

    def reveal(self, wallet_id: str, sealed: str) -> str:
        """The key as hex text, for its owner."""
        return "0x" + self._sealer.open(sealed, _place(wallet_id))


def _place(wallet_id: str) -> str:
    return f"wallet:{wallet_id}"
