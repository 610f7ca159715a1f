"""Signing in with a wallet: a message (EIP-4361) that is good once, signed by a key or a smart account."""

from __future__ import annotations

import base64
import binascii
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_keys.exceptions import BadSignature
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.core.ports import Clock, Entropy
from agentnexus.identity.sites import Site
from agentnexus.identity.tokens import Tokens
from agentnexus.platform.database import Database
from agentnexus.platform.signing import PREFIX, PUBLIC_ID, verify_ed25519

# What eth_account brings along raises Python's limit so far that deep JSON would end the process.
RECURSION_MAX = 1000
sys.setrecursionlimit(min(sys.getrecursionlimit(), RECURSION_MAX))
VALID = timedelta(minutes=5)
EVM = re.compile(r"0x[0-9a-fA-F]{40}")
HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*")
STATEMENT = "Sign in to AgentNexus. This spends nothing."
FORGET = "delete from identity.challenge where expires_at < $1"
ASK = "insert into identity.challenge (nonce, address, message, expires_at) values ($1, $2, $3, $4)"
USE = "delete from identity.challenge where nonce = $1 and address = $2 returning message, expires_at"
Verify = Callable[[str, bytes, bytes], Awaitable[bool]]
"""Whether a signature is the account's over a digest, by the account's own opinion (ERC-1271, ERC-6492)."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """What is to be signed, as UTF-8 text, before `expires_at`."""

    nonce: str
    message: str
    expires_at: datetime


class WalletLogin:
    """Tokens for those who show that a wallet is theirs. Their person is the address itself.

    Args:
        chain_id: the chain that smart accounts are on.
        verify: asks them; None where no chain is configured, and only keys can sign in.
    """

    def __init__(
        self,
        database: Database,
        tokens: Tokens,
        clock: Clock,
        entropy: Entropy,
        *,
        chain_id: int,
        verify: Verify | None = None,
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._clock = clock
        self._entropy = entropy
        self._chain_id = chain_id
        self._verify = verify

    async def challenge(self, address: str, site: Site) -> Challenge:
        """The message of `site` for that wallet. Raises `InvalidInput` for what is no address."""
        wallet, now = checked(address), self._clock.now()
        nonce, expires_at = self._entropy.random_bytes(16).hex(), now + VALID
        text = message(wallet, site, chain_id=self._chain_id, nonce=nonce, now=now, expires_at=expires_at)
        async with self._database.transaction() as connection:
            await connection.execute(FORGET, now)
            await connection.execute(ASK, nonce, wallet, text, expires_at)
        return Challenge(nonce, text, expires_at)

    async def sign_in(
        self, address: str, nonce: str, signature: str, *, lives: timedelta | None = None
    ) -> tuple[str, str]:
        """(person, token). A challenge is used up by the first answer, right or wrong.

        Raises `NotAllowed`; `Unavailable` when a smart account cannot be asked.
        """
        wallet = checked(address)
        async with self._database.connection() as connection:
            asked = await connection.fetchrow(USE, nonce, wallet)
        if asked is None or asked["expires_at"] < self._clock.now():
            raise NotAllowed("this challenge is unknown, used or too old", next_step="ask for a new one and sign that")
        if not await self._signed(wallet, asked["message"], signature):
            raise NotAllowed("the signature is not by that wallet", next_step="sign the message exactly as it is")
        person = wallet.replace(":", ".")
        return person, await self._tokens.admit(person, lives=lives, label="wallet")

    async def _signed(self, wallet: str, text: str, signature: str) -> bool:
        if await signed_by(wallet, text, signature):
            return True  # also for an address that has code by EIP-7702: its key is above its code
        if self._verify is None or not EVM.fullmatch(wallet) or not HEX.fullmatch(signature):
            return False
        return await self._verify(wallet, personal_digest(text), bytes.fromhex(signature[2:]))


def message(wallet: str, site: Site, *, chain_id: int, nonce: str, now: datetime, expires_at: datetime) -> str:
    """The text a wallet shows before it signs (EIP-4361; its form for keys that are no Ethereum account)."""
    is_evm = not wallet.startswith(PREFIX)
    lines = [
        f"{site.domain} wants you to sign in with your {'Ethereum' if is_evm else 'Ed25519'} account:",
        to_checksum_address(wallet) if is_evm else wallet,
        "",
        STATEMENT,
        "",
        f"URI: {site.origin}",
        "Version: 1",
        *([f"Chain ID: {chain_id}"] if is_evm else []),
        f"Nonce: {nonce}",
        f"Issued At: {_timestamp(now)}",
        f"Expiration Time: {_timestamp(expires_at)}",
    ]
    return "\n".join(lines)


def personal_digest(text: str) -> bytes:
    """What ``personal_sign`` signs of a text (EIP-191)."""
    raw = text.encode()
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(raw)).encode() + raw)


def _timestamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
    except (ValueError, TypeError, LookupError, BadSignature, ValidationError):
        return False
    return found.lower() == wallet
