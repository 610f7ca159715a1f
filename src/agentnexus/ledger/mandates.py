"""Signed spending approvals: what is signed, how it is checked, and the limits it turns into. Pure, no I/O.

The vocabulary is that of AP2's open payment mandate (``vct``, ``cnf``, ``constraints[]`` of ``payment.*`` types);
limits that AP2 does not know are constraints of type ``agentnexus.limit``. What cannot be enforced here is refused.
"""

from __future__ import annotations

import binascii
import sys
from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, TypeAlias, TypeVar

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from pydantic import Field

from agentnexus.core.canonical import Json, canonical_json
from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.core.money import Asset, Money
from agentnexus.core.offers import Noun
from agentnexus.core.payments import Limits
from agentnexus.platform.signing import verify_ed25519_now

# py_ecc, which eth_account brings along, raises Python's limit to 100,000 on import. So deep, hostile JSON no longer
# raises RecursionError: it overflows the stack and ends the process.
RECURSION_MAX = 1000
sys.setrecursionlimit(min(sys.getrecursionlimit(), RECURSION_MAX))

ED25519_CONTEXT = b"agentnexus/mandate/1\n"  # the same key's other signatures can never pass for an approval
CONSTRAINTS_MAX = 32
NAMES_MAX = 1000
ECDSA_SIGNATURE_BYTES = 65
MALFORMED = (ValueError, BadSignature, ValidationError)  # of the libraries, for hostile signatures
T = TypeVar("T")

ConstraintValue: TypeAlias = "str | tuple[str, ...]"
Constraint: TypeAlias = dict[str, ConstraintValue]


class Scheme(StrEnum):
    EIP712 = "eip712"
    ED25519 = "ed25519"


class Mandate(Noun):
    """An approval to spend.

    `jti` becomes the budget's id; `iss` is who signs (``evm:0x…`` or ``ed25519:<hex>``); `cnf` the agent that may
    spend; `parent` the budget it is cut from ("": a tree of its own); `iat` and `exp` are Unix seconds. Each constraint
    is an object with ``type`` and text values; amounts are decimal text with ``currency`` as a CAIP-19 id.
    """

    vct: Literal["mandate.payment.open.1"] = "mandate.payment.open.1"
    jti: str = Field(min_length=1, max_length=200)
    iss: str = Field(pattern=r"^(evm:0x[0-9a-f]{40}|ed25519:[0-9a-f]{64})$")
    cnf: str = Field(min_length=1, max_length=200)
    parent: str = Field(default="", max_length=200)
    constraints: tuple[Constraint, ...] = Field(max_length=CONSTRAINTS_MAX)
    iat: int = Field(ge=0, lt=2**53)
    exp: int = Field(ge=0, lt=2**53)

    @property
    def scheme(self) -> Scheme:
        return Scheme.EIP712 if self.iss.startswith("evm:") else Scheme.ED25519

    @property
    def expires_at(self) -> datetime:
        try:
            return datetime.fromtimestamp(self.exp, UTC)
        except (ValueError, OverflowError) as error:
            raise InvalidInput("exp is not a time", field="exp", next_step="give Unix seconds") from error


@dataclass(frozen=True, slots=True)
class Permission:
    """What a mandate allows, in the ledger's own terms."""

    limits: Limits
    sellers: frozenset[str] | None
    capabilities: frozenset[str] | None


def typed_data(mandate: Mandate, asset: Asset) -> dict[str, object]:
    """The EIP-712 message that a wallet shows and signs; its chain is that of the asset."""
    namespace, _, chain = asset.network.partition(":")
    if namespace != "eip155":
        raise InvalidInput(
            f"an EIP-712 approval needs an EVM asset, not {asset.caip19}", field="asset", next_step="sign with ed25519"
        )
    text = ("vct", "jti", "iss", "cnf", "parent")
    return {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
            ],
            "Constraint": [{"name": "type", "type": "string"}, {"name": "value", "type": "string"}],
            "OpenPaymentMandate": [
                *({"name": name, "type": "string"} for name in text),
                {"name": "constraints", "type": "Constraint[]"},
                {"name": "iat", "type": "uint64"},
                {"name": "exp", "type": "uint64"},
            ],
        },
        "primaryType": "OpenPaymentMandate",
        "domain": {"name": "AgentNexus", "version": "1", "chainId": int(chain)},
        "message": {
            **{name: getattr(mandate, name) for name in text},
            "constraints": [
                {"type": str(constraint.get("type", "")), "value": canonical_json(_rest(constraint)).decode()}
                for constraint in mandate.constraints
            ],
            "iat": mandate.iat,
            "exp": mandate.exp,
        },
    }


