"""Wallets and signatures as people and wallets write them, in the one form that the ledger keeps."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.solana.base58 import decode

ED25519_KEY_BYTES, ED25519_SIGNATURE_BYTES = 32, 64
KEPT = re.compile(r"evm:0x[0-9a-f]{40}|ed25519:[0-9a-f]{64}")
EVM_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


def wallet_id(text: str) -> str:
    """``evm:0x…`` or ``ed25519:<hex>`` from that, an EVM address, or a Solana address. Raises `InvalidInput`."""
    given = text.strip()
    if KEPT.fullmatch(given):
        return given
    if EVM_ADDRESS.fullmatch(given):
        return f"evm:{given.lower()}"
    try:
        raw = decode(given)
    except ValueError:
        raw = b""
    if len(raw) != ED25519_KEY_BYTES:
        raise InvalidInput(
            "this is no address of an EVM or Solana wallet", field="wallet", next_step="copy it from the wallet"
        )
    return f"ed25519:{raw.hex()}"


def signature_text(wallet: str, text: str) -> str:
    """Hex as it is for EVM wallets; base64 for Ed25519 ones from base64, base58 or hex. Never raises: it is checked."""
    given = text.strip()
    if wallet.startswith("evm:"):
        return given
    for read in (bytes.fromhex, decode, _base64):
        try:
            raw = read(given)
        except ValueError:
            continue
        if len(raw) == ED25519_SIGNATURE_BYTES:
            return b64encode(raw).decode()
    return given


def _base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
