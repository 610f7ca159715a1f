"""WebAuthn's two ceremonies without any storage: what a browser is asked, and whether its answer is right."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from webauthn import verify_authentication_response, verify_registration_response
from webauthn.helpers import decode_credential_public_key, encode_cbor, parse_client_data_json
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.decode_credential_public_key import DecodedEC2PublicKey
from webauthn.helpers.exceptions import WebAuthnException

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.identity.sites import Site

ES256 = -7  # the one algorithm that our smart accounts check on chain
ID_BYTES_MAX = 1023  # as WebAuthn has it
TIMEOUT_MILLISECONDS = 300_000
# The library raises its own errors for most of what strangers may send, and others' for the rest.
UNREADABLE = (
    WebAuthnException,
    InvalidSignature,
    UnsupportedAlgorithm,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential that an authenticator has made; `public_key` is the uncompressed point on P-256, 65 bytes."""

    credential_id: bytes
    public_key: bytes
    sign_count: int


def creation_options(
    site: Site, challenge: bytes, user_handle: bytes, user_name: str, exclude: Sequence[bytes]
) -> dict[str, object]:
    """``PublicKeyCredentialCreationOptionsJSON``: a discoverable ES256 credential whose user is verified."""
    return {
        "rp": {"id": site.rp_id, "name": "AgentNexus"},
        "user": {"id": encoded(user_handle), "name": user_name, "displayName": user_name},
        "challenge": encoded(challenge),
        "pubKeyCredParams": [{"type": "public-key", "alg": ES256}],
        "timeout": TIMEOUT_MILLISECONDS,
        "excludeCredentials": [{"type": "public-key", "id": encoded(each)} for each in exclude],
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": True,
            "userVerification": "required",
        },
        "attestation": "none",
    }


def request_options(site: Site, challenge: bytes) -> dict[str, object]:
    """``PublicKeyCredentialRequestOptionsJSON`` of any credential that the browser has for the site."""
    return {
        "challenge": encoded(challenge),
        "timeout": TIMEOUT_MILLISECONDS,
        "rpId": site.rp_id,
        "allowCredentials": [],
        "userVerification": "required",
    }


def answered_challenge(credential: Mapping[str, object]) -> bytes:
    """The challenge that an answer says it is for. Raises `InvalidInput`."""
    response = credential.get("response")
    text = response.get("clientDataJSON") if isinstance(response, Mapping) else None
    if not isinstance(text, str):
        raise unreadable()
    try:
        told = json.loads(decoded(text))
    except (ValueError, RecursionError):
        raise unreadable() from None
    challenge = told.get("challenge") if isinstance(told, dict) else None
    if not isinstance(challenge, str):
        raise unreadable()
    return decoded(challenge)


def checked_registration(credential: Mapping[str, object], site: Site, challenge: bytes) -> NewCredential:
    """The new credential. Raises `NotAllowed` for an answer that is not right, `InvalidInput` for what is none."""
    found = _guarded(
        lambda: verify_registration_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            require_user_verification=True,
            supported_pub_key_algs=[COSEAlgorithmIdentifier.ECDSA_SHA_256],
        )
    )
    _require_own_page(credential)
    if len(found.credential_id) > ID_BYTES_MAX:
        raise unreadable()
    return NewCredential(found.credential_id, _guarded(lambda: _point(found.credential_public_key)), found.sign_count)


def checked_assertion(
    credential: Mapping[str, object], site: Site, challenge: bytes, public_key: bytes, sign_count: int
) -> int:
    """The authenticator's new counter. Raises `NotAllowed` for an answer that is not right."""
    found = _guarded(
        lambda: verify_authentication_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            credential_public_key=_cose(public_key),
            credential_current_sign_count=sign_count,
            require_user_verification=True,
        )
    )
    _require_own_page(credential)
    return found.new_sign_count


def encoded(value: bytes) -> str:
    """base64url without padding, as WebAuthn's JSON has it."""
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """Raises `InvalidInput` for anything but base64url."""
    try:
        found = urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except ValueError:
        raise unreadable() from None
    if encoded(found) != text.rstrip("="):  # the decoder skips what it does not know
        raise unreadable()
    return found


def unreadable() -> InvalidInput:
    return InvalidInput(
        "the passkey's answer cannot be read",
        next_step="send what the browser's PublicKeyCredential has, bytes as base64url",
        field="credential",
    )


def _guarded(check: Callable[[], T]) -> T:
    try:
        return check()
    except UNREADABLE as error:
        raise NotAllowed(
            f"the passkey's answer was refused: {error}"[:300],
            next_step="begin again, with a passkey of this site that checks who uses it",
        ) from error


def _require_own_page(credential: Mapping[str, object]) -> None:
    """No frame in a page of another site may have asked."""
    response = credential["response"]
    assert isinstance(response, Mapping)
    if parse_client_data_json(decoded(str(response["clientDataJSON"]))).cross_origin:
        raise NotAllowed("the passkey was asked for by a frame of another site", next_step="open the page itself")


def _point(cose: bytes) -> bytes:
    key = decode_credential_public_key(cose)
    if not isinstance(key, DecodedEC2PublicKey) or key.crv != 1 or len(key.x) != 32 or len(key.y) != 32:
        raise ValueError("not a P-256 key")
    point = b"\x04" + key.x + key.y
    ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)  # raises for what is not on the curve
    return point


def _cose(point: bytes) -> bytes:
    return encode_cbor({1: 2, 3: ES256, -1: 1, -2: point[1:33], -3: point[33:65]})
