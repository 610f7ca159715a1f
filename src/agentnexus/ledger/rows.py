"""Rows of the ledger's tables as nouns, and the assets they are in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import asyncpg

from agentnexus.core.errors import Conflict
from agentnexus.core.money import Asset, Money
from agentnexus.ledger.model import (
    AccountState,
    BudgetState,
    Ceilings,
    Reservation,
    ReservationState,
    Terms,
    Transfer,
    TransferKind,
)
from agentnexus.platform.database import Connection, Database

CHANGED_AT = "changed_at"  # stored beside the limits once they were replaced: older payments obeyed other ones


class Assets:
    """Assets known to the database by CAIP-19 id: an id has one symbol and one number of decimals."""

    def __init__(self) -> None:
        self._known: dict[str, Asset] = {}

    def __getitem__(self, caip19: str) -> Asset:
        return self._known[caip19]

    async def cover(self, connection: Connection, rows: Iterable[asyncpg.Record]) -> None:
        """Make sure that rows with a column ``asset`` can be turned into money."""
        if any(row["asset"] not in self._known for row in rows):
            await self._load(connection)

    async def _load(self, connection: Connection) -> None:
        for row in await connection.fetch("select id, symbol, decimals from ledger.asset"):
            self._known[row["id"]] = Asset(row["symbol"], row["decimals"], row["id"])

    async def settle(self, db: Database, asset: Asset) -> Asset:
        """The database's form of `asset`, entered when it is new; raises `Conflict` when the decimals differ."""
        known = self._known.get(asset.caip19)
        if known is None:
            async with db.connection() as connection:
                await connection.execute(
                    "insert into ledger.asset (id, symbol, decimals) values ($1, $2, $3) on conflict do nothing",
                    asset.caip19,
                    asset.symbol,
                    asset.decimals,
                )
                await self._load(connection)
            known = self._known[asset.caip19]
        if known.decimals != asset.decimals:
            raise Conflict(
                f"{asset.caip19} has {known.decimals} decimals here, not {asset.decimals}",
                next_step="use the asset's true decimals",
                asset=asset.caip19,
            )
        return known

    async def money(self, db: Database, money: Money) -> Money:
        """`money` in the database's form of its asset."""
        return Money(await self.settle(db, money.asset), money.atomic)

    def row_money(self, row: asyncpg.Record, column: str) -> Money:
        return Money(self._known[row["asset"]], int(row[column]))


def account_of(row: asyncpg.Record, assets: Assets) -> AccountState:
    return AccountState(row["name"], assets[row["asset"]], int(row["balance"]), int(row["reserved"]))


def reservation_of(row: asyncpg.Record, assets: Assets) -> Reservation:
    terms = Terms(
        budget_id=row["budget_id"],
        payer=row["payer"],
        payee=row["payee"],
        amount=assets.row_money(row, "amount"),
        seller=row["seller"],
        capability=row["capability"],
        task=row["task"],
        tick=row["tick"],
        rail=row["rail"],
    )
    return Reservation(
        key=row["key"],
        terms=terms,
        state=ReservationState(row["state"]),
        captured=int(row["captured"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        auto_void=row["auto_void"],
        correlation=row["correlation"],
        resolved_at=row["resolved_at"],
        reason=row["reason"],
        returned=int(row["returned"]),
    )


def transfer_of(row: asyncpg.Record, assets: Assets) -> Transfer:
    return Transfer(
        id=row["id"],
        kind=TransferKind(row["kind"]),
        key=row["key"],
        debit=row["debit"],
        credit=row["credit"],
        amount=assets.row_money(row, "amount"),
        at=row["at"],
        correlation=row["correlation"],
        memo=row["memo"],
        reservation=row["reservation"],
    )


def limits_json(limits: Ceilings) -> dict[str, object]:
    """Stored form: amounts as text, allowed names as sorted arrays; absent means no limit."""
    plain: dict[str, object] = {}
    for name in Ceilings.__dataclass_fields__:
        value: int | frozenset[str] | None = getattr(limits, name)
        if isinstance(value, frozenset):
            plain[name] = sorted(value)
        elif value is not None:
            plain[name] = str(value)
    return plain


def limits_of(stored: Mapping[str, str | list[str]]) -> Ceilings:
    amounts = {name: int(value) for name, value in stored.items() if isinstance(value, str) and name != CHANGED_AT}
    names = {name: frozenset(value) for name, value in stored.items() if isinstance(value, list)}
    return Ceilings(
        **amounts,
        sellers=names.get("sellers"),
        capabilities=names.get("capabilities"),
    )


def budget_of(row: asyncpg.Record, assets: Assets) -> BudgetState:
    return BudgetState(
        id=row["id"],
        path=tuple(row["path"]),
        owner=row["owner"],
        asset=assets[row["asset"]],
        ceilings=limits_of(row["limits"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        grant_id=row["grant_id"],
        reserved=int(row["reserved"]),
        spent=int(row["spent"]),
    )
