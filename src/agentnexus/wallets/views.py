"""Wallets as JSON, and the bodies that bring a signature: the same here and in what is built on it."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, from_hex, to_hex
from agentnexus.rails.evm.userops.passkeys import Assertion, challenge
from agentnexus.wallets.amounts import plain
from agentnexus.wallets.model import (
    Answer,
    Balances,
    HistoryLine,
    KeySignature,
    Operation,
    SigningRequest,
    Wallet,
)
from agentnexus.wallets.settings import AccountState

_TEXT_MAX = 16_384


class SignatureBody(BaseModel):
    """A key's signature (hex, and the delegation's where one was asked for), or a passkey's parts (base64url)."""

    model_config = ConfigDict(extra="forbid")

    signature: str = Field(max_length=_TEXT_MAX)
    delegation: str = Field(default="", max_length=200)
    authenticator_data: str = Field(default="", max_length=_TEXT_MAX)
    client_data: str = Field(default="", max_length=_TEXT_MAX)

    def answer(self) -> Answer:
        """Raises `InvalidInput`, or `NotAllowed` for a passkey that did not check its user."""
        if self.authenticator_data or self.client_data:
            return Assertion.from_browser(
                _base64url(self.authenticator_data, "authenticator_data"),
                _base64url(self.client_data, "client_data"),
                _base64url(self.signature, "signature"),
            )
        signature = from_hex(self.signature, size=65, field="signature")
        return KeySignature(
            signature, from_hex(self.delegation, size=65, field="delegation") if self.delegation else b""
        )


def _base64url(text: str, field: str) -> bytes:
    try:
        bare = text.rstrip("=")
        return b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise InvalidInput(f"{field} is not base64url", field=field) from error


def wallet_json(wallet: Wallet, state: AccountState) -> dict[str, object]:
    """`guardian` and `recovery` (new owners that wait) are null without; `owner` has only what the kind has."""
    guardian, recovery = state.guardian, state.recovery
    return {
        "address": wallet.address,
        "network": wallet.network,
        "kind": str(wallet.kind),
        "owner": wallet.owner.key if wallet.owner.key != ZERO_ADDRESS else None,
        "credential_id": wallet.credential_id or None,
        "deployed": state.deployed,
        "proven": wallet.proven,
        "guardian": None
        if guardian is None
        else {"address": guardian.address, "delay_seconds": guardian.delay_seconds},
        "recovery": None
        if recovery is None
        else {
            "owner": recovery.owner.key if recovery.owner.key != ZERO_ADDRESS else None,
            "passkey": recovery.owner.has_point,
            "ready_at": recovery.ready_at,
        },
        "created_at": wallet.created_at.isoformat(),
        "exported_at": None if wallet.exported_at is None else wallet.exported_at.isoformat(),
    }


def balances_json(held: Balances, address: str) -> dict[str, object]:
    """`usd` is null where nobody says what a coin is worth; `total_usd` then counts only what is known."""
    known = [each for each in (held.usdc_usd, held.coin_usd) if each is not None]
    lines = [(held.usdc, held.usdc_usd), (held.coin, held.coin_usd)]
    return {
        "address": address,
        "block_number": held.block_number,
        "balances": [
            {
                "symbol": money.asset.symbol,
                "asset": money.asset.caip19,
                "amount": plain(money),
                "atomic": str(money.atomic),
                "usd": None if usd is None else f"{usd:.2f}",
            }
            for money, usd in lines
        ],
        "total_usd": f"{sum(known, Decimal(0)):.2f}",
    }


def operation_json(operation: Operation) -> dict[str, object]:
    """`gas_cost_wei` is text, as all integers of a chain."""
    until, cost = operation.valid_until, operation.gas_cost_wei
    return {
        "id": operation.id,
        "state": str(operation.state),
        "purpose": operation.purpose,
        "title": operation.title,
        "gas": str(operation.gas),
        "hash": operation.hash or None,
        "transaction": operation.transaction or None,
        "gas_cost_wei": None if cost is None else str(cost),
        "error": None if operation.error is None else dict(operation.error),
        "valid_until": None if until is None else until.isoformat(),
        "created_at": operation.created_at.isoformat(),
        "updated_at": operation.updated_at.isoformat(),
    }


def signing_json(request: SigningRequest | None) -> dict[str, object] | None:
    """What is to be signed: `hash` as hex, and as the `challenge` of a passkey."""
    if request is None:
        return None
    return {
        "operation_id": request.operation_id,
        "kind": str(request.kind),
        "hash": to_hex(request.hash),
        "challenge": challenge(request.hash),
        "credential_id": request.credential_id or None,
        "typed_data": None if request.typed_data is None else dict(request.typed_data),
        "delegation": None if request.delegation is None else dict(request.delegation),
        "valid_until": request.valid_until.isoformat(),
    }


def history_json(lines: Sequence[HistoryLine]) -> list[dict[str, object]]:
    """Amounts are decimal text of USDC; null for operations that moved none."""
    return [
        {
            "id": line.id,
            "kind": line.kind,
            "at": line.at.isoformat(),
            "title": line.title,
            "amount": None if line.amount is None else plain(line.amount),
            "symbol": None if line.amount is None else line.amount.asset.symbol,
            "counterparty": line.counterparty or None,
            "transaction": line.transaction or None,
            "operation": line.operation_id or None,
            "purpose": line.purpose or None,
            "state": str(line.state),
            "discarded": line.discarded,
        }
        for line in lines
    ]
