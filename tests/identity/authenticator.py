"""An authenticator made of software, as right or as wrong as a test wants it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from webauthn.helpers import encode_cbor

from agentnexus.identity.ceremonies import decoded, encoded

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40
Json = dict[str, object]


@dataclass
class Authenticator:
    """One passkey. Everything that it tells may be changed before it answers."""

    origin: str
    rp_id: str
    credential_id: bytes = b"\x07" * 32
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    flags: int = PRESENT | VERIFIED
    count: int = 0
    user_handle: bytes | None = None
    cross_origin: bool | None = None
    cose: Json | None = None  # another key than its own
    alg: int = -7

    @property
    def point(self) -> bytes:
        numbers = self.key.public_key().public_numbers()
        return b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")

    def create(self, options: Json) -> Json:
        """The answer to ``navigator.credentials.create``."""
        user = options["user"]
        assert isinstance(user, dict)
        self.user_handle = decoded(str(user["id"]))
        cose = self.cose or {1: 2, 3: self.alg, -1: 1, -2: self.point[1:33], -3: self.point[33:]}
        length = len(self.credential_id).to_bytes(2, "big")
        attested = bytes(16) + length + self.credential_id + encode_cbor(cose)
        statement = {"fmt": "none", "attStmt": {}, "authData": self.data(ATTESTED) + attested}
        return self.credential(
            clientDataJSON=encoded(self.client_data("webauthn.create", options)),
            attestationObject=encoded(encode_cbor(statement)),
        )

    def get(self, options: Json) -> Json:
        """The answer to ``navigator.credentials.get``; counts up unless it keeps no counter."""
        data, client = self.data(0), self.client_data("webauthn.get", options)
        signature = self.key.sign(data + sha256(client).digest(), ec.ECDSA(SHA256()))
        answer = {
            "clientDataJSON": encoded(client),
            "authenticatorData": encoded(data),
            "signature": encoded(signature),
        }
        if self.user_handle is not None:
            answer["userHandle"] = encoded(self.user_handle)
        return self.credential(**answer)

    def credential(self, **response: str) -> Json:
        name = encoded(self.credential_id)
        return {"id": name, "rawId": name, "type": "public-key", "response": response}

    def data(self, more: int) -> bytes:
        return sha256(self.rp_id.encode()).digest() + bytes([self.flags | more]) + self.count.to_bytes(4, "big")

    def client_data(self, kind: str, options: Json) -> bytes:
        told = {"type": kind, "challenge": options["challenge"], "origin": self.origin}
        if self.cross_origin is not None:
            told["crossOrigin"] = self.cross_origin
        return json.dumps(told, separators=(",", ":")).encode()
