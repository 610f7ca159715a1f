"""Solana keys: in memory, in the JSON keypair file that Solana tools share, in our encrypted keystore, in a phrase."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.rails.solana.keystore import open_keystore, seal
from agentnexus.rails.solana.networks import Network, NetworkKind, require_kind

# The phrase every development tool starts with. Its keys are nobody's secret.
DEVELOPMENT_MNEMONIC = "test test test test test test test test test test test junk"
DEVELOPMENT_ACCOUNTS = 20
_KEYPAIR_BYTES = 64


class SolanaSigner(Protocol):
    """A core `Signer` with an Ed25519 key on Solana; signs whole messages."""

    @property
    def public_id(self) -> str:
        """The address, base58."""

    @property
    def kind(self) -> NetworkKind:
        """The kind of network this key was made for."""

    async def sign(self, message: bytes) -> bytes:
        """64 bytes."""


@dataclass(frozen=True, slots=True)
class _Secret:
    """Keeps a key out of reprs, logs and tracebacks."""

    keypair: Keypair

    def __repr__(self) -> str:
        return "<secret>"


class LocalSigner:
    """A key in this process's memory. Signatures are deterministic: same message, same bytes."""

    def __init__(self, secret: bytes, kind: NetworkKind) -> None:
        """`secret`: 32 bytes of seed, or 64 with the public key after it."""
        try:
            keypair = Keypair.from_bytes(secret) if len(secret) == _KEYPAIR_BYTES else Keypair.from_seed(secret)
        except ValueError:
            # Without "from": the original message may quote the key.
            raise InvalidInput("not a Solana private key", field="key") from None
        self._secret = _Secret(keypair)
        self._address = str(keypair.pubkey())
        self._kind = kind
        if kind is NetworkKind.MAINNET and self._address in development_addresses():
            raise NotAllowed(
                f"{self._address} is a development account: everybody knows its key",
                next_step=f"make a key of your own for {kind}",
            )

    @property
    def public_id(self) -> str:
        return self._address

    @property
    def kind(self) -> NetworkKind:
        return self._kind

    async def sign(self, message: bytes) -> bytes:
        """20 microseconds, so it stays on the loop."""
        return bytes(self._secret.keypair.sign_message(message))

    def write_keypair_file(self, path: Path) -> None:
        """The unencrypted JSON array that Solana tools read, for its owner only. Never overwrites a file."""
        _write_new(path, json.dumps(list(bytes(self._secret.keypair))).encode())

    def write_keystore(self, path: Path, password: str) -> None:
        """An encrypted file, for its owner only. Takes a second of CPU by design; call it in a thread."""
        document = seal(self._secret.keypair.secret(), password, address=self._address, kind=str(self._kind))
        _write_new(path, json.dumps(document).encode())

    def __repr__(self) -> str:
        return f"LocalSigner({self._address}, {self._kind})"


def signer_from_keypair_file(path: Path, kind: NetworkKind) -> LocalSigner:
    """Read a JSON keypair file; raises `NotAllowed` when others may read it, `InvalidInput` when it is damaged."""
    _require_private(path)
    try:
        numbers = json.loads(path.read_bytes())
        secret = bytes(numbers) if isinstance(numbers, list) else b""
    except (ValueError, TypeError, RecursionError):
        secret = b""
    if len(secret) != _KEYPAIR_BYTES:
        raise InvalidInput(
            f"{path.name} is not a Solana keypair file", field="keypair", next_step="it must be a list of 64 numbers"
        )
    signer = LocalSigner(secret[:32], kind)
    if signer.public_id != str(Pubkey.from_bytes(secret[32:])):
        raise NotAllowed(f"{path.name} names another address than its key has", next_step="restore it from a backup")
    return signer


def signer_from_keystore(path: Path, password: str) -> LocalSigner:
    """Open our encrypted keystore; raises `NotAllowed` when others may read it or the password is wrong."""
    _require_private(path)
    opened = open_keystore(path.read_bytes(), password)
    signer = LocalSigner(opened.secret, NetworkKind(opened.kind))
    if signer.public_id != opened.address:
        raise NotAllowed(f"{path.name} names another address than its key has", next_step="restore it from a backup")
    return signer


def signer_from_mnemonic(mnemonic: str, index: int, kind: NetworkKind) -> LocalSigner:
    """Account `index` of a BIP-39 phrase at ``m/44'/501'/index'/0'``, as Solana wallets number them."""
    return LocalSigner(bytes(_derived(mnemonic, index)), kind)


def require_network(signer: SolanaSigner, network: Network) -> None:
    """Raises `WrongNetwork` unless the key was made for this kind of network."""
    require_kind(signer.kind, network, f"the key of {signer.public_id}")


@cache
def development_addresses() -> frozenset[str]:
    """Addresses whose keys the whole world has."""
    return frozenset(str(_derived(DEVELOPMENT_MNEMONIC, index).pubkey()) for index in range(DEVELOPMENT_ACCOUNTS))


def _derived(mnemonic: str, index: int) -> Keypair:
    seed = hashlib.pbkdf2_hmac("sha512", mnemonic.encode(), b"mnemonic", 2048)
    return Keypair.from_seed_and_derivation_path(seed, f"m/44'/501'/{index}'/0'")


def _require_private(path: Path) -> None:
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise NotAllowed(
            f"{path.name} can be read by other users of this machine",
            next_step=f"chmod 600 {path.name}",
            mode=oct(stat.S_IMODE(mode)),
        )


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
