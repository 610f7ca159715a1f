"""ERC-3009 transfer authorisations: their digests, signatures and x402 JSON form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.encoding import (
    MAX_WORD,
    address,
    checksum_address,
    from_hex,
    keccak,
    to_hex,
    word,
)
from agentnexus.rails.evm.typed_data import Domain

_TRANSFER_TYPEHASH = keccak(
    b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,"
    b"bytes32 nonce)"
)
_CANCEL_TYPEHASH = keccak(b"CancelAuthorization(address authorizer,bytes32 nonce)")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}")
# A contract wallet's signature has any length; past this it is an attack on the log or the store.
_MAX_SIGNATURE_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Authorization:
    """One transfer the payer allows anybody to submit, once, inside its time window.

    Args:
        payer: lower-case address whose tokens move.
        payee: lower-case address that gets them.
        value: atomic units.
        valid_after: Unix seconds; the block's time must be greater.
        valid_before: Unix seconds; the block's time must be less.
        nonce: 32 bytes, single use per payer and token.
    """

    payer: str
    payee: str
    value: int
    valid_after: int
    valid_before: int
    nonce: bytes

    def digest(self, domain: Domain) -> bytes:
        return domain.digest(keccak(_TRANSFER_TYPEHASH + self.arguments()))

    def arguments(self) -> bytes:
        """The six ABI words, in the order in which both the typed data and the calls have them."""
        return (
            word(self.payer)
            + word(self.payee)
            + word(self.value)
            + word(self.valid_after)
            + word(self.valid_before)
            + word(self.nonce)
        )

    def to_json(self) -> dict[str, str]:
        """x402 form: every field a string, addresses with checksum."""
        return {
            "from": checksum_address(self.payer),
            "to": checksum_address(self.payee),
            "value": str(self.value),
            "validAfter": str(self.valid_after),
            "validBefore": str(self.valid_before),
            "nonce": to_hex(self.nonce),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the x402 form; raises `InvalidInput` that names the field."""
        if not isinstance(value, Mapping):
            raise InvalidInput("authorization must be an object", field="authorization")
        return cls(
            payer=address(value.get("from"), field="authorization.from"),
            payee=address(value.get("to"), field="authorization.to"),
            value=_decimal(value.get("value"), "authorization.value"),
            valid_after=_decimal(value.get("validAfter"), "authorization.validAfter"),
            valid_before=_decimal(value.get("validBefore"), "authorization.validBefore"),
            nonce=from_hex(value.get("nonce"), size=32, field="authorization.nonce"),
        )


@dataclass(frozen=True, slots=True)
class SignedAuthorization:
    """An authorisation with its signature, as it travels in an x402 payload."""

    authorization: Authorization
    signature: bytes

    def to_json(self) -> dict[str, object]:
        """``{signature, authorization: {from, to, value, validAfter, validBefore, nonce}}``: x402 v1 and v2 alike."""
        return {"signature": to_hex(self.signature), "authorization": self.authorization.to_json()}

    @classmethod
    def from_json(cls, value: object) -> Self:
        if not isinstance(value, Mapping):
            raise InvalidInput("the payload must be an object", field="payload")
        signature = from_hex(value.get("signature"), field="signature")
        if not 0 < len(signature) <= _MAX_SIGNATURE_BYTES:
            raise InvalidInput("the signature is empty or too long", field="signature")
        return cls(Authorization.from_json(value.get("authorization")), signature)


def cancellation_digest(domain: Domain, payer: str, nonce: bytes) -> bytes:
    """What the payer signs to make an authorisation worthless before it is used."""
    return domain.digest(keccak(_CANCEL_TYPEHASH + word(payer) + word(nonce)))


def nonce_for(key: str) -> bytes:
    """The nonce of an idempotency key: asking again makes the same authorisation, never a second one."""
    return keccak(key.encode())


def _decimal(value: object, field: str) -> int:
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value) or int(value) > MAX_WORD:
        raise InvalidInput(f"{field} must be a decimal integer in text", field=field)
    return int(value)
