"""Session approvals: a signed mandate becomes a budget that spends what was signed until it expires or is revoked.

A use is the reservation itself: it is written under the grant's budget in the transaction that checks its limits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from agentnexus.core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from agentnexus.core.money import Asset
from agentnexus.core.ports import Clock
from agentnexus.ledger.approvals import Approval, Charge, objection, state_of
from agentnexus.ledger.approvers import Approvers
from agentnexus.ledger.books import Books
from agentnexus.ledger.budgets import BudgetStatus
from agentnexus.ledger.mandates import Mandate, Permission, Revocation, constraints_of, permission_of
from agentnexus.ledger.model import Reservation, check_text, to_utc
from agentnexus.ledger.rows import reservation_of
from agentnexus.ledger.wallet_signatures import EVM
from agentnexus.platform.database import Database

CLOCK_SKEW_SECONDS = 300
LIFE_SECONDS_MAX = 366 * 86_400
USES_MAX = 1000
ANY = "any"
LISTED_MAX = 500


@dataclass(frozen=True, slots=True)
class Grant:
    """A mandate that was accepted, with the signature that proves it; `revocation` is the wallet's, if it gave one."""

    mandate: Mandate
    signature: str
    owner: str
    created_at: datetime
    revocation: str = ""

    @property
    def id(self) -> str:
        return self.mandate.grant_id

    def to_json(self, status: BudgetStatus) -> dict[str, object]:
        """With the state of its budget; `state` is ``open``, ``revoked`` or ``expired``."""
        return {
            "id": self.id,
            "wallet": self.mandate.iss,
            "state": state_of(status),
            "budget": status.to_json(),
            "mandate": self.mandate.model_dump(mode="json"),
            "signature": self.signature,
            "revocation": self.revocation,
            "created_at": self.created_at.isoformat(),
        }


