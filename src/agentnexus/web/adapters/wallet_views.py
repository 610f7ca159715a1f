"""Wallets, balances, histories and operations → what their pages show. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from agentnexus.core.money import Asset, Money
from agentnexus.wallets.model import Balances, GasPayer, HistoryLine, Operation, OperationState, Wallet, WalletKind
from agentnexus.wallets.settings import DAY_SECONDS, AccountState
from agentnexus.web.adapters.gas import PAYERS, short
from agentnexus.web.qr import qr_svg
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.runs import State
from agentnexus.web.views.text import money, network_name
from agentnexus.web.views.wallet import (
    EXPLORERS,
    KINDS,
    MovementView,
    OperationView,
    OwnWallet,
    Recovery,
    TokenView,
    explorer_link,
    operation_state,
)

CENT: Final = Decimal("0.01")


def own_wallet(wallet: Wallet) -> OwnWallet:
    """With the code of its address, as any wallet on a phone reads it."""
    label, text = KINDS[str(wallet.kind)]
    explorer = EXPLORERS.get(wallet.network, "")
    return OwnWallet(
        address=wallet.address,
        network=network_name(wallet.network),
        kind=str(wallet.kind),
        kind_label=label,
        kind_text=text,
        created_at=wallet.created_at,
        qr=qr_svg(wallet.address),
        owner=wallet.owner.key if wallet.kind is WalletKind.KEY else "",
        explorer=f"{explorer}/address/{wallet.address}" if explorer else "",
        exported_at=wallet.exported_at,
    )


def tokens(balances: Balances) -> Sequence[TokenView]:
    """USDC first, which is what one buys with."""
    coin_usd = "" if balances.coin_usd is None else _usd(balances.coin_usd)
    return [
        TokenView("USDC", _amount(balances.usdc), _usd(balances.usdc_usd)),
        TokenView(balances.coin.asset.symbol, _amount(balances.coin), coin_usd),
    ]


def total_usd(balances: Balances) -> str:
    """Of everything with a price; what has none is said beside it."""
    return _usd(balances.usdc_usd + (balances.coin_usd or Decimal(0)))


def movement(line: HistoryLine, network: str) -> MovementView:
    """A line of the history."""
    sign = {"in": "+", "out": "-"}.get(line.kind, "")
    return MovementView(
        label=line.title,
        amount="" if line.amount is None else f"{sign}{money(line.amount)}",
        incoming=line.kind == "in",
        counterparty=line.counterparty,
        transaction=line.transaction,
        explorer=explorer_link(network, line.transaction),
        state=_state(line),
        at=line.at,
        link=f"/wallet/operations/{line.operation_id}" if line.operation_id else "",
    )


def recovery(state: AccountState) -> Recovery:
    """Nothing of it before the account exists."""
    guardian, waiting = state.guardian, state.recovery
    return Recovery(
        guardian="" if guardian is None else guardian.address,
        delay_days=0 if guardian is None else guardian.delay_seconds // DAY_SECONDS,
        ready_at=None if waiting is None else datetime.fromtimestamp(waiting.ready_at, UTC),
    )


def operation_view(operation: Operation, network: str, coin: Asset) -> OperationView:
    """Without what is to be signed."""
    cost, worth = operation.gas_cost_wei, "worth " if operation.gas is GasPayer.USDC else ""
    return OperationView(
        id=operation.id,
        title=operation.title,
        state=_state(operation),
        final=operation.state.final,
        gas=PAYERS[str(operation.gas)],
        created_at=operation.created_at,
        transaction=operation.transaction,
        explorer=explorer_link(network, operation.transaction),
        gas_cost="" if cost is None else f"{worth}{short(Money(coin, cost).decimal)} {coin.symbol}",
        problem=problem_of(operation.error) if operation.state is not OperationState.SUCCEEDED else None,
        passes_on=operation.purpose == "transfer",
    )


def _state(shown: Operation | HistoryLine) -> State:
    """Its own, but what its owner took back did not fail."""
    return operation_state("discarded" if shown.discarded else str(shown.state))


def _amount(money: Money) -> str:
    return f"{money.decimal.normalize():f}"


def _usd(amount: Decimal) -> str:
    return f"{amount.quantize(CENT):,} USD"
