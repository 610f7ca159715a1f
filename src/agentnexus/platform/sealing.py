"""Secrets at rest: encrypted with a key in a private file, so that a copy of the database alone tells none.

Processes that share a database share the key file; one that has another file knows which texts are not its own.
"""

from __future__ import annotations

import base64
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.core.ports import Entropy
from agentnexus.platform.signing import check_private, create_key_file

KEY_BYTES, NONCE_BYTES = 32, 12


class Sealer:
    """AES-256-GCM. A sealed text is ``sealed:<key id>:<base64>`` and opens only in the place it was sealed for."""

    def __init__(self, key: bytes, entropy: Entropy) -> None:
        if len(key) != KEY_BYTES:
            raise InvalidInput(f"a sealing key has {KEY_BYTES} bytes", next_step="put the right key file back")
        self._cipher = AESGCM(_derived(key, b"agentnexus sealing"))
        self._entropy = entropy
        self.prefix = f"sealed:{_derived(key, b'agentnexus key id')[:6].hex()}:"

    @classmethod
    def load_or_create(cls, path: Path, entropy: Entropy) -> Sealer:
        """The key in a file, made with mode 0600 when absent; refused when others could read it."""
        if not path.exists():
            create_key_file(path, entropy.random_bytes(KEY_BYTES))
        check_private(path)
        return cls(path.read_bytes(), entropy)

    def seal(self, text: str, place: str) -> str:
        """`place` says where it will be kept, such as ``webhook:<id>``."""
        nonce = self._entropy.random_bytes(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, text.encode(), place.encode())
        return self.prefix + base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, place: str) -> str:
        """Raises `NotAllowed` for what another key sealed, for another place, or what was changed."""
        refused = NotAllowed(
            "a secret cannot be opened: another key sealed it, or it was changed",
            next_step="give all hosts of one database the same key file",
        )
        if not sealed.startswith(self.prefix):
            raise refused
        try:
            raw = base64.b64decode(sealed.removeprefix(self.prefix), validate=True)
            if sealed != self.prefix + base64.b64encode(raw).decode():
                raise refused  # bits that say nothing were changed
            return self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], place.encode()).decode()
        except (InvalidTag, ValueError):
            raise refused from None


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose).derive(key)
