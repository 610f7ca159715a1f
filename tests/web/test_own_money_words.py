"""Amounts, fees, movements and operations of people's own wallets in words: exact, short, and never a guess."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from agentnexus.core.money import Asset, Money
from agentnexus.rails.evm.contracts.account import Guardian, Owner, Recovery
from agentnexus.wallets.model import (
    Balances,
    GasPayer,
    HistoryLine,
    Operation,
    OperationState,
    Wallet,
    WalletKind,
)
from agentnexus.wallets.settings import AccountState
from agentnexus.web.adapters.purchase_views import fee_words, short_of
from agentnexus.web.adapters.wallet_views import movement, operation_view, own_wallet, recovery, tokens, total_usd
from agentnexus.web.views.text import money as spelled
from agentnexus.web.views.wallet import KINDS, OPERATION_STATES
from tests.web.samples import USDC

ETH = Asset("ETH", 18, "eip155:8453/slip44:60")
NOW = datetime(2026, 11, 21, 9, 41, tzinfo=UTC)
ADDRESS, TRANSACTION = "0x" + "52" * 20, "0x" + "9b" * 32
BASE = "eip155:8453"


@pytest.mark.parametrize(
    ("money", "text"),
    [
        (USDC.parse("0.1"), "0.10 USDC"),
        (USDC.parse("100"), "100.00 USDC"),
        (USDC.zero(), "0.00 USDC"),
        (Money(ETH, 1), "0.000000000000000001 ETH"),
        (Money(ETH, 10**30 + 1), "1000000000000.000000000000000001 ETH"),
        (Money(Asset("POINT", 0, "eip155:1/erc20:0x1"), 1200), "1200 POINT"),
    ],
)
def test_an_amount_is_exact_and_looks_like_money(money: Money, text: str) -> None:
    assert spelled(money) == text


def test_the_fee_is_of_the_price_and_not_on_top() -> None:
    assert fee_words(250).startswith("Of each price 2.5 % is the fee")
    assert fee_words(1000).startswith("Of each price 10 %")
    assert "the seller pays it, not you" in fee_words(1)
    assert fee_words(0) == "No fee."


def test_what_is_missing_is_said_to_the_last_unit() -> None:
    told = short_of(USDC.parse("0.1"), USDC.parse("0.099999"))
    assert told["message"] == "the wallet holds 0.099999 USDC, and this costs 0.10 USDC"
    assert told["next_step"] == "add at least 0.000001 USDC to it"


def test_a_coin_without_a_price_is_not_counted_and_not_guessed() -> None:
    held = Balances(Money(ETH, 5 * 10**14), USDC.parse("24.9"), None, Decimal("24.90"), 7)
    usdc, coin = tokens(held)
    assert (usdc.amount, usdc.usd, coin.symbol, coin.amount, coin.usd) == ("24.9", "24.90 USD", "ETH", "0.0005", "")
    assert total_usd(held) == "24.90 USD"
    assert total_usd(replace(held, coin_usd=Decimal("1234.5"))) == "1,259.40 USD"


@pytest.mark.parametrize(
    ("kind", "amount", "shown"), [("in", "25", "+25.00 USDC"), ("out", "0.5", "-0.50 USDC"), ("operation", None, "")]
)
def test_movements_have_their_signs_and_lead_to_what_they_were(kind: str, amount: str | None, shown: str) -> None:
    money = None if amount is None else USDC.parse(amount)
    line = HistoryLine("1", kind, NOW, "A title", TRANSACTION, money, ADDRESS, "op_1", "send", OperationState.SUCCEEDED)
    found = movement(line, BASE)
    assert (found.amount, found.incoming, found.link) == (shown, kind == "in", "/wallet/operations/op_1")
    assert found.explorer == f"https://basescan.org/tx/{TRANSACTION}"
    assert movement(replace(line, operation_id="", transaction=""), BASE).link == ""
    assert movement(line, "eip155:31337").explorer == ""


@pytest.mark.parametrize("state", list(OperationState))
def test_every_state_of_an_operation_has_words_and_only_trouble_has_a_problem(state: OperationState) -> None:
    operation = Operation(
        "op_1", "ann", "wal_1", "k", "send", "Send 1 USDC", GasPayer.SPONSOR, state, NOW, NOW, transaction=TRANSACTION,
        gas_cost_wei=120_000_000_000_000, error={"code": "conflict", "message": "it reverted"},
    )  # fmt: skip
    shown = operation_view(operation, BASE, ETH)
    assert shown.state.label == OPERATION_STATES[str(state)][0]
    assert shown.final is state.final
    assert (shown.gas, shown.gas_cost) == ("AgentNexus", "0.00012 ETH")
    assert (shown.problem is None) is (state is OperationState.SUCCEEDED)


@pytest.mark.parametrize("kind", list(WalletKind))
def test_every_kind_of_wallet_says_who_signs(kind: WalletKind) -> None:
    wallet = Wallet("wal_1", "ann", BASE, ADDRESS, kind, Owner("0x" + "f3" * 20), NOW)
    shown = own_wallet(wallet)
    assert (shown.kind_label, shown.kind_text) == KINDS[str(kind)]
    assert shown.network == "Base"
    assert shown.explorer == f"https://basescan.org/address/{ADDRESS}"
    assert bool(shown.owner) is (kind is WalletKind.KEY)
    assert shown.qr.startswith("<svg")


def test_guardians_and_recoveries_are_told_in_days_and_moments() -> None:
    assert recovery(AccountState(deployed=False)).guardian == ""
    waiting = Recovery(Owner("0x" + "f3" * 20), int(NOW.timestamp()))
    told = recovery(AccountState(True, Guardian(ADDRESS, 7 * 86_400), waiting))
    assert (told.guardian, told.delay_days, told.ready_at) == (ADDRESS, 7, NOW)
