"""The operator takes the node's income out of the treasury: booked by its transaction, once, and never users' money."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from solders.keypair import Keypair

from agentnexus.bootstrap.ground import Ground
from agentnexus.bootstrap.prepaid import compare_treasury
from agentnexus.cli.ledger import ledger
from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput
from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.escrow.model import charged_account
from agentnexus.escrow.ports import SeenDeparture
from agentnexus.ledger.reconcile import Reconciler
from agentnexus.platform.settings import Settings
from tests.escrow.conftest import USDC, Room, usdc
from tests.escrow.test_on_chain import Bank, Wallet, bank, paid

__all__ = ["bank"]
INCOME = charged_account(USDC)


async def earned(room: Room, amount: str = "0.5") -> None:
    """Ann paid 2 in and was charged some of it."""
    await room.funded()
    account = await room.escrow.account("ann")
    await room.escrow.holds.reserve(account, "w", usdc("1"))
    await room.escrow.holds.capture("w", "s1", usdc(amount))
    await room.escrow.holds.release("w")


def left(room: Room, signature: str, amount: str, key: str | None = None) -> str:
    room.treasury.left[signature] = SeenDeparture(signature, "operator", usdc(amount), key)
    return signature


async def test_income_that_was_taken_out_is_booked_once(room: Room) -> None:
    await earned(room)
    signature = left(room, "out", "0.3")
    first, again = await room.escrow.book_payout(signature), await room.escrow.book_payout(signature)
    assert first == again
    assert (first.amount, first.receiver, first.left) == (usdc("0.3"), "operator", usdc("0.2"))
    line = (await room.books.statement(f"external:escrow:{USDC.network}", USDC))[-1]
    assert (line.correlation, line.memo, line.amount) == ("out", "to operator", usdc("0.3"))
    assert await room.balance() == ("1.5", "0")


async def test_more_than_the_income_is_users_money_and_nothing_is_booked(room: Room) -> None:
    await earned(room)
    with pytest.raises(InsufficientFunds) as refused:
        await room.escrow.book_payout(left(room, "out", "0.7"))
    assert "0.20 USDC back to" in refused.value.next_step
    assert (await room.books.balance(INCOME, USDC)).posted == usdc("0.5")


async def test_a_withdrawal_of_a_user_is_no_payout(room: Room) -> None:
    await earned(room)
    await room.escrow.withdraw("ann", usdc("0.25"), "w1", None)
    async with room.database.connection() as connection:
        row_id = await connection.fetchval("select id from escrow.withdrawal")
    with pytest.raises(Conflict):
        await room.escrow.book_payout(left(room, "out", "0.25", row_id))
    assert (await room.escrow.book_payout(left(room, "mine", "0.25", "by hand"))).left == usdc("0.25")


async def test_a_transaction_that_nobody_knows_books_nothing(room: Room) -> None:
    await earned(room)
    with pytest.raises(InvalidInput):
        await room.escrow.book_payout("nothing")
    assert (await room.books.balance(INCOME, USDC)).posted == usdc("0.5")


# -- on the chain ---------------------------------------------------------------------------------------------------


async def charged(bank: Bank, amount: int) -> Wallet:
    """Ann's two dollars in the treasury, of which the node earned some."""
    ann = await bank.account()
    await bank.escrow.deposit("ann", await paid(bank, ann, Money(bank.usdc, 2_000_000), "d1"))
    await bank.escrow.holds.reserve(await bank.escrow.account("ann"), "w", Money(bank.usdc, 1_000_000))
    await bank.escrow.holds.capture("w", "s1", Money(bank.usdc, amount))
    await bank.escrow.holds.release("w")
    return ann


async def send(bank: Bank, payee: str, amount: Money, key: str) -> str:
    """By hand, with the treasury's key."""
    request = PaymentRequest(rail="solana", amount=amount, payee=payee, mode=PayMode.PAY, reference={}, binding=key)
    payment = await bank.treasury.rail.send(request, key)
    return str(payment.evidence["transaction"])


async def test_a_payout_is_verified_on_the_chain_and_closes_the_difference(bank: Bank) -> None:
    await charged(bank, 500_000)
    operator = await bank.wallet(1)
    signature = await send(bank, operator.address, Money(bank.usdc, 400_000), "by hand")
    with pytest.raises(Conflict):  # not final yet
        await bank.escrow.book_payout(signature)
    await bank.final()
    ground, reconciler = Ground(Settings(), bank.database), Reconciler(bank.books)
    assert (await compare_treasury(ground, bank.escrow, reconciler, twice=False)).cases
    booked = await bank.escrow.book_payout(signature)
    assert (booked.receiver, booked.amount) == (operator.address, Money(bank.usdc, 400_000))
    assert booked.left == Money(bank.usdc, 100_000)
    found = await compare_treasury(ground, bank.escrow, Reconciler(bank.books), twice=False)
    assert not found.cases


async def test_what_is_no_transfer_out_of_the_treasury_is_refused(bank: Bank) -> None:
    ann = await charged(bank, 500_000)
    operator = await bank.wallet(1)
    incoming = await paid(bank, ann, Money(bank.usdc, 1_000), "d2")
    elsewhere = await ann.pay(operator.address, Money(bank.usdc, 1_000), "e")
    home = await bank.escrow.withdraw("ann", Money(bank.usdc, 100_000), "w1", ann.address)
    await bank.final()
    unknown, nonsense = str(Keypair().sign_message(b"never sent")), "no signature"
    for signature in (incoming, elsewhere, unknown, nonsense):
        with pytest.raises(InvalidInput):
            await bank.escrow.book_payout(signature)
    with pytest.raises(Conflict):
        await bank.escrow.book_payout(home)
    sol = await send(bank, operator.address, Money(bank.chain.network.native, 1_000), "sol")
    await bank.final()
    with pytest.raises(InsufficientFunds):  # the node earns no SOL
        await bank.escrow.book_payout(sol)


async def test_the_command_prints_what_was_booked(bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await charged(bank, 500_000)
    operator = await bank.wallet(1)
    signature = await send(bank, operator.address, Money(bank.usdc, 400_000), "by hand")
    await bank.final()
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NEXUS_DATABASE_URL", bank.database.url)
    monkeypatch.setenv("NEXUS_SOLANA_RPC_URL", bank.chain.rpc_url)
    monkeypatch.setenv("NEXUS_TREASURY_KEYPAIR", str(tmp_path / "treasury.json"))
    for arguments in (["payout", signature, "--json"], ["payout", signature]):
        done = await asyncio.to_thread(CliRunner().invoke, ledger, arguments)
        assert done.exit_code == 0, done.output
        assert operator.address in done.output
        if "--json" in arguments:
            assert json.loads(done.output)["amount"]["atomic"] == "400000"
    assert (await bank.books.balance(charged_account(bank.usdc), bank.usdc)).posted == Money(bank.usdc, 100_000)
