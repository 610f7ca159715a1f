"""Prepaid accounts over the Solana development chain: every refusal by its own reason, money out to the real wallet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from agentnexus.bootstrap import prepaid
from agentnexus.bootstrap.ground import Ground
from agentnexus.bootstrap.prepaid import compare_treasury
from agentnexus.bootstrap.treasury import SolanaTreasury, open_treasury
from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import Conflict, InvalidInput, NotAllowed, PaymentFailed
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.devnet.solana.faults import Fault
from agentnexus.escrow.model import ownership_message
from agentnexus.escrow.service import Escrow
from agentnexus.ledger.books import Books
from agentnexus.ledger.reconcile import Comparison, Reconciler
from agentnexus.platform.database import Database
from agentnexus.platform.settings import Settings
from agentnexus.rails.solana.networks import NetworkKind
from agentnexus.rails.solana.programs import TOKEN_PROGRAM, associated_address
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


async def comparison(bank: Bank, reconciler: Reconciler, **settings: Path) -> Comparison:
    ground = Ground(Settings(**settings), bank.database)  # type: ignore[arg-type]  # settings by name
    return await compare_treasury(ground, bank.escrow, reconciler, twice=True)


async def test_what_nobody_claimed_is_listed_and_is_no_difference(bank: Bank) -> None:
    ann, bob = await bank.account(), await bank.wallet()
    foreign = await bob.pay(bank.treasury.address, Money(bank.usdc, 700_000), "f")
    mine = await ann.pay(bank.treasury.address, Money(bank.usdc, 2_000_000), "d1")
    await bank.final()
    reconciler = Reconciler(bank.books)
    for _ in range(2):
        found = await comparison(bank, reconciler)
        assert (found.cases, found.in_flight) == ([], [])
    listed = await bank.escrow.unclaimed(bank.usdc)
    assert [(each.signature, each.sender) for each in listed] == [(mine, ann.address), (foreign, bob.address)]
    await bank.escrow.deposit("ann", mine)
    (line, _) = await bank.escrow.reconcile()
    assert (line.unclaimed, line.expected) == (Money(bank.usdc, 700_000), Money(bank.usdc, 2_700_000))
    assert line.agrees
    assert [each.signature for each in await bank.escrow.unclaimed(bank.usdc)] == [foreign]
    assert await reconciler.cases() == []


async def test_money_that_left_the_treasury_past_the_books_is_a_case_at_the_second_look(bank: Bank) -> None:
    ann = await bank.account()
    signature = await ann.pay(bank.treasury.address, Money(bank.usdc, 2_000_000), "d1")
    await bank.final()
    await bank.escrow.deposit("ann", signature)
    request = PaymentRequest(
        rail="solana", amount=Money(bank.usdc, 250_000), payee=ann.address, mode=PayMode.PAY, reference={},
        binding="by hand",
    )  # fmt: skip
    await bank.treasury.rail.send(request, "by hand")
    reconciler = Reconciler(bank.books)
    first = await comparison(bank, reconciler)
    assert (first.cases, first.in_flight) == ([], [f"treasury:{bank.usdc.caip19}"])
    second = await comparison(bank, reconciler)
    ((case,), third) = second.cases, await comparison(bank, reconciler)
    assert (case.expected, case.observed) == (Money(bank.usdc, 2_000_000), Money(bank.usdc, 1_750_000))
    assert case.detail["unclaimed"] == "0"
    assert [each.id for each in third.cases] == [case.id]  # one case, however often it is seen
    assert (await bank.escrow.balance("ann", bank.usdc)).available == Money(bank.usdc, 2_000_000)  # never "fixed"


async def test_fees_that_the_treasury_pays_itself_are_no_users_money(bank: Bank) -> None:
    """With a fee key of its own every lamport of the treasury is accounted for."""
    ann = await bank.account()
    sol = bank.chain.network.native
    await bank.escrow.deposit("ann", await paid(bank, ann, Money(sol, 250_000_000), "d1"))
    await bank.escrow.deposit("ann", await paid(bank, ann, Money(bank.usdc, 1_000_000), "d2"))
    await bank.escrow.withdraw("ann", Money(bank.usdc, 500_000), "w1")
    own, other = Reconciler(bank.books), Reconciler(bank.books)
    for _ in range(2):
        assert (await comparison(bank, own)).cases == []
    await comparison(bank, other, treasury_fee_keypair=bank_key(bank))
    (case,) = (await comparison(bank, other, treasury_fee_keypair=bank_key(bank))).cases
    assert (case.subject, case.observed < case.expected) == (f"treasury:{sol.caip19}", True)


async def paid(bank: Bank, wallet: Wallet, amount: Money, key: str) -> str:
    signature = await wallet.pay(bank.treasury.address, amount, key)
    await bank.final()
    return signature


async def test_deposits_while_it_looks_and_withdrawals_on_their_way_are_no_cases(bank: Bank) -> None:
    ann = await bank.account()
    await bank.escrow.deposit("ann", await paid(bank, ann, Money(bank.usdc, 2_000_000), "d1"))
    await bank.chain.fault(Fault.DROP_ANSWER)
    reconciler = Reconciler(bank.books)
    done = asyncio.create_task(bank.escrow.withdraw("ann", Money(bank.usdc, 500_000), "w1"))
    while not done.done():
        assert (await comparison(bank, reconciler)).cases == []
    await done
    await ann.pay(bank.treasury.address, Money(bank.usdc, 1_000_000), "d2")  # there, and not final
    assert f"treasury:{bank.usdc.caip19}" in (await comparison(bank, reconciler)).in_flight
    await bank.final()
    assert (await comparison(bank, reconciler)).cases == []


async def test_nobody_earns_the_rent_of_token_accounts_by_withdrawing(bank: Bank) -> None:
    """Close the account, withdraw next to nothing, close the one that the treasury paid for, and so on."""
    ann = await bank.account()
    signature = await ann.pay(bank.treasury.address, Money(bank.usdc, 5_000_000), "d1")  # all that the wallet has
    await bank.final()
    await bank.escrow.deposit("ann", signature)
    await close_token_account(bank, ann)
    treasury = Pubkey.from_string(bank.treasury.address)
    before = await bank.chain.lamports_of(treasury)
    with pytest.raises(PaymentFailed, match="has no account for USDC"):
        await bank.escrow.withdraw("ann", Money(bank.usdc, 10_000), "w1")
    assert await bank.chain.lamports_of(treasury) == before
    assert (await bank.escrow.balance("ann", bank.usdc)).available == Money(bank.usdc, 5_000_000)
    await bank.chain.mint(ann.keypair.pubkey(), 1)
    with pytest.raises(PaymentFailed):  # for good: that key was answered
        await bank.escrow.withdraw("ann", Money(bank.usdc, 10_000), "w1")
    assert await bank.escrow.withdraw("ann", Money(bank.usdc, 4_000_000), "w2")


async def close_token_account(bank: Bank, wallet: Wallet) -> None:
    owner, mint = wallet.keypair.pubkey(), Pubkey.from_string(bank.usdc.reference)
    account = associated_address(owner, mint, TOKEN_PROGRAM)
    accounts = [AccountMeta(account, False, True), AccountMeta(owner, False, True), AccountMeta(owner, True, False)]
    sender = await TransactionSender.open(bank.database, bank.chain.rpc, bank.chain.network)
    signer = LocalSigner(wallet.keypair.secret(), NetworkKind.TESTNET)
    close = Instruction(TOKEN_PROGRAM, bytes([9]), accounts)
    ended = await sender.deliver(await sender.stage(f"close:{owner}", "close", [close], [signer]))
    assert ended.error is None


async def test_upkeep_opens_the_case_by_itself(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepaid, "RECONCILE_SECONDS", 0.01)
    ann = await bank.account()
    await bank.escrow.deposit("ann", await paid(bank, ann, Money(bank.usdc, 2_000_000), "d1"))
    request = PaymentRequest(
        rail="solana", amount=Money(bank.usdc, 1), payee=ann.address, mode=PayMode.PAY, reference={}, binding="by hand"
    )
    await bank.treasury.rail.send(request, "by hand")
    upkeep = asyncio.create_task(prepaid.reconcile_treasury(Ground(Settings(), bank.database), bank.escrow, bank.books))
    reconciler = Reconciler(bank.books)
    async with asyncio.timeout(60):
        while not (cases := await reconciler.cases()):
            assert not upkeep.done()
            await asyncio.sleep(0.02)
    upkeep.cancel()
    assert [case.subject for case in cases] == [f"treasury:{bank.usdc.caip19}"]
    assert (cases[0].observed - cases[0].expected) == Money(bank.usdc, -1)
