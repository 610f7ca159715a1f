"""Signed requests: who sends a registration, a change or a rating proves to hold the key it names.

The caller signs (EIP-191 `personal_sign`) the text ``AgentNexus registry\n<METHOD> <path>\n<sha256 of body>\n<unix
seconds>`` and sends address, time and signature in headers. Good once and for five minutes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.rails.evm.encoding import address, from_hex, keccak, to_hex
from agentnexus.rails.evm.signer import EvmSigner, recover

ADDRESS_HEADER = "X-Owner-Address"
TIME_HEADER = "X-Owner-Time"
SIGNATURE_HEADER = "X-Owner-Signature"
WINDOW_SECONDS = 300


def digest_of(method: str, path: str, body: bytes, unix_seconds: int) -> bytes:
    """The 32 bytes that are signed."""
    text = f"AgentNexus registry\n{method.upper()} {path}\n{hashlib.sha256(body).hexdigest()}\n{unix_seconds}".encode()
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)


async def sign_request(signer: EvmSigner, method: str, path: str, body: bytes, now: datetime) -> dict[str, str]:
    """Headers that prove the sender holds the key of `signer`."""
    seconds = int(now.timestamp())
    signature = await signer.sign(digest_of(method, path, body, seconds))
    return {ADDRESS_HEADER: signer.public_id, TIME_HEADER: str(seconds), SIGNATURE_HEADER: to_hex(signature)}


def verified_address(method: str, path: str, body: bytes, headers: Mapping[str, str], now: datetime) -> str:
    """Lower-case address of the proven sender; raises `NotAllowed` saying what is missing or wrong."""
    claimed, seconds, signature = (headers.get(name) for name in (ADDRESS_HEADER, TIME_HEADER, SIGNATURE_HEADER))
    if not (claimed and seconds and signature):
        raise NotAllowed(
            "this call must be signed by the owner's key",
            next_step=f"send {ADDRESS_HEADER}, {TIME_HEADER} and {SIGNATURE_HEADER} (docs/protocols.md)",
        )
    if not seconds.isdecimal() or len(seconds) > 12 or abs(int(seconds) - now.timestamp()) > WINDOW_SECONDS:
        raise NotAllowed("the signature is too old or from the future", next_step="check the clock and sign again")
    try:
        found = recover(digest_of(method, path, body, int(seconds)), from_hex(signature, size=65, field="signature"))
        expected = address(claimed, field="address")
    except InvalidInput as error:
        raise NotAllowed(f"the signature is malformed: {error.message}", next_step="sign again") from error
    if found != expected:
        raise NotAllowed("the signature is not by the address it names", next_step="sign with that address's key")
    return expected
