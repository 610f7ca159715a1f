"""Claiming deposits by signature: each thing that can be wrong with a claim is its own refusal."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.system_program import CreateAccountParams, create_account
from solders.transaction import VersionedTransaction
from tests.solana.conftest import SOL, Wallet, funded_wallet, new_wallet

from agentnexus.core.errors import Conflict, InvalidInput
from agentnexus.core.money import Asset, Money
from agentnexus.devnet.solana.accounts import USDC_MINT, fee_mint_keypair, solana_accounts
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.devnet.solana.faults import Fault
from agentnexus.rails.solana.cluster import Cluster, Commitment
from agentnexus.rails.solana.deposits import Deposit, DepositVerifier
from agentnexus.rails.solana.errors import DepositFault, DepositRefused, DepositUnconfirmed
from agentnexus.rails.solana.networks import MAINNET
from agentnexus.rails.solana.programs import (
    TOKEN_2022_PROGRAM,
    TOKEN_PROGRAM,
    Token,
    create_associated_account,
    memo,
    transfer_sol,
    transfer_tokens,
)

USDC = Token(USDC_MINT, 6)
FEE_TOKEN = Token(fee_mint_keypair().pubkey(), 6, TOKEN_2022_PROGRAM)


class Claims:
    """A treasury on the session's chain, and short ways to bring it money."""

    def __init__(self, chain: SolanaDevelopmentChain, assets: Sequence[Asset] | None = None) -> None:
        self.chain = chain
        self.treasury = new_wallet()
        taken = assets or (chain.usdc, chain.network.native)
        self.verifier = DepositVerifier(chain.rpc, chain.network, self.treasury.address, taken)

    async def send(self, instructions: Sequence[Instruction], *signers: Keypair, final: bool = True) -> str:
        latest = await Cluster(self.chain.rpc).latest_blockhash()
        noise = memo(bytes(Hash.new_unique()).hex().encode())
        message = MessageV0.try_compile(signers[0].pubkey(), [*instructions, noise], [], latest.blockhash)
        transaction = VersionedTransaction(message, list(signers))
        await Cluster(self.chain.rpc).send(bytes(transaction), preflight=False)
        if final:
            await self.chain.advance(40)
        return str(transaction.signatures[0])

    async def deposit(self, wallet: Wallet, atomic: int, *, token: Token = USDC, final: bool = True) -> str:
        return await self.send(self.to_treasury(wallet, atomic, token), wallet.keypair, final=final)

    def to_treasury(self, wallet: Wallet, atomic: int, token: Token = USDC) -> list[Instruction]:
        to = self.treasury.key
        return [
            create_associated_account(wallet.key, to, token.mint, token.program),
            transfer_tokens(wallet.key, token.account_of(to), atomic, token),
        ]

    async def refused(self, signature: str, **claim: object) -> DepositFault:
        with pytest.raises(DepositRefused) as caught:
            await self.verifier.verify_deposit(signature, **claim)  # type: ignore[arg-type]  # claims by name
        assert caught.value.details["reason"] == str(caught.value.fault)
        assert caught.value.next_step
        return caught.value.fault


@pytest.fixture
def claims(solana: SolanaDevelopmentChain) -> Claims:
    return Claims(solana)


@pytest.fixture
async def user(solana: SolanaDevelopmentChain) -> Wallet:
    return await funded_wallet(solana)


async def test_a_final_deposit_is_known_with_sender_amount_and_time(claims: Claims, user: Wallet) -> None:
    signature = await claims.deposit(user, 250_000)
    found = await claims.verifier.verify_deposit(
        signature, sender=user.address, amount=Money(claims.chain.usdc, 250_000)
    )
    assert found == Deposit(
        signature, user.address, claims.treasury.address, Money(claims.chain.usdc, 250_000), found.slot, found.sent_at
    )
    assert abs(datetime.now(UTC) - found.sent_at) < timedelta(minutes=1)


