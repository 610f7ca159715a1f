"""What a wallet asks its owner to sign → what a page shows, and the page's answer → what the wallet takes."""

from __future__ import annotations

import json
from dataclasses import asdict

from agentnexus.rails.evm.encoding import to_hex
from agentnexus.rails.evm.userops.passkeys import challenge
from agentnexus.wallets.model import Answer, SigningRequest, Wallet
from agentnexus.wallets.views import SignatureBody
from agentnexus.web.views.signing import Signed, SigningView


def signing_view(request: SigningRequest, wallet: Wallet, action: str, command: str) -> SigningView:
    """`action` takes the answer; `command` does the same on the command line."""
    return SigningView(
        action=action,
        kind=str(request.kind),
        challenge=challenge(request.hash),
        hash=to_hex(request.hash),
        credential_id=request.credential_id,
        owner=wallet.owner.key if not request.credential_id else "",
        typed_data=_json(request.typed_data),
        delegation=_json(request.delegation),
        command=command,
    )


def answer_of(signed: Signed) -> Answer:
    """Raises `InvalidInput` for what cannot be read, `NotAllowed` for a passkey that did not check its user."""
    return SignatureBody(**asdict(signed)).answer()


def _json(value: object) -> str:
    return "" if value is None else json.dumps(value, indent=2)
