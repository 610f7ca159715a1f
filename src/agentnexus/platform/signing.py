"""Ed25519 keys in files that only their owner may read, and checking signatures."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from agentnexus.core.errors import InvalidInput, NotAllowed

PREFIX = "ed25519:"
# One spelling per key: ids are compared as texts everywhere else.
PUBLIC_ID = re.compile(r"ed25519:[0-9a-f]{64}")


def create_key_file(path: Path, content: bytes) -> None:
    """A file of mode 0600, whole or not at all; whoever is first of several processes makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{secrets.token_hex(8)}")  # not a process id: in containers it is always the same
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)  # fails when another process was first: then its key is the key
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def check_private(path: Path) -> None:
    """Raises `NotAllowed` when others could read the file."""
    if path.stat().st_mode & 0o077:
        raise NotAllowed(f"{path} is readable by others", next_step=f"chmod 600 {path}")


class Ed25519Signer:
    """Implements `core.ports.Signer`; the key never leaves the object."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public_id = PREFIX + raw.hex()

    @classmethod
    def from_seed(cls, seed: bytes) -> Ed25519Signer:
        """From 32 bytes, for tests and derived keys."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load_or_create(cls, path: Path) -> Ed25519Signer:
        """The key in a PEM file, made with mode 0600 when absent; refused when others could read it."""
        if not path.exists():
            cls._create(path)
        check_private(path)
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # damaged, locked by a password, of an unknown kind
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidInput(f"{path} holds no Ed25519 key", next_step="move it away; a new one is made at start")
        return cls(key)

    @staticmethod
    def _create(path: Path) -> None:
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        create_key_file(path, pem)

    async def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


async def verify_ed25519(public_id: str, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is by ``ed25519:<hex>`` over `message`; False for anything malformed."""
    return await asyncio.to_thread(verify_ed25519_now, public_id, message, signature)


def verify_ed25519_now(public_id: str, message: bytes, signature: bytes) -> bool:
    """The same without an event loop, for offline checks."""
    if not PUBLIC_ID.fullmatch(public_id):
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_id.removeprefix(PREFIX)))
        key.verify(signature, message)
    except (ValueError, InvalidSignature):
        return False
    return True
