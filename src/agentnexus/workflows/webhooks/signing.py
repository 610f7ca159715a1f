"""Signatures as the Standard Webhooks specification has them, so that receivers can use the libraries there are. Pure.

Signed is ``<webhook-id>.<webhook-timestamp>.<body>``: ``v1,`` is HMAC-SHA256 with the endpoint's own secret, ``v1a,``
Ed25519 with the node's key.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

from agentnexus.core.errors import NotAllowed
from agentnexus.core.ports import Entropy, Signer
from agentnexus.platform.signing import verify_ed25519_now

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix, not a secret
TOLERANCE_SECONDS = 300
HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


def new_secret(entropy: Entropy) -> str:
    """24 random bytes as text."""
    return SECRET_PREFIX + base64.b64encode(entropy.random_bytes(24)).decode()


def _signed(message_id: str, timestamp: int, body: bytes) -> bytes:
    return f"{message_id}.{timestamp}.".encode() + body


def hmac_signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """``v1,<base64>``."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    digest = hmac.new(key, _signed(message_id, timestamp, body), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


async def ed25519_signature(signer: Signer, message_id: str, timestamp: int, body: bytes) -> str:
    """``v1a,<base64>``."""
    signature = await signer.sign(_signed(message_id, timestamp, body))
    return f"v1a,{base64.b64encode(signature).decode()}"


def check(headers: Mapping[str, str], body: bytes, now: float, *, secret: str = "", public_id: str = "") -> str:
    """What a receiver does: the event's id. Raises `NotAllowed` for a wrong signature or one that is too old."""
    message_id, stamp, signatures = (headers.get(name, "") for name in HEADERS)
    if not stamp.isdigit() or abs(now - int(stamp)) > TOLERANCE_SECONDS:
        raise NotAllowed("the webhook's timestamp is missing or too old", next_step="check your clock")
    for signature in signatures.split():
        kind, _, value = signature.partition(",")
        if kind == "v1" and secret:
            if hmac.compare_digest(signature, hmac_signature(secret, message_id, int(stamp), body)):
                return message_id
        elif (
            kind == "v1a"
            and public_id
            and verify_ed25519_now(public_id, _signed(message_id, int(stamp), body), _bytes(value))
        ):
            return message_id
    raise NotAllowed("the webhook's signature is wrong", next_step="check the endpoint's secret")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""
