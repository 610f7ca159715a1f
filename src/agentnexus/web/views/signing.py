"""What somebody signs in the browser before a wallet sends something, and the answer as a form brings it back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SigningView:
    """One thing to sign.

    Args:
        action: the address that takes the answer.
        kind: ``passkey``, ``key`` or ``delegated``: who signs.
        challenge: what a passkey signs, base64url.
        credential_id: the passkey's, base64url.
        hash: the same as ``0x`` hex.
        owner: address of the wallet that signs, where one does.
        typed_data: EIP-712 JSON that browsers' wallets show; empty where there is none.
        delegation: JSON of what an address delegates to; programs sign that, browsers' wallets do not.
        command: what does all of this on the command line.
    """

    action: str
    kind: str
    challenge: str
    hash: str
    credential_id: str = ""
    owner: str = ""
    typed_data: str = ""
    delegation: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Signed:
    """The answer: hex of a wallet, or the three parts of a passkey's (base64url). Everything as it was posted."""

    signature: str
    delegation: str = ""
    authenticator_data: str = ""
    client_data: str = ""
