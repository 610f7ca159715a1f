"""Session approvals: a signed mandate becomes a budget that spends what was signed until it expires or is revoked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from agentnexus.core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from agentnexus.core.money import Asset
from agentnexus.core.ports import Clock
from agentnexus.ledger.books import Books
from agentnexus.ledger.budgets import BudgetStatus
from agentnexus.ledger.mandates import Mandate, check_signature, permission_of
from agentnexus.ledger.model import Reservation, check_text, to_utc
from agentnexus.ledger.rows import reservation_of
from agentnexus.platform.database import Database

CLOCK_SKEW_SECONDS = 300
USES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Grant:
    """A mandate that was accepted, with the signature that proves it."""

    mandate: Mandate
    signature: str
    created_at: datetime

    @property
    def id(self) -> str:
        return self.mandate.jti


class Grants:
    """Approvals of one ledger. A grant's id, its mandate's `jti` and its budget's id are one and the same."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self._books = books
        self._clock = clock

    @property
    def _db(self) -> Database:
        return self._books.db

    async def approve(
        self, mandate: Mandate, signature: str, asset: Asset, *, signers: Collection[str] | None = None
    ) -> BudgetStatus:
        """Check everything, then open the budget. The same mandate again gives the same budget.

        Args:
            signers: who may sign for the owner of the parent budget; by default the owner itself.

        Raises `NotAllowed` (signature, signer), `InvalidInput` (times, constraints), `NotFound` (parent), `Conflict`.
        """
        check_text(mandate.jti, "jti", required=True)
        check_signature(mandate, signature, asset)
        self._check_times(mandate)
        permission = permission_of(mandate, asset)
        if mandate.parent:
            owner = (await self._books.budgets.status(mandate.parent)).owner
            if mandate.iss not in (signers if signers is not None else {owner}):
                raise NotAllowed(
                    f"{mandate.iss} may not approve spending from budget {mandate.parent}",
                    next_step="have the owner of that budget sign",
                    signer=mandate.iss,
                )
        else:
            owner = mandate.iss
        await self._store(mandate, signature)
        return await self._books.budgets.create(
            mandate.jti,
            parent=mandate.parent or None,
            owner=owner,
            asset=asset,
            limits=permission.limits,
            expires_at=mandate.expires_at,
            sellers=permission.sellers,
            capabilities=permission.capabilities,
            grant_id=mandate.jti,
        )

    def _check_times(self, mandate: Mandate) -> None:
        now = self._clock.now().timestamp()
        if mandate.iat > now + CLOCK_SKEW_SECONDS:
            raise InvalidInput("the approval is from the future", field="iat", next_step="check the signer's clock")
        if mandate.exp <= now or mandate.exp <= mandate.iat:
            raise InvalidInput("the approval has expired", field="exp", next_step="sign a new one")

    async def _store(self, mandate: Mandate, signature: str) -> None:
        document = mandate.model_dump(mode="json")
        async with self._db.connection() as connection:
            await connection.execute(
                "insert into ledger.budget_grant (id, signer, scheme, document, signature, created_at)"
                " values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
                mandate.jti,
                mandate.iss,
                str(mandate.scheme),
                document,
                signature,
                to_utc(self._clock.now()),
            )
            stored = await connection.fetchval("select document from ledger.budget_grant where id = $1", mandate.jti)
        if stored != document:
            raise Conflict(f"an approval {mandate.jti} exists with other contents", next_step="sign one with a new jti")

    async def get(self, grant_id: str) -> Grant:
        """Raises `NotFound`."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow("select * from ledger.budget_grant where id = $1", grant_id)
        if row is None:
            raise NotFound(f"no approval {grant_id}", next_step="check its jti")
        return Grant(Mandate.model_validate(row["document"]), row["signature"], row["created_at"])

    async def revoke(self, grant_id: str) -> BudgetStatus:
        """From now on nothing is reserved under it. Raises `NotFound`."""
        await self.get(grant_id)
        return await self._books.budgets.revoke(grant_id)

    async def uses(self, grant_id: str) -> list[Reservation]:
        """Everything reserved under it, newest first, at most the last 1,000."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(
                "select r.* from ledger.reservation r join ledger.budget b on b.id = r.budget_id"
                " where b.path @> array[$1] order by r.created_at desc, r.key limit $2",
                grant_id,
                USES_MAX,
            )
            await self._books.assets.cover(connection, rows)
        return [reservation_of(row, self._books.assets) for row in rows]
