"""What a wallet asks its owner to sign → what a page shows, and the page's answer → what the wallet takes."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.encoding import from_hex, to_hex
from agentnexus.rails.evm.userops.passkeys import Assertion
from agentnexus.wallets.model import Answer, KeySignature, SigningRequest, Wallet
from agentnexus.web.views.signing import Signed, SigningView


def signing_view(request: SigningRequest, wallet: Wallet, action: str, command: str) -> SigningView:
    """`action` takes the answer; `command` does the same on the command line."""
    return SigningView(
        action=action,
        kind=str(request.kind),
        challenge=urlsafe_b64encode(request.hash).rstrip(b"=").decode(),
        hash=to_hex(request.hash),
        credential_id=request.credential_id,
        owner=wallet.owner.key if not request.credential_id else "",
        typed_data=_json(request.typed_data),
        delegation=_json(request.delegation),
        command=command,
    )


def answer_of(signed: Signed) -> Answer:
    """Raises `InvalidInput` for what cannot be read."""
    if signed.authenticator_data or signed.client_data:
        return Assertion.from_browser(
            _bytes(signed.authenticator_data), _bytes(signed.client_data), _bytes(signed.signature)
        )
    delegation = from_hex(signed.delegation, size=65, field="delegation") if signed.delegation else b""
    return KeySignature(from_hex(signed.signature, size=65, field="signature"), delegation)


def _json(value: object) -> str:
    return "" if value is None else json.dumps(value, indent=2)


def _bytes(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise InvalidInput(
            "the passkey's answer cannot be read", field="signature", next_step="sign it again"
        ) from error
