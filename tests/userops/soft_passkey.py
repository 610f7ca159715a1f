"""A passkey in software: signs as a browser's authenticator does, or wrongly in one chosen way."""

from __future__ import annotations

import json
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agentnexus.rails.evm.contracts import AccountPlan, Owner
from agentnexus.rails.evm.userops import Assertion, P256Signer, PasskeySigner, passkey_owner
from agentnexus.rails.evm.userops.passkeys import challenge

FLAGS = 0x05  # present and verified


class SoftPasskey:
    """One key for one site."""

    def __init__(self, site: str = "https://nexus.example") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.site = site

    @property
    def public_key(self) -> bytes:
        """As a browser's ``getPublicKey()`` gives it."""
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def owner(self) -> Owner:
        return passkey_owner(self.public_key)

    def plan(self) -> AccountPlan:
        return AccountPlan(self.owner)

    def answer(self, digest: bytes, *, flags: int = FLAGS, **extra: object) -> tuple[bytes, bytes, bytes]:
        """Authenticator data, client data and DER signature, as a browser hands them over."""
        told = {"type": "webauthn.get", "challenge": challenge(digest), "origin": self.site, "crossOrigin": False}
        client_data = json.dumps({**told, **extra}, separators=(",", ":")).encode()
        data = sha256(self.site.encode()).digest() + bytes([flags]) + (7).to_bytes(4, "big")
        return data, client_data, self.key.sign(data + sha256(client_data).digest(), ec.ECDSA(SHA256()))

    async def ask(self, digest: bytes) -> Assertion:
        return Assertion.from_browser(*self.answer(digest))

    def signer(self) -> PasskeySigner:
        return PasskeySigner(self.ask)

    def plain_signer(self) -> P256Signer:
        """The same key without a browser."""

        async def sign(digest: bytes) -> bytes:
            return self.key.sign(digest, ec.ECDSA(Prehashed(SHA256())))

        return P256Signer(sign)
