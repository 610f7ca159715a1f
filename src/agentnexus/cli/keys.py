"""A person's own wallet on the command line: reads a key file, and signs only what its owner typed."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from eth_account.signers.local import LocalAccount

from agentnexus.cli.passwords import password_of
from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.ledger.mandates import AP2_LIMITS, Mandate
from agentnexus.ledger.wallet_signatures import Document, message_text, typed_data
from agentnexus.platform.signing import Ed25519Signer
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.signer import LocalSigner, signer_from_hex, signer_from_keystore
from agentnexus.rails.solana.base58 import encode

SOLANA_KEYPAIR_BYTES, SEED_BYTES = 64, 32


class KeyFile(Protocol):
    """A wallet of one kind; `id` is ``evm:0x…`` or ``ed25519:<hex>``."""

    @property
    def id(self) -> str: ...

    @property
    def address(self) -> str:
        """As its own network writes it."""

    async def sign(self, document: Document, network: str) -> str:
        """The signature in the form that the API takes."""

    async def sign_in(self, text: str) -> str:
        """The signature of a sign-in's message, in the form that the API takes."""


@dataclass(frozen=True, slots=True, repr=False)
class EvmKey:
    account: LocalAccount

    @property
    def id(self) -> str:
        return f"evm:{self.account.address.lower()}"

    async def sign(self, document: Document, network: str) -> str:
        message = encode_typed_data(full_message=typed_data(document, network))
        return "0x" + self.account.sign_message(message).signature.hex()

    @property
    def address(self) -> str:
        return str(self.account.address)

    async def sign_in(self, text: str) -> str:
        return "0x" + self.account.sign_message(encode_defunct(text=text)).signature.hex()


@dataclass(frozen=True, slots=True, repr=False)
class SolanaKey:
    signer: Ed25519Signer

    @property
    def id(self) -> str:
        return self.signer.public_id

    @property
    def address(self) -> str:
        return encode(bytes.fromhex(self.id.removeprefix("ed25519:")))

    async def sign(self, document: Document, network: str) -> str:
        return b64encode(await self.signer.sign(message_text(document).encode())).decode()

    async def sign_in(self, text: str) -> str:
        return b64encode(await self.signer.sign(text.encode())).decode()

    async def sign_text(self, text: str) -> str:
        """Base58, as Solana's wallets show signatures."""
        return encode(await self.signer.sign(text.encode()))


def load_wallet(path: Path, password_file: Path | None = None) -> KeyFile:
    """From a keystore v3, a hex key, or a Solana keypair. Raises `InvalidInput`, `NotAllowed`.

    A keystore's password is the first line of `password_file`, or asked for.
    """
    found = _read(path)
    if isinstance(found, list):
        return _solana(path, found)
    try:
        return EvmKey(Account.from_key(_opened(path, password_file) if isinstance(found, dict) else found))
    except (ValueError, TypeError) as error:
        raise _unknown(path) from error


def load_signer(path: Path, password_file: Path | None, network: Network) -> LocalSigner:
    """An EVM key for operations of a network of its kind. Raises as `load_wallet`, and for keys of another kind."""
    found = _read(path)
    if isinstance(found, str):
        return signer_from_hex(found, network.kind)
    if isinstance(found, dict):
        return signer_from_keystore(path, password_of(path, password_file), network.kind)
    raise InvalidInput(f"{path} is no EVM key", field="key", next_step="give a keystore v3, or a file with a hex key")


def _read(path: Path) -> object:
    """The document, the list, or the bare text that a key file has."""
    if path.stat().st_mode & 0o077:
        raise NotAllowed(f"{path} is readable by others", next_step=f"chmod 600 {path}")
    try:
        text = path.read_text(encoding="utf-8").strip()
        return json.loads(text) if text[:1] in ("{", "[") else text
    except ValueError as error:
        raise _unknown(path) from error


def solana_wallet(path: Path) -> SolanaKey:
    """Raises `InvalidInput` for a key of another kind."""
    found = load_wallet(path)
    if not isinstance(found, SolanaKey):
        raise InvalidInput(
            f"{path} is no Solana key", field="key", next_step="give a Solana keypair file, as solana-keygen makes them"
        )
    return found


def _opened(path: Path, password_file: Path | None) -> bytes:
    from agentnexus.rails.evm.keystore import decrypt, read_document

    document = read_document(path.read_bytes())
    return decrypt(document, password_of(path, password_file))


def _solana(path: Path, numbers: list[object]) -> SolanaKey:
    """The form of ``solana-keygen``: seed and public key as a list of numbers."""
    try:
        raw = bytes(number for number in numbers if isinstance(number, int))
    except ValueError as error:
        raise _unknown(path) from error
    if len(raw) != SOLANA_KEYPAIR_BYTES or len(numbers) != SOLANA_KEYPAIR_BYTES:
        raise _unknown(path)
    signer = Ed25519Signer.from_seed(raw[:SEED_BYTES])
    if signer.public_id != f"ed25519:{raw[SEED_BYTES:].hex()}":
        raise InvalidInput(f"{path} is damaged: its two halves do not belong together", next_step="restore it")
    return SolanaKey(signer)


def check_draft(mandate: Mandate, wallet: str, wanted: Mapping[str, object]) -> None:
    """Raises `NotAllowed` when the node's draft allows anything else than what was typed."""
    allowed: dict[str, object] = {}
    for constraint in mandate.constraints:
        kind = str(constraint["type"])
        name = next((limit for limit, ap2 in AP2_LIMITS.items() if ap2 == kind), constraint.get("name", kind))
        allowed[str(name)] = constraint.get("max", constraint.get("allowed"))
    asked = {
        **{name: wanted[name] for name in ("total", "per_payment", "per_day")},
        "payment.allowed_payees": wanted["sellers"],
        "agentnexus.allowed_capabilities": wanted["capabilities"],
    }
    same = set(allowed) == {name for name, value in asked.items() if value is not None} and all(
        _same(allowed[name], asked[name]) for name in allowed
    )
    lasts = mandate.exp - mandate.iat
    if mandate.iss != wallet or not same or lasts != wanted["lasts_seconds"]:
        raise NotAllowed("the node drafted something else than you asked for", next_step="do not trust this node")


def _same(drafted: object, typed: object) -> bool:
    from decimal import Decimal

    if isinstance(typed, str):
        return isinstance(drafted, str) and Decimal(drafted) == Decimal(typed)
    return isinstance(typed, list) and isinstance(drafted, tuple) and sorted(drafted) == sorted(map(str, typed))


def _unknown(path: Path) -> InvalidInput:
    return InvalidInput(
        f"{path} holds no key that this program knows",
        next_step="give a keystore v3, a file with a hex key, or a Solana keypair",
    )
