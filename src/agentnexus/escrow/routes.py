"""HTTP of prepaid accounts: the paths and fields of spec 05. Only the owner, or an operator, sees an account."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel, ConfigDict, Field

from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.core.ports import Ids
from agentnexus.escrow.model import Account, Entry, EntryKind, EscrowBalance, ownership_message, plain
from agentnexus.escrow.service import HISTORY_MAX, Escrow
from agentnexus.identity.caller import Caller, caller
from agentnexus.platform.sentences import SentenceRoute

Who = Annotated[Caller, Depends(caller)]
Amount = Annotated[Decimal, Field(gt=0, max_digits=60)]


class CreateBody(BaseModel):
    """`proof`: the wallet's base58 signature of the message that ``GET /escrow/address?userId=…&wallet=…`` gives."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    user_wallet: str = Field(alias="userWallet", min_length=32, max_length=44)
    proof: str = Field(default="", max_length=200)


class DepositBody(BaseModel):
    """`amount` in whole units; may be left out."""

    model_config = ConfigDict(extra="ignore")

    signature: str = Field(min_length=64, max_length=100)
    amount: Amount | None = None


class WithdrawBody(BaseModel):
    """`asset` by symbol; USDC when it is left out."""

    model_config = ConfigDict(extra="ignore")

    amount: Amount
    destination: str | None = Field(default=None, max_length=44)
    asset: str = Field(default="USDC", max_length=20)


def escrow_routes(escrow: Escrow, ids: Ids) -> APIRouter:
    """``/escrow/…``."""
    router = APIRouter(prefix="/escrow", tags=["escrow"], route_class=SentenceRoute)
    _add_opening(router, escrow)
    _add_reading(router, escrow)
    _add_moving(router, escrow, ids)
    return router


def _add_opening(router: APIRouter, escrow: Escrow) -> None:
    treasury = escrow.treasury
    main = treasury.assets[0]

    @router.get("/address")
    async def address(
        user_id: Annotated[str, Query(alias="userId", max_length=200)] = "",
        wallet: Annotated[str, Query(max_length=44)] = "",
    ) -> dict[str, object]:
        """Where to send, what is taken, and what the wallet signs to open an account."""
        answer: dict[str, object] = {
            "success": True,
            "address": treasury.address,
            "network": treasury.network,
            "assets": [
                {"symbol": a.symbol, "asset": a.caip19, "decimals": a.decimals, "spendable": a == main}
                for a in treasury.assets
            ],
            "claimWithinSeconds": int(treasury.claim_within.total_seconds()),
        }
        return {**answer, "message": ownership_message(user_id, wallet)} if user_id and wallet else answer

    @router.post("/{user_id}/create", status_code=201)
    async def create(user_id: str, body: CreateBody, who: Who) -> dict[str, object]:
        """Bind a wallet to the user. The same again changes nothing."""
        who.require_owner(user_id, "prepaid account")
        account = await escrow.create(user_id, body.user_wallet, body.proof)
        return {"success": True, "escrow": await _view(escrow, account, main)}


def _add_reading(router: APIRouter, escrow: Escrow) -> None:
    treasury = escrow.treasury
    main = treasury.assets[0]

    @router.get("/{user_id}/balance")
    async def balance(user_id: str, who: Who) -> dict[str, object]:
        """`balance` is what can be spent now, in USDC; `assets` has everything."""
        who.require_owner(user_id, "prepaid account")
        account = await escrow.account(user_id)
        held = {asset: await escrow.balance(user_id, asset) for asset in treasury.assets}
        return {
            "success": True,
            "balance": _number(held[main].available),
            "assets": [_held(each) for each in held.values()],
            "userWallet": account.wallet,
        }

    @router.get("/{user_id}/history")
    async def history(
        user_id: str,
        who: Who,
        limit: Annotated[int, Query(ge=1, le=HISTORY_MAX)] = 50,
        before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    ) -> dict[str, object]:
        """Every movement, newest first, with its transaction where it has one; `before` is the last `nextCursor`."""
        who.require_owner(user_id, "prepaid account")
        entries, count = await escrow.history(user_id, limit, before)
        return {
            "success": True,
            "history": [_line(entry, treasury.address) for entry in entries],
            "total": count,
            "nextCursor": entries[-1].position if len(entries) == limit else None,
        }


