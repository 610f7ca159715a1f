"""Who signs for an account: the first byte of a signature says whose it is (`Kind` in ``Account.sol``)."""

from __future__ import annotations

from typing import Protocol

from agentnexus.rails.evm.contracts.paymaster import DUMMY_SIGNATURE
from agentnexus.rails.evm.signer import EvmSigner

ECDSA_KIND, PASSKEY_KIND, P256_KIND, SESSION_KIND = (bytes([kind]) for kind in range(4))


class OperationSigner(Protocol):
    """Signs user operations of one account.

    `dummy` stands for a signature while gas is estimated: as long as the real one, and never right.
    `extra_verification_gas` is what checking a real one costs beyond checking the dummy.
    """

    @property
    def dummy(self) -> bytes: ...

    @property
    def extra_verification_gas(self) -> int: ...

    async def sign(self, operation_hash: bytes) -> bytes: ...


class OwnerSigner:
    """The account's ECDSA owner; also a key that is its own account by EIP-7702."""

    kind = ECDSA_KIND
    extra_verification_gas = 0

    def __init__(self, signer: EvmSigner) -> None:
        self.signer = signer

    @property
    def dummy(self) -> bytes:
        return self.kind + DUMMY_SIGNATURE

    async def sign(self, operation_hash: bytes) -> bytes:
        return self.kind + await self.signer.sign(operation_hash)


class SessionSigner(OwnerSigner):
    """A session key. Its dummy is of no session, so the checks of its calls come on top of the estimate.

    Args:
        calls: how many calls an operation has at most; each costs a look at a permission and perhaps an allowance.
    """

    kind = SESSION_KIND

    def __init__(self, signer: EvmSigner, *, calls: int = 4) -> None:
        super().__init__(signer)
        self.extra_verification_gas = 25_000 + 16_000 * calls
