"""Prepaid accounts over the Solana development chain: every refusal by its own reason, money out to the real wallet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from solders.keypair import Keypair

from agentnexus.bootstrap.ground import Ground
from agentnexus.bootstrap.treasury import SolanaTreasury, open_treasury
from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import Conflict, InvalidInput, NotAllowed
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.devnet.solana.faults import Fault
from agentnexus.escrow.model import ownership_message
from agentnexus.escrow.service import Escrow
from agentnexus.ledger.books import Books
from agentnexus.platform.database import Database
from agentnexus.platform.settings import Settings
from agentnexus.rails.solana.networks import NetworkKind
from agentnexus.rails.solana.sending import TransactionSender
from agentnexus.rails.solana.signer import LocalSigner
from agentnexus.rails.solana.wallet import SolanaRail

SOL_LAMPORTS = 1_000_000_000


@dataclass
class Wallet:
    """A user's own wallet with its own rail: what they do outside our node."""

    keypair: Keypair
    rail: SolanaRail

    @property
    def address(self) -> str:
        return str(self.keypair.pubkey())

    async def pay(self, payee: str, amount: Money, key: str) -> str:
        request = PaymentRequest(
            rail="solana", amount=amount, payee=payee, mode=PayMode.PAY, reference={}, binding=f"test:{key}"
        )
        payment = await self.rail.send(request, f"{self.address}:{key}")
        return str(payment.evidence["transaction"])


@dataclass
class Bank:
    chain: SolanaDevelopmentChain
    database: Database
    books: Books
    treasury: SolanaTreasury
    escrow: Escrow
    usdc: Asset

    async def wallet(self, usdc: int = 5_000_000) -> Wallet:
        keypair = Keypair()
        await self.chain.airdrop(keypair.pubkey(), SOL_LAMPORTS)
        await self.chain.mint(keypair.pubkey(), usdc)
        sender = await TransactionSender.open(self.database, self.chain.rpc, self.chain.network)
        return Wallet(keypair, SolanaRail(sender, LocalSigner(keypair.secret(), NetworkKind.TESTNET)))

    async def account(self, user: str = "ann") -> Wallet:
        wallet = await self.wallet()
        proof = wallet.keypair.sign_message(ownership_message(user, wallet.address).encode())
        await self.escrow.create(user, wallet.address, str(proof))
        return wallet

    async def final(self) -> None:
        await self.chain.advance(40)


@pytest.fixture
async def bank(database: Database, tmp_path: Path) -> AsyncIterator[Bank]:
    async with SolanaDevelopmentChain(log=tmp_path / "solana.log") as chain:
        path = tmp_path / "treasury.json"
        keypair = Keypair()
        LocalSigner(keypair.secret(), NetworkKind.TESTNET).write_keypair_file(path)
        await chain.airdrop(keypair.pubkey(), SOL_LAMPORTS)
        settings = Settings(solana_rpc_url=chain.rpc_url, treasury_keypair=path)
        async with open_treasury(Ground(settings, database), timedelta(days=7)) as treasury:
            books = Books(database)
            escrow = Escrow(database, books, treasury, SystemClock())
            yield Bank(chain, database, books, treasury, escrow, chain.usdc)
            report = await books.check()
            assert report.clean, report.findings
            await books.close()


async def refused(bank: Bank, signature: str, user: str = "ann") -> str:
    """The reason why a claim is refused; the balance does not move."""
    before = await bank.escrow.balance(user, bank.usdc)
    with pytest.raises((InvalidInput, Conflict)) as caught:
        await bank.escrow.deposit(user, signature)
    assert await bank.escrow.balance(user, bank.usdc) == before
    return str(caught.value.details["reason"])


async def test_a_deposit_is_claimed_once_it_is_final_and_the_rest_goes_back_to_the_wallet(bank: Bank) -> None:
    ann = await bank.account()
    signature = await ann.pay(bank.treasury.address, Money(bank.usdc, 2_000_000), "d1")
    await bank.final()
    await bank.escrow.deposit("ann", signature, "2.0")
    assert await refused(bank, signature) == "reused"
    before = await bank.chain.tokens_of(ann.keypair.pubkey())
    sent = await bank.escrow.withdraw("ann", Money(bank.usdc, 1_500_000), "w1", ann.address)
    assert await bank.chain.tokens_of(ann.keypair.pubkey()) == before + 1_500_000
    entries, _ = await bank.escrow.history("ann")
    assert [entry.signature for entry in entries] == [sent, signature]
    (line, _) = await bank.escrow.reconcile()
    assert line.agrees


