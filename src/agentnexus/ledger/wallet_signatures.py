"""What a wallet is asked to sign, and whether it did: EIP-712 for EVM wallets, a readable message for Ed25519 ones.

Golden vectors for other programs are in ``tests/ledger/vectors/approvals.json``.
"""

from __future__ import annotations

import binascii
import sys
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_keys.exceptions import BadSignature
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from agentnexus.core.canonical import canonical_json
from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.ledger.mandates import Constraint, Mandate, Revocation, WalletLink
from agentnexus.platform.signing import verify_ed25519_now

# py_ecc, which eth_account brings along, raises Python's limit to 100,000 on import. So deep, hostile JSON no longer
# raises RecursionError: it overflows the stack and ends the process.
RECURSION_MAX = 1000
sys.setrecursionlimit(min(sys.getrecursionlimit(), RECURSION_MAX))

ECDSA_SIGNATURE_BYTES = 65
CONTRACT_SIGNATURE_BYTES_MAX = 8192
EVM = "evm:"
MALFORMED = (ValueError, BadSignature, ValidationError)  # of the libraries, for hostile signatures
Document: TypeAlias = "Mandate | Revocation | WalletLink"
Fields: TypeAlias = list[dict[str, str]]

# The first words say what is signed, so no message of one kind, nor of another program, can pass for another kind.
WORDS: Mapping[str, str] = {
    "mandate.payment.open.1": "AgentNexus asks you to approve spending.\n"
    "Within exactly these limits it will pay without asking you again:\n",
    "agentnexus.revocation.1": "AgentNexus asks you to take back an approval to spend.\n",
    "agentnexus.wallet.1": "AgentNexus asks you to let this wallet approve spending for an account.\n",
}
TYPES: Mapping[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "mandate.payment.open.1": (
        "OpenPaymentMandate",
        (
            *((name, "string") for name in ("vct", "jti", "iss", "cnf", "parent")),
            ("constraints", "Constraint[]"),
            ("iat", "uint64"),
            ("exp", "uint64"),
        ),
    ),
    "agentnexus.revocation.1": ("RevokeMandate", (("vct", "string"), ("jti", "string"), ("iss", "string"))),
    "agentnexus.wallet.1": (
        "LinkWallet",
        (*((name, "string") for name in ("vct", "iss", "owner", "cnf")), ("iat", "uint64")),
    ),
}


class ContractWallets(Protocol):
    """Asks a smart account whether a signature is its own (EIP-1271 ``isValidSignature``)."""

    async def approves(self, network: str, address: str, digest: bytes, signature: bytes) -> bool:
        """`network` is CAIP-2, `digest` the EIP-712 hash. Raises `Unavailable` when the chain does not answer."""


def typed_data(document: Document, network: str) -> dict[str, object]:
    """The EIP-712 message that a wallet on `network` (CAIP-2) shows and signs."""
    namespace, _, chain = network.partition(":")
    if namespace != "eip155":
        raise InvalidInput(
            f"an EIP-712 approval needs an EVM asset, not one on {network}",
            field="asset",
            next_step="sign with an Ed25519 wallet",
        )
    primary, fields = TYPES[document.vct]
    message = {name: getattr(document, name) for name, _ in fields}
    types: dict[str, Fields] = {
        "EIP712Domain": _fields(("name", "string"), ("version", "string"), ("chainId", "uint256")),
        primary: _fields(*fields),
    }
    if isinstance(document, Mandate):
        types["Constraint"] = _fields(("type", "string"), ("value", "string"))
        message["constraints"] = [_constraint(constraint) for constraint in document.constraints]
    return {
        "types": types,
        "primaryType": primary,
        "domain": {"name": "AgentNexus", "version": "1", "chainId": int(chain)},
        "message": message,
    }


def message_text(document: Document) -> str:
    """What an Ed25519 wallet shows and signs as UTF-8: a sentence, and the document in canonical JSON."""
    return WORDS[document.vct] + canonical_json(document).decode()


def to_sign(document: Document, network: str) -> dict[str, object]:
    """``{scheme, typed_data | message}``: what to hand to the wallet that `document` names."""
    if document.iss.startswith(EVM):
        return {"scheme": "eip712", "typed_data": typed_data(document, network)}
    return {"scheme": "ed25519", "message": message_text(document)}


@dataclass(frozen=True, slots=True)
class WalletSignatures:
    """Checks signatures for one network; `contracts` adds smart accounts, without it only keys can sign."""

    network: str
    contracts: ContractWallets | None = None

    async def check(self, document: Document, signature: str) -> None:
        """Raises `NotAllowed` unless `document.iss` signed all of it (EIP-712: hex, Ed25519: base64)."""
        if document.iss.startswith(EVM):
            good = await self._eip712(document, signature)
        else:
            good = _ed25519(document, signature)
        if not good:
            raise NotAllowed(
                f"this is not signed by {document.iss}",
                next_step="sign exactly this document with that wallet, on this network",
                signer=document.iss,
                network=self.network,
            )

    async def _eip712(self, document: Document, signature: str) -> bool:
        message = encode_typed_data(full_message=typed_data(document, self.network))
        try:
            raw = bytes.fromhex(signature.removeprefix("0x"))
        except ValueError:
            return False
        if _recovers(message, raw, document.iss):
            return True
        if self.contracts is None or len(raw) > CONTRACT_SIGNATURE_BYTES_MAX:
            return False
        digest = keccak(b"\x19" + message.version + message.header + message.body)
        return await self.contracts.approves(self.network, document.iss.removeprefix(EVM), digest, raw)


def _recovers(message: SignableMessage, raw: bytes, wallet: str) -> bool:
    if len(raw) != ECDSA_SIGNATURE_BYTES:
        return False
    try:
        signer: str = Account.recover_message(message, signature=raw)
    except MALFORMED:
        return False
    return f"{EVM}{signer.lower()}" == wallet


def _ed25519(document: Document, signature: str) -> bool:
    try:
        raw = b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    return verify_ed25519_now(document.iss, message_text(document).encode(), raw)


def _fields(*fields: tuple[str, str]) -> Fields:
    return [{"name": name, "type": kind} for name, kind in fields]


def _constraint(constraint: Constraint) -> dict[str, str]:
    rest = {name: value for name, value in constraint.items() if name != "type"}
    return {"type": str(constraint.get("type", "")), "value": canonical_json(rest).decode()}