def ed25519_message(mandate: Mandate) -> bytes:
    """The bytes that an Ed25519 signer signs."""
    return ED25519_CONTEXT + canonical_json(mandate)


def check_signature(mandate: Mandate, signature: str, asset: Asset) -> None:
    """Raises `NotAllowed` unless `signature` (EIP-712: hex, Ed25519: base64) is by `mandate.iss` over all of it."""
    good = _eip712_by(mandate, signature, asset) if mandate.scheme is Scheme.EIP712 else _ed25519_by(mandate, signature)
    if not good:
        raise NotAllowed(
            f"the approval {mandate.jti} is not signed by {mandate.iss}",
            next_step="sign exactly this document with that key",
            signer=mandate.iss,
        )


def _eip712_by(mandate: Mandate, signature: str, asset: Asset) -> bool:
    message = encode_typed_data(full_message=typed_data(mandate, asset))
    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
        if len(raw) != ECDSA_SIGNATURE_BYTES:
            return False
        signer: str = Account.recover_message(message, signature=raw)
    except MALFORMED:
        return False
    return f"evm:{signer.lower()}" == mandate.iss


def _ed25519_by(mandate: Mandate, signature: str) -> bool:
    try:
        raw = b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    return verify_ed25519_now(mandate.iss, ed25519_message(mandate), raw)


def permission_of(mandate: Mandate, asset: Asset) -> Permission:
    """Turn the constraints into limits in `asset`; raises `InvalidInput` for any unknown, doubled or unclear one."""
    limits: dict[str, Money] = {}
    names: dict[str, frozenset[str]] = {}
    for constraint in mandate.constraints:
        kind = constraint.get("type", "")
        match kind:
            case "payment.amount_range":
                _once(limits, "per_payment", _amount(constraint, asset, {"min"}))
                if constraint.get("min", "0") != "0":
                    raise _bad("payment.amount_range with a minimum cannot be enforced")
            case "payment.budget":
                _once(limits, "total", _amount(constraint, asset))
            case "agentnexus.limit":
                name = constraint.get("name")
                if not isinstance(name, str) or name not in Limits.model_fields:
                    raise _bad(f"there is no limit {name!r}")
                _once(limits, name, _amount(constraint, asset, {"name"}))
            case "payment.allowed_payees":
                _once(names, "sellers", _allowed(constraint))
            case "agentnexus.allowed_capabilities":
                _once(names, "capabilities", _allowed(constraint))
            case _:
                raise _bad(f"a constraint of type {kind!r} cannot be enforced here")
    return Permission(Limits(**limits), names.get("sellers"), names.get("capabilities"))


def _once(known: dict[str, T], name: str, value: T) -> None:
    if name in known:
        raise _bad(f"{name} is given twice")
    known[name] = value


def _amount(constraint: Constraint, asset: Asset, also: frozenset[str] | set[str] = frozenset()) -> Money:
    _only(constraint, {"max", "currency", *also})
    currency, most = constraint.get("currency"), constraint.get("max")
    if currency != asset.caip19 or not isinstance(most, str):
        raise _bad(f"{constraint.get('type')} needs max as text and currency {asset.caip19}")
    return asset.parse(most)


def _allowed(constraint: Constraint) -> frozenset[str]:
    _only(constraint, {"allowed"})
    allowed = constraint.get("allowed")
    if not isinstance(allowed, tuple) or len(allowed) > NAMES_MAX:
        raise _bad(f"{constraint.get('type')} needs a list of at most {NAMES_MAX} names")
    return frozenset(allowed)


def _only(constraint: Constraint, fields: set[str]) -> None:
    surplus = set(constraint) - fields - {"type"}
    if surplus:
        raise _bad(f"{constraint.get('type')} has unknown fields {sorted(surplus)}")


def _rest(constraint: Constraint) -> dict[str, Json]:
    return {name: value for name, value in constraint.items() if name != "type"}


def _bad(message: str) -> InvalidInput:
    return InvalidInput(message, field="constraints", next_step="sign an approval with constraints the ledger enforces")
