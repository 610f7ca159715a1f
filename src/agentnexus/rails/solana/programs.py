"""Instructions of the programs a payment needs: token programs, associated accounts, compute budget, memo."""

from __future__ import annotations

import struct
from collections.abc import Sequence
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


def transfer_tokens(  # noqa: PLR0917 - the instruction's accounts in their order, then its data
    owner: Pubkey, source: Pubkey, destination: Pubkey, mint: Pubkey, amount: int, decimals: int, program: Pubkey
) -> Instruction:
    """TransferChecked between two token accounts; the program compares mint and decimals."""
    accounts = [
        AccountMeta(source, False, True),
        AccountMeta(mint, False, False),
        AccountMeta(destination, False, True),
        AccountMeta(owner, True, False),
    ]
    return Instruction(program, struct.pack("<BQB", _TRANSFER_CHECKED, amount, decimals), accounts)


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