async def test_sol_is_credited_as_sol(bank: Bank) -> None:
    ann = await bank.account()
    sol = bank.chain.network.native
    signature = await ann.pay(bank.treasury.address, Money(sol, 250_000_000), "d1")
    await bank.final()
    await bank.escrow.deposit("ann", signature)
    assert (await bank.escrow.balance("ann", sol)).available == Money(sol, 250_000_000)


async def test_each_wrong_signature_has_its_own_reason(bank: Bank) -> None:
    ann = await bank.account()
    bob = await bank.wallet()
    foreign = await bob.pay(bank.treasury.address, Money(bank.usdc, 1_000_000), "f")
    elsewhere = await ann.pay(bob.address, Money(bank.usdc, 1_000_000), "e")
    await bank.final()
    assert await refused(bank, "not base58 at all, and of no length either, is it? no.............") == "malformed"
    assert await refused(bank, str(Keypair().sign_message(b"never sent"))) == "unknown"
    assert await refused(bank, foreign) == "foreign"
    assert await refused(bank, elsewhere) == "wrong_recipient"
    await bank.chain.mint(ann.keypair.pubkey(), 1_000_000, bank.chain.fee_token)
    other = await ann.pay(bank.treasury.address, Money(bank.chain.fee_token, 500_000), "o")
    await bank.final()
    assert await refused(bank, other) == "wrong_asset"


async def test_a_deposit_that_is_not_final_yet_can_be_claimed_when_it_is(bank: Bank) -> None:
    ann = await bank.account()
    signature = await ann.pay(bank.treasury.address, Money(bank.usdc, 1_000_000), "d1")
    assert await refused(bank, signature) == "unconfirmed"
    await bank.final()
    await bank.escrow.deposit("ann", signature)
    assert (await bank.escrow.balance("ann", bank.usdc)).available == Money(bank.usdc, 1_000_000)


async def test_a_deposit_from_before_the_allowed_time_is_too_old(bank: Bank) -> None:
    ann = await bank.account()
    signature = await ann.pay(bank.treasury.address, Money(bank.usdc, 1_000_000), "d1")
    await bank.final()
    async with open_treasury(
        Ground(Settings(solana_rpc_url=bank.chain.rpc_url, treasury_keypair=bank_key(bank)), bank.database),
        timedelta(seconds=-3600),
    ) as strict:
        with pytest.raises(InvalidInput) as caught:
            await strict.deposit(signature, ann.address)
    assert caught.value.details["reason"] == "too_old"


def bank_key(bank: Bank) -> Path:
    return Path(str(bank.chain._log)).with_name("treasury.json")


async def test_two_claims_at_the_same_instant_credit_once(bank: Bank) -> None:
    ann = await bank.account()
    signature = await ann.pay(bank.treasury.address, Money(bank.usdc, 1_000_000), "d1")
    await bank.final()
    ended = await asyncio.gather(*(bank.escrow.deposit("ann", signature) for _ in range(8)), return_exceptions=True)
    assert sum(not isinstance(each, BaseException) for each in ended) == 1
    assert (await bank.escrow.balance("ann", bank.usdc)).available == Money(bank.usdc, 1_000_000)


async def test_only_the_wallets_owner_opens_its_account(bank: Bank) -> None:
    ann, mallory = await bank.wallet(), await bank.wallet()
    message = ownership_message("mallory", ann.address).encode()
    for proof in ("", "1" * 64, str(mallory.keypair.sign_message(message))):
        with pytest.raises(NotAllowed):
            await bank.escrow.create("mallory", ann.address, proof)


async def test_a_withdrawal_whose_answer_the_node_lost_is_sent_once(bank: Bank) -> None:
    ann = await bank.account()
    signature = await ann.pay(bank.treasury.address, Money(bank.usdc, 2_000_000), "d1")
    await bank.final()
    await bank.escrow.deposit("ann", signature)
    before = await bank.chain.tokens_of(ann.keypair.pubkey())
    await bank.chain.fault(Fault.DROP_ANSWER)
    sent = await bank.escrow.withdraw("ann", Money(bank.usdc, 500_000), "w1")
    assert await bank.escrow.withdraw("ann", Money(bank.usdc, 500_000), "w1") == sent
    assert await bank.chain.tokens_of(ann.keypair.pubkey()) == before + 500_000
