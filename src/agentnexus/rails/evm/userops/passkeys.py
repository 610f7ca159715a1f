"""Passkeys as owners of accounts: from what a browser's authenticator answers to the signature the contract checks."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.rails.evm.contracts.abi import encode_values
from agentnexus.rails.evm.contracts.account import Owner
from agentnexus.rails.evm.errors import NodeError, Reverted
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.userops.signers import P256_KIND, PASSKEY_KIND

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_GET = "webauthn.get"
_TYPE, _CHALLENGE = f'"type":"{_GET}"', '"challenge":"'
_USER_PRESENT, _USER_VERIFIED = 0x01, 0x04
_FLAGS_AT, _AUTHENTICATOR_BYTES = 32, 37
_DUMMY_CLIENT_DATA = '{"type":"webauthn.get","challenge":"' + "A" * 43 + '","origin":"https://example.org"}'
PRECOMPILE = "0x" + "00" * 18 + "0100"
# Checking a P-256 signature: 6,900 where the chain has it built in (EIP-7951), 238,000 where the contract computes it.
_PRECOMPILE_GAS, _SOLIDITY_GAS = 25_000, 300_000


@dataclass(frozen=True, slots=True)
class Assertion:
    """What an authenticator answers when asked to sign.

    Args:
        authenticator_data: at least 37 bytes: site, flags, counter.
        client_data: the JSON that the browser made, byte for byte.
        r, s: the signature's numbers; `s` in the lower half of the order, as contracts take it.
    """

    authenticator_data: bytes
    client_data: str
    r: int
    s: int

    @classmethod
    def from_browser(cls, authenticator_data: bytes, client_data: bytes, signature: bytes) -> Self:
        """From ``AuthenticatorAssertionResponse``, whose signature is DER. Raises `InvalidInput` or `NotAllowed`."""
        try:
            r, s = decode_dss_signature(signature)
            text = client_data.decode("utf-8")
        except ValueError as error:
            raise InvalidInput("the passkey's answer cannot be read", field="signature") from error
        if len(authenticator_data) < _AUTHENTICATOR_BYTES:
            raise InvalidInput("the authenticator's data is cut off", field="authenticatorData")
        flags = authenticator_data[_FLAGS_AT]
        if not flags & _USER_PRESENT or not flags & _USER_VERIFIED:
            raise NotAllowed(
                "the passkey did not check who uses it",
                next_step='ask for it with userVerification: "required"',
            )
        return cls(authenticator_data, text, r, min(s, _ORDER - s))

    def encode(self) -> bytes:
        """The signature an account takes, without its first byte. Raises `InvalidInput` for another kind of answer."""
        type_at, challenge_at = self.client_data.find(_TYPE), self.client_data.find(_CHALLENGE)
        if type_at < 0 or challenge_at < 0:
            raise InvalidInput("the passkey's answer is no signature of a challenge", field="clientDataJSON")
        # The contract counts in bytes, and what stands before these two may be anything.
        indices = [len(self.client_data[:at].encode()) for at in (challenge_at, type_at)]
        return encode_values(
            ["bytes32", "bytes32", "uint256", "uint256", "bytes", "string"],
            [
                self.r.to_bytes(32, "big"),
                self.s.to_bytes(32, "big"),
                *indices,
                self.authenticator_data,
                self.client_data,
            ],
            field="assertion",
        )

    def signs(self, digest: bytes, owner: Owner) -> bool:
        """Whether this is the owner's passkey over the digest: the contract's check, before anything is sent."""
        try:
            told = json.loads(self.client_data)
        except ValueError:
            return False
        if not isinstance(told, dict) or (told.get("type"), told.get("challenge")) != (_GET, challenge(digest)):
            return False
        x, y = (int.from_bytes(each, "big") for each in (owner.x, owner.y))
        message = self.authenticator_data + sha256(self.client_data.encode()).digest()
        try:
            key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
            key.verify(encode_dss_signature(self.r, self.s), message, ec.ECDSA(SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True


class PasskeySigner:
    """An account's passkey: asks whoever holds it to sign a challenge.

    Args:
        ask: gets the 32 bytes to sign (the challenge, before base64url) and returns the authenticator's answer.
        precompiled: whether the chain checks such signatures itself; see `has_precompile`.
    """

    def __init__(self, ask: Callable[[bytes], Awaitable[Assertion]], *, precompiled: bool = True) -> None:
        self._ask = ask
        self.extra_verification_gas = _PRECOMPILE_GAS if precompiled else _SOLIDITY_GAS

    @property
    def dummy(self) -> bytes:
        flags = bytes([_USER_PRESENT | _USER_VERIFIED])
        return PASSKEY_KIND + Assertion(bytes(32) + flags + bytes(4), _DUMMY_CLIENT_DATA, _ORDER - 1, 1).encode()

    async def sign(self, operation_hash: bytes) -> bytes:
        return PASSKEY_KIND + (await self._ask(operation_hash)).encode()


class P256Signer:
    """An account's P-256 key that signs hashes as they are: one in a server's hardware, not a browser's passkey.

    Args:
        ask: gets the 32 bytes and returns a DER signature over them.
    """

    def __init__(self, ask: Callable[[bytes], Awaitable[bytes]], *, precompiled: bool = True) -> None:
        self._ask = ask
        self.extra_verification_gas = _PRECOMPILE_GAS if precompiled else _SOLIDITY_GAS

    @property
    def dummy(self) -> bytes:
        return P256_KIND + b"\x01" * 64

    async def sign(self, operation_hash: bytes) -> bytes:
        r, s = decode_dss_signature(await self._ask(operation_hash))
        return P256_KIND + r.to_bytes(32, "big") + min(s, _ORDER - s).to_bytes(32, "big")


def challenge(digest: bytes) -> str:
    """A digest as it stands in the browser's JSON."""
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def passkey_owner(public_key: bytes) -> Owner:
    """The owner that a passkey's public key stands for: DER (``getPublicKey()``) or the 65 bytes of the point."""
    try:
        if len(public_key) == 65:
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
        else:
            key = _p256(load_der_public_key(public_key))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(
            "not a P-256 public key",
            field="public_key",
            next_step="create the passkey with algorithm -7 (ES256)",
        ) from error
    numbers = key.public_numbers()
    return Owner(x=numbers.x.to_bytes(32, "big"), y=numbers.y.to_bytes(32, "big"))


def _p256(key: object) -> ec.EllipticCurvePublicKey:
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ValueError("another kind of key")


async def has_precompile(rpc: Rpc) -> bool:
    """Whether the chain checks P-256 signatures itself (EIP-7951, RIP-7212)."""
    try:
        return await rpc.read_contract(PRECOMPILE, _known_signature()) == b"\x01".rjust(32, b"\0")
    except (NodeError, Reverted):
        return False


def _known_signature() -> bytes:
    """A digest, a right signature over it, and its key, as the precompile takes them."""
    key = ec.derive_private_key(1, ec.SECP256R1())
    point = key.public_key().public_numbers()
    digest = bytes(31) + b"\x01"
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(SHA256()))))
    return digest + b"".join(each.to_bytes(32, "big") for each in (r, s, point.x, point.y))
