"""Signed requests: who sends a registration, a change or a rating proves to hold the key it names.

The caller signs the text ``AgentNexus registry\n<METHOD> <path>\n<sha256 of body>\n<unix seconds>`` as its wallet
signs messages, EVM by EIP-191 `personal_sign` and Solana by Ed25519 over the very bytes, and sends address, time and
signature in headers. Good once and for five minutes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.core.ports import Signer
from agentnexus.platform.signing import verify_ed25519_now
from agentnexus.rails.evm.encoding import address, from_hex, keccak, to_hex
from agentnexus.rails.evm.signer import recover
from agentnexus.rails.solana import base58

ADDRESS_HEADER = "X-Owner-Address"
TIME_HEADER = "X-Owner-Time"
SIGNATURE_HEADER = "X-Owner-Signature"
WINDOW_SECONDS = 300
KEY_BYTES, SIGNATURE_BYTES = 32, 64


def text_of(method: str, path: str, body: bytes, unix_seconds: int) -> bytes:
    """What is signed, in words a wallet can show."""
    digest = hashlib.sha256(body).hexdigest()
    return f"AgentNexus registry\n{method.upper()} {path}\n{digest}\n{unix_seconds}".encode()


def digest_of(text: bytes) -> bytes:
    """The 32 bytes that an EVM wallet signs for a text."""
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)


def canonical_owner(owner: str) -> str:
    """The form in which two spellings of one address are equal: hex has two cases, base58 has one."""
    return owner.lower() if is_evm(owner) else owner


def is_evm(owner: str) -> bool:
    return owner[:2].lower() == "0x"


async def sign_request(signer: Signer, method: str, path: str, body: bytes, now: datetime) -> dict[str, str]:
    """Headers that prove the sender holds the key of `signer`, an EVM or a Solana one."""
    seconds = int(now.timestamp())
    text, owner = text_of(method, path, body, seconds), signer.public_id
    proof = to_hex(await signer.sign(digest_of(text))) if is_evm(owner) else base58.encode(await signer.sign(text))
    return {ADDRESS_HEADER: owner, TIME_HEADER: str(seconds), SIGNATURE_HEADER: proof}


def verified_address(method: str, path: str, body: bytes, headers: Mapping[str, str], now: datetime) -> str:
    """The proven sender's address (EVM: in lower case); raises `NotAllowed` saying what is missing or wrong."""
    claimed, seconds, signature = (headers.get(name) for name in (ADDRESS_HEADER, TIME_HEADER, SIGNATURE_HEADER))
    if not (claimed and seconds and signature):
        raise NotAllowed(
            "this call must be signed by the owner's key",
            next_step=f"send {ADDRESS_HEADER}, {TIME_HEADER} and {SIGNATURE_HEADER} (docs/protocols.md)",
        )
    if not seconds.isdecimal() or len(seconds) > 12 or abs(int(seconds) - now.timestamp()) > WINDOW_SECONDS:
        raise NotAllowed("the signature is too old or from the future", next_step="check the clock and sign again")
    text = text_of(method, path, body, int(seconds))
    try:
        signed = _by_evm(claimed, text, signature) if is_evm(claimed) else _by_solana(claimed, text, signature)
    except (InvalidInput, ValueError) as error:
        raise NotAllowed(f"the signature is malformed: {error}", next_step="sign again") from error
    if not signed:
        raise NotAllowed("the signature is not by the address it names", next_step="sign with that address's key")
    return canonical_owner(claimed)


def _by_evm(claimed: str, text: bytes, signature: str) -> bool:
    return recover(digest_of(text), from_hex(signature, size=65, field="signature")) == address(
        claimed, field="address"
    )


def _by_solana(claimed: str, text: bytes, signature: str) -> bool:
    key, proof = base58.decode(claimed), base58.decode(signature)
    if len(key) != KEY_BYTES or len(proof) != SIGNATURE_BYTES:
        raise ValueError(f"an address has {KEY_BYTES} bytes and a signature {SIGNATURE_BYTES}, both in base58")
    return verify_ed25519_now(f"ed25519:{key.hex()}", text, proof)