def _add_moving(router: APIRouter, escrow: Escrow, ids: Ids) -> None:
    treasury = escrow.treasury
    main = treasury.assets[0]

    @router.post("/{user_id}/deposit")
    async def deposit(user_id: str, body: DepositBody, who: Who) -> dict[str, object]:
        """Claim a transfer by its signature; it is credited once."""
        who.require_owner(user_id, "prepaid account")
        said = None if body.amount is None else f"{body.amount:f}"
        seen = await escrow.deposit(user_id, body.signature, said)
        account = await escrow.account(user_id)
        return {
            "success": True,
            "escrow": await _view(escrow, account, main),
            "credited": seen.amount.to_json(),
            "message": "Deposit confirmed",
        }

    @router.post("/{user_id}/withdraw")
    async def withdraw(
        user_id: str, body: WithdrawBody, who: Who, idempotency_key: Annotated[str, Header(max_length=200)] = ""
    ) -> dict[str, object]:
        """Send available money to the account's own wallet. The same `Idempotency-Key` sends once."""
        who.require_owner(user_id, "prepaid account")
        amount = _asset(treasury.assets, body.asset).parse(f"{body.amount:f}")
        signature = await escrow.withdraw(user_id, amount, idempotency_key or ids.new("wd"), body.destination)
        return {"success": True, "signature": signature, "message": f"{plain(amount)} {body.asset} sent"}


def no_escrow_routes() -> APIRouter:
    """``/escrow/…`` of a node without a treasury: every question is answered with what is missing."""
    router = APIRouter(prefix="/escrow", tags=["escrow"], route_class=SentenceRoute)

    @router.api_route("/{path:path}", methods=["GET", "POST"], include_in_schema=False)
    async def not_kept(path: str) -> None:
        raise Unavailable(
            "this node keeps no prepaid accounts",
            next_step="its operator sets NEXUS_SOLANA_RPC_URL and NEXUS_TREASURY_KEYPAIR",
        )

    return router


def _asset(assets: Sequence[Asset], symbol: str) -> Asset:
    known = {asset.symbol.upper(): asset for asset in assets}
    found = known.get(symbol.upper())
    if found is None:
        raise InvalidInput(f"{symbol} is not held here", field="asset", next_step=f"use one of {', '.join(known)}")
    return found


async def _view(escrow: Escrow, account: Account, asset: Asset) -> dict[str, object]:
    held = await escrow.balance(account.user_id, asset)
    last: datetime | None = await escrow.last_top_up(account.user_id)
    return {
        "userId": account.user_id,
        "userWallet": account.wallet,
        "balance": _number(held.available),
        "reserved": _number(held.reserved),
        "spent": _number(await escrow.spent(account.user_id, asset)),
        "createdAt": account.created_at.isoformat(),
        "lastTopUpAt": None if last is None else last.isoformat(),
    }


def _held(balance: EscrowBalance) -> dict[str, object]:
    return {
        "symbol": balance.available.asset.symbol,
        "asset": balance.available.asset.caip19,
        "available": plain(balance.available),
        "reserved": plain(balance.reserved),
        "balance": plain(balance.total),
    }


def _line(entry: Entry, address: str) -> dict[str, object]:
    return {
        "kind": str(entry.kind),
        "signature": entry.signature,
        "amount": _number(entry.amount),
        "recipient": address if entry.kind is EntryKind.DEPOSIT else "",
        "asset": entry.amount.asset.symbol,
        "reference": entry.reference,
        "timestamp": entry.at.isoformat(),
    }


def _number(money: Money) -> float:
    """For programs that read a JSON number; the exact text is beside it where money is decided."""
    return float(money.decimal)
