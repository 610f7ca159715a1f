"""Which wallets may approve spending for an owner: each proved by its own signature, later ones let in by earlier ones.

An access token alone can therefore never bring in a wallet of a thief, once there is one of the owner's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agentnexus.core.errors import InvalidInput, NotAllowed, NotFound
from agentnexus.core.ports import Clock
from agentnexus.ledger.mandates import WalletLink
from agentnexus.ledger.model import check_text, to_utc
from agentnexus.ledger.wallet_signatures import WalletSignatures
from agentnexus.platform.database import Connection, Database

PROOF_SECONDS = 600
WALLETS_MAX = 20


@dataclass(frozen=True, slots=True)
class Approver:
    """A wallet as its owner sees it."""

    wallet: str
    linked_at: datetime

    def to_json(self) -> dict[str, object]:
        return {"wallet": self.wallet, "linked_at": self.linked_at.isoformat()}


class Approvers:
    """Wallets by owner. `node` is what proofs must be made for."""

    def __init__(self, db: Database, clock: Clock, signatures: WalletSignatures, node: str) -> None:
        self.signatures = signatures
        self.node = node
        self._db = db
        self._clock = clock

    def proof(self, owner: str, wallet: str) -> WalletLink:
        """What the wallet has to sign now to be linked."""
        return WalletLink(
            iss=wallet, owner=check_text(owner, "owner"), cnf=self.node, iat=int(self._clock.now().timestamp())
        )

    async def link(self, proof: WalletLink, signature: str, *, vouching: tuple[str, str] | None = None) -> Approver:
        """Let a wallet in. The first needs its own signature only.

        Args:
            vouching: (wallet, signature) of a linked wallet over the same proof with its own name as `iss`.

        Raises `NotAllowed`, `InvalidInput` (a stale proof, too many wallets).
        """
        self._check_proof(proof)
        await self.signatures.check(proof, signature)
        if vouching is not None:
            await self.signatures.check(proof.model_copy(update={"iss": vouching[0]}), vouching[1])
        async with self._db.transaction() as connection:
            # Two first wallets at the same instant would both find nobody there.
            await connection.execute("select pg_advisory_xact_lock(hashtextextended($1, 10))", proof.owner)
            await _check_vouched(connection, proof, None if vouching is None else vouching[0])
            row = await connection.fetchrow(
                "insert into ledger.approver (owner, wallet, linked_at) values ($1, $2, $3)"
                " on conflict (owner, wallet) do update set unlinked_at = null, linked_at ="
                " case when approver.unlinked_at is null then approver.linked_at else excluded.linked_at end"
                " returning wallet, linked_at",
                *(proof.owner, proof.iss, to_utc(self._clock.now())),
            )
        assert row is not None
        return Approver(row["wallet"], row["linked_at"])

    def _check_proof(self, proof: WalletLink) -> None:
        if proof.cnf != self.node:
            raise NotAllowed("this proof was made for another node", next_step=f"sign one for {self.node}")
        if abs(self._clock.now().timestamp() - proof.iat) > PROOF_SECONDS:
            raise InvalidInput("this proof is too old", field="iat", next_step="ask for a new one and sign it")

    async def of(self, owner: str) -> Sequence[Approver]:
        """The wallets that may approve now, oldest first."""
        async with self._db.connection() as connection:
            rows = await connection.fetch(
                "select wallet, linked_at from ledger.approver where owner = $1 and unlinked_at is null"
                " order by linked_at, wallet",
                owner,
            )
        return [Approver(row["wallet"], row["linked_at"]) for row in rows]

    async def unlink(self, owner: str, wallet: str) -> None:
        """From now on it approves nothing; `grants.Grants.drop_wallet` also takes back what it approved."""
        async with self._db.connection() as connection:
            done = await connection.execute(
                "update ledger.approver set unlinked_at = $3 where owner = $1 and wallet = $2 and unlinked_at is null",
                *(owner, wallet, to_utc(self._clock.now())),
            )
        if done != "UPDATE 1":
            raise NotFound(f"{wallet} is not linked", next_step="list your wallets")


async def _check_vouched(connection: Connection, proof: WalletLink, voucher: str | None) -> None:
    """The first wallet of all needs nobody; every other one that is linked now."""
    rows = await connection.fetch("select wallet, unlinked_at from ledger.approver where owner = $1", proof.owner)
    linked = {row["wallet"] for row in rows if row["unlinked_at"] is None}
    if not rows or proof.iss in linked:
        return
    if voucher not in linked:
        raise NotAllowed(
            "another wallet of yours has to sign this as well",
            next_step="sign the same proof with a linked wallet"
            if linked
            else "no wallet is linked any more: ask the operator",
            wallets=sorted(linked),
        )
    if len(linked) >= WALLETS_MAX:
        raise InvalidInput(f"{WALLETS_MAX} wallets are linked", field="wallet", next_step="unlink one first")
