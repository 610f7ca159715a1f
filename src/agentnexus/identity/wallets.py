"""Signing in with a wallet: a message that is good once, signed by an EVM (EIP-191) or Ed25519 key, for a token."""

from __future__ import annotations

import base64
import binascii
import re
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.core.ports import Clock, Entropy
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Database
from agentnexus.platform.signing import PREFIX, PUBLIC_ID, verify_ed25519

# What eth_account brings along raises Python's limit so far that deep JSON would end the process.
RECURSION_MAX = 1000
sys.setrecursionlimit(min(sys.getrecursionlimit(), RECURSION_MAX))
VALID = timedelta(minutes=10)
EVM = re.compile(r"0x[0-9a-fA-F]{40}")
ASK = "insert into identity.challenge (nonce, address, expires_at) values ($1, $2, $3)"
USE = "delete from identity.challenge where nonce = $1 and address = $2 returning expires_at"
FORGET = "delete from identity.challenge where expires_at < $1"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What is to be signed, as UTF-8 text, before `expires_at`."""

    nonce: str
    message: str
    expires_at: datetime


class WalletLogin:
    """Tokens for those who show that a key is theirs. Their person is the address itself."""

    def __init__(self, database: Database, tokens: Tokens, clock: Clock, entropy: Entropy) -> None:
        self._database = database
        self._tokens = tokens
        self._clock = clock
        self._entropy = entropy

    async def challenge(self, address: str) -> Challenge:
        """Raises `InvalidInput` for what is no address."""
        wallet, now = checked(address), self._clock.now()
        nonce, expires_at = self._entropy.random_bytes(16).hex(), now + VALID
        async with self._database.transaction() as connection:
            await connection.execute(FORGET, now)
            await connection.execute(ASK, nonce, wallet, expires_at)
        return Challenge(nonce, message(wallet, nonce, expires_at), expires_at)

    async def sign_in(self, address: str, nonce: str, signature: str) -> tuple[str, str]:
        """(person, token). Raises `NotAllowed`; a challenge is used up by the first answer, right or wrong."""
        wallet = checked(address)
        async with self._database.connection() as connection:
            expires_at: datetime | None = await connection.fetchval(USE, nonce, wallet)
        if expires_at is None or expires_at < self._clock.now():
            raise NotAllowed("this challenge is unknown, used or too old", next_step="ask for a new one and sign that")
        if not await signed_by(wallet, message(wallet, nonce, expires_at), signature):
            raise NotAllowed("the signature is not by that wallet", next_step="sign the message exactly as it is")
        person = wallet.replace(":", ".")
        return person, await self._tokens.issue(person)


def message(wallet: str, nonce: str, expires_at: datetime) -> str:
    """The text a wallet shows before it signs; it says that it spends nothing."""
    until = expires_at.isoformat(timespec="seconds")
    return f"Sign in to AgentNexus.\nThis spends nothing.\n\nWallet: {wallet}\nNonce: {nonce}\nValid until: {until}"


def checked(address: str) -> str:
    """One spelling per wallet: lower-case ``0x…`` or ``ed25519:<hex>``. Raises `InvalidInput`."""
    if EVM.fullmatch(address):
        return address.lower()
    if PUBLIC_ID.fullmatch(address):
        return address
    raise InvalidInput(
        "that is no wallet", field="address", next_step="give 0x and 40 hex digits, or ed25519: and 64 hex digits"
    )


async def signed_by(wallet: str, text: str, signature: str) -> bool:
    """Whether `signature` (hex for EVM, base64 for Ed25519) is the wallet's over the text."""
    if wallet.startswith(PREFIX):
        try:
            return await verify_ed25519(wallet, text.encode(), base64.b64decode(signature, validate=True))
        except binascii.Error:
            return False
    try:
        found: str = Account.recover_message(encode_defunct(text=text), signature=signature)
    except (ValueError, TypeError, IndexError, BadSignature, ValidationError):
        return False
    return found.lower() == wallet
