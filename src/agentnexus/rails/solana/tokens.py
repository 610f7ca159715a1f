"""The bytes of mints and token accounts, of both token programs."""

from __future__ import annotations

from dataclasses import dataclass

from solders.pubkey import Pubkey

from agentnexus.rails.solana.programs import TOKEN_PROGRAMS

_ACCOUNT_BYTES = 165
_MINT_BYTES = 82
# Token-2022 pads a mint to an account's size, then says which of the two it is, then lists extensions.
_TYPE_AT = 165
_TYPE_MINT, _TYPE_ACCOUNT = 1, 2
_STATES = ("uninitialized", "initialized", "frozen")


@dataclass(frozen=True, slots=True)
class TokenAccount:
    """Who owns how much of what."""

    mint: Pubkey
    owner: Pubkey
    amount: int
    state: str


@dataclass(frozen=True, slots=True)
class Mint:
    """A token: its supply in atomic units, and what one whole unit is."""

    supply: int
    decimals: int
    authority: Pubkey | None
    program: Pubkey


def read_token_account(program: Pubkey, data: bytes) -> TokenAccount | None:
    """None when these bytes of an account owned by `program` are not an initialised token account."""
    if program not in TOKEN_PROGRAMS or not _is_kind(data, _ACCOUNT_BYTES, _TYPE_ACCOUNT):
        return None
    state = data[108]
    if not 0 < state < len(_STATES):
        return None
    return TokenAccount(
        mint=Pubkey.from_bytes(data[:32]),
        owner=Pubkey.from_bytes(data[32:64]),
        amount=int.from_bytes(data[64:72], "little"),
        state=_STATES[state],
    )


def read_mint(program: Pubkey, data: bytes) -> Mint | None:
    """None when these bytes of an account owned by `program` are not an initialised mint."""
    if program not in TOKEN_PROGRAMS or not _is_kind(data, _MINT_BYTES, _TYPE_MINT) or data[45] != 1:
        return None
    authority = Pubkey.from_bytes(data[4:36]) if data[0] else None
    return Mint(int.from_bytes(data[36:44], "little"), data[44], authority, program)


def _is_kind(data: bytes, plain_bytes: int, kind: int) -> bool:
    return len(data) == plain_bytes or (len(data) > _TYPE_AT and data[_TYPE_AT] == kind)
