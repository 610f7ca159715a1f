"""Reading the answer of a passkey or a wallet from a posted form."""

from __future__ import annotations

from agentnexus.web.forms import FormData
from agentnexus.web.pages.uploads import text_of
from agentnexus.web.views.signing import Signed

CHARS, DELEGATION_CHARS = 8000, 200


def signed_of(data: FormData) -> Signed:
    """As it was posted; what it is worth is the wallet's to say."""
    return Signed(
        signature=text_of(data, "signature", limit=CHARS),
        delegation=text_of(data, "delegation", limit=DELEGATION_CHARS),
        authenticator_data=text_of(data, "authenticator_data", limit=CHARS),
        client_data=text_of(data, "client_data", limit=CHARS),
    )