class Grants:
    """Approvals of one ledger on one node. A grant's id is also its budget's id."""

    def __init__(self, books: Books, clock: Clock, asset: Asset, approvers: Approvers) -> None:
        """`asset` is what is spent; mandates must give `approvers.node` as `cnf`."""
        self.asset = asset
        self.approvers = approvers
        self._books = books
        self._clock = clock
        self._signatures = approvers.signatures

    @property
    def _db(self) -> Database:
        return self._books.db

    def draft(self, wallet: str, parent: str, permission: Permission, lasts_seconds: int, jti: str) -> Mandate:
        """A mandate that would be accepted, for `wallet` to sign. Raises `InvalidInput`."""
        now = int(self._clock.now().timestamp())
        made = Mandate(
            jti=jti,
            iss=wallet,
            cnf=self.approvers.node,
            parent=parent,
            constraints=constraints_of(permission, self.asset),
            iat=now,
            exp=now + lasts_seconds,
        )
        self._permission(made)
        self._check_times(made)
        return made

    async def approve(self, mandate: Mandate, signature: str, *, owner: str | None = None) -> BudgetStatus:
        """Check everything, then open the budget. The same mandate again gives the same budget, as it is by then.

        Args:
            owner: who must own the parent budget; None for whoever does.

        Raises `NotAllowed` (signature, wallet, node), `InvalidInput` (times, constraints), `NotFound` (parent),
        `Conflict` (the wallet used that nonce for another mandate).
        """
        check_text(mandate.jti, "jti", required=True)
        node = self.approvers.node
        if mandate.cnf != node:
            raise NotAllowed(
                "this approval was signed for another node", next_step=f"sign one with cnf {node}", node=node
            )
        permission = self._permission(mandate)
        await self._signatures.check(mandate, signature)
        self._check_times(mandate)
        owned_by = await self._owner(mandate, owner)
        await self._store(mandate, signature, owned_by)
        return await self._books.budgets.create(
            mandate.grant_id,
            parent=mandate.parent or None,
            owner=owned_by,
            asset=self.asset,
            limits=permission.limits,
            expires_at=mandate.expires_at,
            sellers=permission.sellers,
            capabilities=permission.capabilities,
            grant_id=mandate.grant_id,
        )

    def _permission(self, mandate: Mandate) -> Permission:
        permission = permission_of(mandate, self.asset)
        if permission.limits.total is None:
            raise InvalidInput(
                "the approval has no total", field="constraints", next_step="add a payment.budget constraint"
            )
        return permission

    def _check_times(self, mandate: Mandate) -> None:
        now = self._clock.now().timestamp()
        if mandate.iat > now + CLOCK_SKEW_SECONDS:
            raise InvalidInput("the approval is from the future", field="iat", next_step="check the signer's clock")
        if mandate.exp <= now or mandate.exp <= mandate.iat:
            raise InvalidInput("the approval has expired", field="exp", next_step="sign a new one")
        if mandate.exp > now + LIFE_SECONDS_MAX:
            raise InvalidInput("the approval lasts longer than a year", field="exp", next_step="sign a shorter one")

    async def _owner(self, mandate: Mandate, expected: str | None) -> str:
        """The owner of what is spent from, when the wallet may sign for him."""
        owner = (await self._books.budgets.status(mandate.parent)).owner if mandate.parent else mandate.iss
        if expected is not None and owner != expected:
            raise NotFound(f"no budget {mandate.parent}", next_step="name a budget of yours as parent")
        if mandate.iss != owner and mandate.iss not in {each.wallet for each in await self.approvers.of(owner)}:
            raise NotAllowed(
                f"{mandate.iss} may not approve spending from budget {mandate.parent}",
                next_step="link that wallet first, or sign with a linked one",
                signer=mandate.iss,
            )
        return owner

    async def _store(self, mandate: Mandate, signature: str, owner: str) -> None:
        document = mandate.model_dump(mode="json")
        async with self._db.connection() as connection:
            await connection.execute(
                "insert into ledger.budget_grant (id, signer, scheme, document, signature, created_at, owner)"
                " values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
                mandate.grant_id,
                mandate.iss,
                "eip712" if mandate.iss.startswith(EVM) else "ed25519",
                document,
                signature,
                to_utc(self._clock.now()),
                owner,
            )
            stored = await connection.fetchval(
                "select document from ledger.budget_grant where id = $1", mandate.grant_id
            )
        if stored != document:
            raise Conflict(
                f"this wallet signed another approval with the nonce {mandate.jti}",
                next_step="sign one with a new jti",
            )

    async def get(self, grant_id: str, owner: str | None = None) -> Grant:
        """Raises `NotFound`, also for what is not `owner`'s."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow("select * from ledger.budget_grant where id = $1", grant_id)
        if row is None or (owner is not None and row["owner"] != owner):
            raise NotFound(f"no approval {grant_id}", next_step="list your approvals")
        return _grant(row)

    async def status(self, grant_id: str) -> BudgetStatus:
        """What was spent and what is left. Raises `NotFound`."""
        return await self._books.budgets.status(grant_id)

    async def list(self, owner: str) -> Sequence[tuple[Grant, BudgetStatus]]:
        """An owner's approvals, newest first."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(
                "select * from ledger.budget_grant where owner = $1 order by created_at desc, id limit $2",
                *(owner, LISTED_MAX),
            )
        found = [_grant(row) for row in rows]
        states = {state.id: state for state in await self._books.budgets.list(ids=[grant.id for grant in found])}
        return [(grant, states[grant.id]) for grant in found if grant.id in states]

    async def revoke(self, grant_id: str, owner: str | None = None) -> BudgetStatus:
        """By its owner: from now on nothing is reserved under it. Raises `NotFound`."""
        await self.get(grant_id, owner)
        return await self._books.budgets.revoke(grant_id)

    async def revoke_signed(self, grant_id: str, signature: str) -> BudgetStatus:
        """By the wallet that signed it, whoever brings the signature. Raises `NotFound`, `NotAllowed`."""
        mandate = (await self.get(grant_id)).mandate
        await self._signatures.check(revocation_of(mandate), signature)
        async with self._db.connection() as connection:
            await connection.execute(
                "update ledger.budget_grant set revocation = $2 where id = $1 and revocation = ''",
                *(grant_id, signature),
            )
        return await self._books.budgets.revoke(grant_id)

    async def drop_wallet(self, owner: str, wallet: str) -> Collection[str]:
        """Unlink a wallet and revoke everything that it approved; returns those grants' ids. Raises `NotFound`."""
        await self.approvers.unlink(owner, wallet)
        dropped = [grant.id for grant, status in await self.list(owner) if grant.mandate.iss == wallet and status.open]
        for grant_id in dropped:
            await self._books.budgets.revoke(grant_id)
        return dropped

    async def choose(self, owner: str, wanted: str, charges: Sequence[Charge]) -> Approval:
        """Whether an approval allows all of these payments together; limits are checked again when it pays.

        Args:
            wanted: a grant's id, or `ANY` for the first that allows it, the soonest to expire first.

        Raises `NotFound` for an id that is not `owner`'s.
        """
        if wanted != ANY:
            await self.get(wanted, owner)
            return Approval(wanted, objection(await self.status(wanted), charges))
        reasons = "no approval is open"
        grants = [each for each in await self.list(owner) if each[1].open]
        for grant, status in sorted(grants, key=lambda each: each[0].mandate.exp):
            reasons = objection(status, charges)
            if not reasons:
                return Approval(grant.id)
        return Approval("", reasons)

    async def uses(self, grant_id: str, limit: int = USES_MAX) -> Sequence[Reservation]:
        """Everything reserved under it, newest first."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(
                "select r.* from ledger.reservation r join ledger.budget b on b.id = r.budget_id"
                " where b.path @> array[$1] order by r.created_at desc, r.key limit $2",
                *(grant_id, min(limit, USES_MAX)),
            )
            await self._books.assets.cover(connection, rows)
        return [reservation_of(row, self._books.assets) for row in rows]


def revocation_of(mandate: Mandate) -> Revocation:
    """What the wallet signs to take the mandate back."""
    return Revocation(jti=mandate.jti, iss=mandate.iss)


def _grant(row: asyncpg.Record) -> Grant:
    mandate = Mandate.model_validate(row["document"])
    return Grant(mandate, row["signature"], row["owner"], row["created_at"], row["revocation"])
