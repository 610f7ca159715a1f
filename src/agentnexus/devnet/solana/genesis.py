"""The first state of a development chain: funded accounts, USDC at its real address, a Token-2022 mint with a fee."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import CreateAccountParams, create_account
from solders.transaction import VersionedTransaction

from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.devnet.solana.accounts import (
    UNFUNDED_NAMES,
    USDC_DECIMALS,
    USDC_MINT,
    fee_mint_keypair,
    solana_accounts,
)
from agentnexus.devnet.solana.engine import Chain
from agentnexus.rails.solana.programs import (
    TOKEN_2022_PROGRAM,
    TOKEN_PROGRAM,
    associated_address,
    compute_unit_limit,
    create_associated_account,
    transfer_sol,
)

LAMPORTS_PER_SOL = 1_000_000_000
START_SOL = 1_000
FAUCET_SOL = 1_000_000_000
START_BALANCE_ATOMIC = 10_000 * 10**USDC_DECIMALS
TRANSFER_FEE_BASIS_POINTS = 100
TRANSFER_FEE_MAXIMUM = 10**USDC_DECIMALS
_MINT_WITH_FEE_BYTES = 278  # an account's size, its kind, and the fee configuration
_ENOUGH_UNITS = 500_000
_INITIALIZE_MINT, _MINT_TO, _TRANSFER_FEE_EXTENSION = 20, 7, 26


def prepare(chain: Chain) -> None:
    """Fill a new chain; does nothing on one that has been used."""
    if not chain.is_new:
        return
    faucet = solana_accounts()["deployer"]
    for account in solana_accounts().values():
        if account.name not in UNFUNDED_NAMES:
            sol = FAUCET_SOL if account is faucet else START_SOL
            chain.set_account(account.public_key, Account(sol * LAMPORTS_PER_SOL, b"", Pubkey.default()))
    # Nobody has the key of USDC's address, so this one account is forged; clients know it by its address.
    usdc = _mint_bytes(faucet.public_key, USDC_DECIMALS)
    chain.set_account(USDC_MINT, Account(chain.rent(len(usdc)), usdc, TOKEN_PROGRAM))
    _make_fee_mint(chain, faucet.keypair)
    for account in solana_accounts().values():
        if account.name not in UNFUNDED_NAMES:
            mint_tokens(chain, account.public_key, USDC_MINT, START_BALANCE_ATOMIC)
            mint_tokens(chain, account.public_key, fee_mint_keypair().pubkey(), START_BALANCE_ATOMIC)


def give_sol(chain: Chain, to: Pubkey, lamports: int) -> Signature:
    """A real transfer from the faucet."""
    faucet = solana_accounts()["deployer"]
    return execute(chain, [transfer_sol(faucet.public_key, to, lamports)], [faucet.keypair])


def mint_tokens(chain: Chain, to: Pubkey, mint: Pubkey, atomic: int) -> Signature:
    """New tokens of a development mint in `to`'s associated account, which is made if it must be."""
    authority = solana_accounts()["deployer"]
    account = chain.account(mint)
    if account is None:
        raise InvalidInput(f"there is no mint at {mint}", field="mint")
    target = associated_address(to, mint, account.owner)
    accounts = [
        AccountMeta(mint, False, True),
        AccountMeta(target, False, True),
        AccountMeta(authority.public_key, True, False),
    ]
    return execute(
        chain,
        [
            create_associated_account(authority.public_key, to, mint, account.owner),
            Instruction(account.owner, struct.pack("<BQ", _MINT_TO, atomic), accounts),
        ],
        [authority.keypair],
    )


def execute(chain: Chain, instructions: Sequence[Instruction], signers: Sequence[Keypair]) -> Signature:
    """One transaction of the chain's own; raises `Unavailable` when it fails."""
    blockhash, _ = chain.blockhash()
    # A limit of its own, or the same order given twice in one block would be one transaction.
    unique = compute_unit_limit(_ENOUGH_UNITS + chain.transaction_count % _ENOUGH_UNITS)
    message = MessageV0.try_compile(signers[0].pubkey(), [unique, *instructions], [], blockhash)
    transaction = VersionedTransaction(message, signers)
    chain.execute(transaction)
    signature = transaction.signatures[0]
    sent = chain.ledger.find(signature)
    if sent is None:
        sent_again = chain.simulate(transaction)
        raise Unavailable(f"the development chain refuses its own transaction: {sent_again.error}")
    if sent.error is not None:
        raise Unavailable(f"a transaction of the development chain failed: {sent.error}")
    return signature


def _mint_bytes(authority: Pubkey, decimals: int) -> bytes:
    return struct.pack("<I32sQBBI32s", 1, bytes(authority), 0, decimals, 1, 0, bytes(32))


def _make_fee_mint(chain: Chain, authority: Keypair) -> None:
    mint = fee_mint_keypair()
    owner = bytes(authority.pubkey())
    fee = bytes([_TRANSFER_FEE_EXTENSION, 0, 1, *owner, 1, *owner])
    fee += struct.pack("<HQ", TRANSFER_FEE_BASIS_POINTS, TRANSFER_FEE_MAXIMUM)
    writable = [AccountMeta(mint.pubkey(), False, True)]
    execute(
        chain,
        [
            create_account(
                CreateAccountParams(
                    from_pubkey=authority.pubkey(),
                    to_pubkey=mint.pubkey(),
                    lamports=chain.rent(_MINT_WITH_FEE_BYTES),
                    space=_MINT_WITH_FEE_BYTES,
                    owner=TOKEN_2022_PROGRAM,
                )
            ),
            Instruction(TOKEN_2022_PROGRAM, fee, writable),
            Instruction(TOKEN_2022_PROGRAM, bytes([_INITIALIZE_MINT, USDC_DECIMALS, *owner, 0]), writable),
        ],
        [authority, mint],
    )