async def test_sol_counts_without_the_fee_that_its_sender_paid(claims: Claims, user: Wallet) -> None:
    signature = await claims.send([transfer_sol(user.key, claims.treasury.key, SOL // 4)], user.keypair)
    found = await claims.verifier.verify_deposit(signature, sender=user.address)
    assert found.amount == Money(claims.chain.network.native, SOL // 4)


async def test_a_sponsored_deposit_is_its_owners_and_not_the_sponsors(claims: Claims, user: Wallet) -> None:
    sponsor = await funded_wallet(claims.chain)
    signature = await claims.send(claims.to_treasury(user, 7_000), sponsor.keypair, user.keypair)
    assert (await claims.verifier.verify_deposit(signature, sender=user.address)).amount.atomic == 7_000
    assert await claims.refused(signature, sender=sponsor.address) is DepositFault.FOREIGN


async def test_a_token_with_a_fee_counts_what_arrived(solana: SolanaDevelopmentChain) -> None:
    claims = Claims(solana, [solana.fee_token])
    user = await funded_wallet(solana, solana.fee_token)
    signature = await claims.deposit(user, 100_000, token=FEE_TOKEN)
    found = await claims.verifier.verify_deposit(signature, sender=user.address)
    assert found.amount == Money(solana.fee_token, 99_000)


@pytest.mark.parametrize("text", ["", "hello", "1" * 20, "é" * 64, "5" * 200, "0x" + "ab" * 32])
async def test_what_is_no_signature_is_malformed(claims: Claims, text: str) -> None:
    assert await claims.refused(text) is DepositFault.MALFORMED


async def test_a_signature_the_cluster_never_saw_is_unknown(claims: Claims) -> None:
    signature = str(Keypair().sign_message(b"nothing"))
    assert await claims.refused(signature) is DepositFault.UNKNOWN


async def test_a_deposit_that_is_not_final_is_unconfirmed_and_then_counts(claims: Claims, user: Wallet) -> None:
    signature = await claims.deposit(user, 9_000, final=False)
    with pytest.raises(DepositUnconfirmed) as caught:
        await claims.verifier.verify_deposit(signature)
    assert isinstance(caught.value, Conflict)
    assert caught.value.details["reason"] == "unconfirmed"
    await claims.chain.advance(40)
    assert (await claims.verifier.verify_deposit(signature)).amount.atomic == 9_000


async def test_a_failed_transaction_is_no_deposit_and_fails_only_when_final(claims: Claims, user: Wallet) -> None:
    await claims.deposit(user, 1)
    await claims.chain.fault(Fault.FAIL_ON_CHAIN)
    signature = await claims.deposit(user, 9_000, final=False)
    with pytest.raises(DepositUnconfirmed):
        await claims.verifier.verify_deposit(signature)
    await claims.chain.advance(40)
    assert await claims.refused(signature) is DepositFault.FAILED


async def test_money_to_somebody_else_is_the_wrong_recipient(claims: Claims, user: Wallet) -> None:
    other = new_wallet()
    instructions = [
        create_associated_account(user.key, other.key, USDC.mint, USDC.program),
        transfer_tokens(user.key, USDC.account_of(other.key), 9_000, USDC),
    ]
    assert await claims.refused(await claims.send(instructions, user.keypair)) is DepositFault.WRONG_RECIPIENT


async def test_another_token_is_the_wrong_asset(claims: Claims) -> None:
    user = await funded_wallet(claims.chain, claims.chain.fee_token)
    signature = await claims.deposit(user, 9_000, token=FEE_TOKEN)
    assert await claims.refused(signature) is DepositFault.WRONG_ASSET


async def test_two_assets_in_one_transaction_are_refused(claims: Claims, user: Wallet) -> None:
    both = [*claims.to_treasury(user, 9_000), transfer_sol(user.key, claims.treasury.key, SOL // 100)]
    assert await claims.refused(await claims.send(both, user.keypair)) is DepositFault.WRONG_ASSET


async def test_a_claim_of_another_amount_is_refused(claims: Claims, user: Wallet) -> None:
    signature = await claims.deposit(user, 9_000)
    for amount in (Money(claims.chain.usdc, 9_001), Money(claims.chain.network.native, 9_000)):
        assert await claims.refused(signature, amount=amount) is DepositFault.WRONG_AMOUNT


async def test_somebody_elses_deposit_cannot_be_claimed(claims: Claims, user: Wallet) -> None:
    thief = await funded_wallet(claims.chain)
    signature = await claims.deposit(user, 9_000)
    assert await claims.refused(signature, sender=thief.address) is DepositFault.FOREIGN


async def test_two_wallets_that_pay_together_are_foreign_to_both(claims: Claims, user: Wallet) -> None:
    """Else the one who paid the smaller part could claim the whole."""
    other = await funded_wallet(claims.chain)
    together = [*claims.to_treasury(user, 1), *claims.to_treasury(other, 9_000)]
    signature = await claims.send(together, user.keypair, other.keypair)
    for wallet in (user, other):
        assert await claims.refused(signature, sender=wallet.address) is DepositFault.FOREIGN
    assert (await claims.verifier.verify_deposit(signature)).sender == ""
    with pytest.raises(InvalidInput, match="not a Solana address"):
        await claims.verifier.verify_deposit(signature, sender="")


async def test_new_tokens_of_the_mint_are_nobodys_deposit(claims: Claims, user: Wallet) -> None:
    signature = await claims.chain.mint(claims.treasury.key, 9_000)
    await claims.chain.advance(40)
    assert await claims.refused(signature, sender=user.address) is DepositFault.FOREIGN


async def test_an_old_deposit_is_too_old(claims: Claims, user: Wallet) -> None:
    signature = await claims.deposit(user, 9_000)
    future = datetime.now(UTC) + timedelta(hours=1)
    assert await claims.refused(signature, not_before=future) is DepositFault.TOO_OLD
    assert await claims.verifier.verify_deposit(signature, not_before=future - timedelta(hours=2))


async def test_what_is_sent_there_and_back_in_one_transaction_is_no_deposit(claims: Claims, user: Wallet) -> None:
    await claims.deposit(user, 1)
    there = transfer_tokens(user.key, USDC.account_of(claims.treasury.key), 9_000, USDC)
    back = transfer_tokens(claims.treasury.key, USDC.account_of(user.key), 9_000, USDC)
    signature = await claims.send([there, back], user.keypair, claims.treasury.keypair)
    assert await claims.refused(signature) is DepositFault.WRONG_RECIPIENT


async def test_tokens_in_another_account_that_carries_our_name_do_not_count(claims: Claims, user: Wallet) -> None:
    """Its maker may have kept the right to close it or to spend from it."""
    trap = Keypair()
    rent = await claims.chain.rpc.call("getMinimumBalanceForRentExemption", 165)
    assert isinstance(rent, int)
    make = create_account(
        CreateAccountParams(
            from_pubkey=user.key, to_pubkey=trap.pubkey(), lamports=rent, space=165, owner=TOKEN_PROGRAM
        )
    )
    initialize = Instruction(
        TOKEN_PROGRAM,
        bytes([18]) + bytes(claims.treasury.key),
        [AccountMeta(trap.pubkey(), False, True), AccountMeta(USDC_MINT, False, False)],
    )
    fill = transfer_tokens(user.key, trap.pubkey(), 9_000, USDC)
    signature = await claims.send([make, initialize, fill], user.keypair, trap)
    assert await claims.chain.rpc.value("getTokenAccountBalance", str(trap.pubkey()))
    assert await claims.refused(signature) is DepositFault.WRONG_RECIPIENT


async def test_a_plain_transfer_instruction_counts_as_well(claims: Claims, user: Wallet) -> None:
    """Wallets still send instruction 3, which names no mint."""
    await claims.deposit(user, 1)
    accounts = [
        AccountMeta(USDC.account_of(user.key), False, True),
        AccountMeta(USDC.account_of(claims.treasury.key), False, True),
        AccountMeta(user.key, True, False),
    ]
    signature = await claims.send([Instruction(TOKEN_PROGRAM, struct.pack("<BQ", 3, 4_000), accounts)], user.keypair)
    assert (await claims.verifier.verify_deposit(signature, sender=user.address)).amount.atomic == 4_000


async def test_a_node_that_cannot_show_the_transaction_yet_is_asked_again_later(claims: Claims, user: Wallet) -> None:
    signature = await claims.deposit(user, 9_000, final=False)
    early = DepositVerifier(
        claims.chain.rpc,
        claims.chain.network,
        claims.treasury.address,
        [claims.chain.usdc],
        commitment=Commitment.CONFIRMED,
    )
    assert (await early.verify_deposit(signature)).amount.atomic == 9_000


async def test_assets_of_other_networks_are_not_taken(claims: Claims) -> None:
    with pytest.raises(InvalidInput, match="is not on"):
        DepositVerifier(claims.chain.rpc, claims.chain.network, claims.treasury.address, [MAINNET.usdc])


async def test_the_named_treasury_starts_empty(solana: SolanaDevelopmentChain) -> None:
    assert await solana.tokens_of(solana_accounts()["treasury"].public_key) == 0
