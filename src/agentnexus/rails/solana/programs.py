"""Instructions of the programs a payment needs: token programs, associated accounts, compute budget, memo."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from agentnexus.core.errors import InvalidInput

TOKEN_PROGRAM = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022_PROGRAM = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
TOKEN_PROGRAMS = (TOKEN_PROGRAM, TOKEN_2022_PROGRAM)
ASSOCIATED_TOKEN_PROGRAM = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
COMPUTE_BUDGET_PROGRAM = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
MEMO_PROGRAM = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
SYSTEM_PROGRAM = Pubkey.default()
U64_MAX = 2**64 - 1

_SYSTEM_TRANSFER = 2
_CREATE_ASSOCIATED_IDEMPOTENT = 1
_TRANSFER_CHECKED = 12
_COMPUTE_UNIT_LIMIT = 2
_COMPUTE_UNIT_PRICE = 3


def public_key(text: str | Pubkey, *, field: str = "address") -> Pubkey:
    """Raises `InvalidInput` unless the text is 32 bytes in base58."""
    if isinstance(text, Pubkey):
        return text
    try:
        return Pubkey.from_string(text)
    except (ValueError, TypeError):
        raise InvalidInput(f"not a Solana address: {str(text)[:100]!r}", field=field) from None


@lru_cache(maxsize=16_384)
def associated_address(owner: Pubkey, mint: Pubkey, program: Pubkey = TOKEN_PROGRAM) -> Pubkey:
    """Where an owner's tokens of one mint are by convention. 40 microseconds, so it is remembered."""
    seeds = [bytes(owner), bytes(program), bytes(mint)]
    return Pubkey.find_program_address(seeds, ASSOCIATED_TOKEN_PROGRAM)[0]


def transfer_sol(source: Pubkey, destination: Pubkey, lamports: int) -> Instruction:
    data = struct.pack("<IQ", _SYSTEM_TRANSFER, lamports)
    return Instruction(SYSTEM_PROGRAM, data, [AccountMeta(source, True, True), AccountMeta(destination, False, True)])


@dataclass(frozen=True, slots=True)
class Token:
    """What a token instruction must name: the mint, its decimals and the program that runs it."""

    mint: Pubkey
    decimals: int
    program: Pubkey = TOKEN_PROGRAM

    def account_of(self, owner: Pubkey) -> Pubkey:
        """The owner's associated account."""
        return associated_address(owner, self.mint, self.program)


def transfer_tokens(owner: Pubkey, destination: Pubkey, amount: int, token: Token) -> Instruction:
    """TransferChecked from the owner's associated account; the program compares mint and decimals."""
    accounts = [
        AccountMeta(token.account_of(owner), False, True),
        AccountMeta(token.mint, False, False),
        AccountMeta(destination, False, True),
        AccountMeta(owner, True, False),
    ]
    return Instruction(token.program, struct.pack("<BQB", _TRANSFER_CHECKED, amount, token.decimals), accounts)


def create_associated_account(payer: Pubkey, owner: Pubkey, mint: Pubkey, program: Pubkey) -> Instruction:
    """Make an owner's token account unless it exists; `payer` pays its rent."""
    accounts = [
        AccountMeta(payer, True, True),
        AccountMeta(associated_address(owner, mint, program), False, True),
        AccountMeta(owner, False, False),
        AccountMeta(mint, False, False),
        AccountMeta(SYSTEM_PROGRAM, False, False),
        AccountMeta(program, False, False),
    ]
    return Instruction(ASSOCIATED_TOKEN_PROGRAM, bytes([_CREATE_ASSOCIATED_IDEMPOTENT]), accounts)


def compute_unit_limit(units: int) -> Instruction:
    return Instruction(COMPUTE_BUDGET_PROGRAM, struct.pack("<BI", _COMPUTE_UNIT_LIMIT, units), [])


def compute_unit_price(micro_lamports: int) -> Instruction:
    """The priority fee, in millionths of a lamport per compute unit."""
    return Instruction(COMPUTE_BUDGET_PROGRAM, struct.pack("<BQ", _COMPUTE_UNIT_PRICE, micro_lamports), [])


def memo(text: bytes, signers: Sequence[Pubkey] = ()) -> Instruction:
    """UTF-8 text in the transaction's log."""
    return Instruction(MEMO_PROGRAM, text, [AccountMeta(signer, True, False) for signer in signers])
