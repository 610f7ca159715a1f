"""Wallets' operations for Prometheus: counted when they come to a state, by kind of wallet and who pays the gas."""

from __future__ import annotations

from agentnexus.platform.telemetry import wallet_operations_total, wallet_seconds
from agentnexus.wallets.model import Operation, OperationState, Wallet


def count(wallet: Wallet, operation: Operation) -> None:
    """The operation has come to its state just now."""
    labels = (wallet.network, str(wallet.kind), str(operation.gas), str(operation.state))
    wallet_operations_total.labels(*labels).inc()


def count_mined(wallet: Wallet, before: Operation, now: Operation) -> None:
    """`before` is the operation as it was signed."""
    count(wallet, now)
    if before.state is OperationState.SIGNED:
        waited = (now.updated_at - before.updated_at).total_seconds()
        wallet_seconds.labels(wallet.network, str(now.gas)).observe(max(waited, 0.0))
