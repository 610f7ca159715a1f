"""The tables of rights and their uses. Who starts a run or a refund holds the right's row: no run counts twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import asyncpg

from agentnexus.core.errors import NotFound
from agentnexus.marketplace.entitlements.holdings import Held, held_in
from agentnexus.marketplace.entitlements.model import Token, Use, UseState
from agentnexus.platform.database import Connection, Database

OWN_TURN = timedelta(seconds=5)
_COLUMNS = (
    "id, user_id, key, agent_id, purchase_id, wallet, execution_id, input_hash, state, error, transaction, retries,"
    " next_try_at, created_at, finished_at, settled_at"
)


_OF_WALLET = """
select user_id, agent_id, wallet, token_id, burnt from marketplace.entitlement where agent_id = $2
   and wallet in (select wallet from marketplace.entitlement where user_id = $1 and agent_id = $2)
 order by token_id, user_id
"""


class EntitlementStore:
    """Rights as the chain has them, and runs that use them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def mirror(self, right: Token, balance: int, now: datetime) -> None:
        """Note what the chain says."""
        async with self._database.connection() as connection:
            await connection.execute(
                """insert into marketplace.entitlement (user_id, agent_id, wallet, token_id, balance, created_at,
                       updated_at) values ($1, $2, $3, $4, $5, $6, $6)
                   on conflict (user_id, token_id) do update set wallet = $3, balance = $5, updated_at = $6""",
                right.user_id, right.agent_id, right.wallet, Decimal(right.token_id), Decimal(balance), now,
            )  # fmt: skip

    async def lock(self, connection: Connection, user_id: str, agent_id: str) -> int:
        """Hold a right, for everybody with the same wallet; how many of its tokens were burnt for runs.

        Raises `NotFound` for one that never was.
        """
        rows = await connection.fetch(_OF_WALLET + " for update", user_id, agent_id)
        if not rows:
            raise no_right(agent_id)
        return sum(row["burnt"] for row in rows)

    async def tokens(self, user_id: str, agent_id: str) -> tuple[Sequence[Token], int]:
        """The user's tokens of an agent, and how many were burnt for runs, as `lock` counts; raises `NotFound`."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_OF_WALLET, user_id, agent_id)
        if not rows:
            raise no_right(agent_id)
        return [_token(row) for row in rows if row["user_id"] == user_id], sum(row["burnt"] for row in rows)

    async def rights(self, after: tuple[str, int], limit: int) -> list[tuple[Token, int]]:
        """Everybody's tokens and balances, by user and token."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select user_id, agent_id, wallet, token_id, balance from marketplace.entitlement
                    where (user_id, token_id) > ($1, $2) order by user_id, token_id limit $3""",
                after[0], Decimal(after[1]), limit,
            )  # fmt: skip
        return [(_token(row), int(row["balance"])) for row in rows]

    async def rights_of(self, user_id: str) -> list[tuple[Token, int]]:
        """Tokens and balances, newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select user_id, agent_id, wallet, token_id, balance from marketplace.entitlement where user_id = $1
                    order by created_at desc, token_id desc""",
                user_id,
            )
        return [(_token(row), int(row["balance"])) for row in rows]

    async def received(self, user_id: str, wallet: str, agent_id: str = "") -> list[Token]:
        """Tokens of one or all agents that others passed on to the user's wallet, and that were not noted yet."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select distinct p.agent_id, p.token_id from marketplace.holding h
                     join marketplace.purchase p on p.id = h.purchase_id
                    where h.wallet = $2 and h.count > 0 and p.user_id <> $1 and p.state in ('completed', 'refunded')
                      and ($3 = '' or p.agent_id = $3) and not exists (select from marketplace.entitlement e
                                       where e.user_id = $1 and e.token_id = p.token_id)""",
                user_id, wallet, agent_id,
            )  # fmt: skip
        return [Token(user_id, row["agent_id"], wallet, int(row["token_id"])) for row in rows]

    async def noted(self, token_id: int, wallets: Sequence[str]) -> list[Token]:
        """Who is known to have tokens of an id in these wallets."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                """select user_id, agent_id, wallet, token_id from marketplace.entitlement
                    where token_id = $1 and wallet = any($2::text[])""",
                Decimal(token_id), list(wallets),
            )  # fmt: skip
        return [_token(row) for row in rows]

    async def held(self, purchase_ids: Sequence[str]) -> Sequence[Held]:
        """Who holds how much of purchases, and ran how often on them."""
        async with self._database.connection() as connection:
            return await held_in(connection, purchase_ids)

    async def open_use(self, connection: Connection, use: Use, value: bytes) -> None:
        await connection.execute(
            """insert into marketplace.use (id, user_id, key, agent_id, purchase_id, wallet, execution_id, input_hash,
                   input, state, next_try_at, created_at)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'running', $10, $11)""",
            use.id, use.user_id, use.key, use.agent_id, use.purchase_id, use.wallet, use.execution_id, use.input_hash,
            value, use.next_try_at, use.created_at,
        )  # fmt: skip

    async def use_of_key(self, user_id: str, key: str, connection: Connection | None = None) -> Use | None:
        if connection is None:
            async with self._database.connection() as own:
                return await self.use_of_key(user_id, key, own)
        row = await connection.fetchrow(
            f"select {_COLUMNS} from marketplace.use where user_id = $1 and key = $2",  # noqa: S608 - our own text
            user_id,
            key,
        )
        return None if row is None else _use(row)

    async def use(self, use_id: str, user_id: str | None) -> Use:
        """Raises `NotFound`, also for another user's."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                f"select {_COLUMNS} from marketplace.use where id = $1 and ($2::text is null or user_id = $2)",  # noqa: S608 - our own text
                use_id,
                user_id,
            )
        if row is None:
            raise NotFound("there is no run with that id", next_step="check the id and whose token you use")
        return _use(row)

    async def uses_of(self, user_id: str, agent_id: str, limit: int) -> Sequence[Use]:
        """Newest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                f"""select {_COLUMNS} from marketplace.use where user_id = $1 and ($2 = '' or agent_id = $2)
                     order by created_at desc limit $3""",  # noqa: S608 - our own text
                user_id,
                agent_id,
                limit,
            )
        return [_use(row) for row in rows]

    async def input_of(self, use_id: str) -> bytes:
        async with self._database.connection() as connection:
            value: bytes | None = await connection.fetchval("select input from marketplace.use where id = $1", use_id)
        return value or b"null"

    async def claim(self, *, running: bool, now: datetime, lease: timedelta, limit: int) -> list[Use]:
        """Uses that are due, those that run or those that ended; for `lease` they are the caller's."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                f"""update marketplace.use set next_try_at = $3
                     where id in (select id from marketplace.use where (state = 'running') = $1 and next_try_at <= $2
                                  order by next_try_at limit $4 for update skip locked)
                     returning {_COLUMNS}""",  # noqa: S608 - our own text
                running,
                now,
                now + lease,
                limit,
            )
        return [_use(row) for row in rows]

    async def finish(self, use_id: str, error: Mapping[str, object] | None, now: datetime) -> Use | None:
        """End a run; what follows from that is the caller's for a moment. None when it has ended before.

        What a run that failed was given stays for a while (`forget`): its owner may want to try it again.
        """
        state = UseState.COMPLETED if error is None else UseState.FAILED
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                f"""update marketplace.use set state = $2, error = $3, finished_at = $4, next_try_at = $5,
                           input = case when $2 = 'failed' then input end
                     where id = $1 and state = 'running' returning {_COLUMNS}""",  # noqa: S608 - our own text
                use_id,
                str(state),
                error,
                now,
                now + OWN_TURN,
            )
        return None if row is None else _use(row)

    async def forget(self, before: datetime) -> None:
        """Delete what runs that failed before that moment were given."""
        async with self._database.connection() as connection:
            await connection.execute(
                "update marketplace.use set input = null where state = 'failed' and input is not null"
                " and finished_at < $1",
                before,
            )

    async def settle(
        self, connection: Connection, use: Use, transaction: str, now: datetime, *, token_id: int | None
    ) -> bool:
        """Nothing is left to do for it: paid and burnt, or given back. False when somebody noted that before.

        `token_id`: of which one is burnt; None of a run that used up none.
        """
        await self.lock(connection, use.user_id, use.agent_id)
        done = await connection.execute(
            """update marketplace.use set settled_at = $2, transaction = $3, next_try_at = null
                where id = $1 and settled_at is null""",
            use.id, now, transaction,
        )  # fmt: skip
        if done != "UPDATE 1":
            return False
        if use.state is UseState.COMPLETED and token_id is not None:
            await connection.execute(
                "update marketplace.entitlement set burnt = burnt + 1 where user_id = $1 and token_id = $2",
                use.user_id, Decimal(token_id),
            )  # fmt: skip
        return True

    async def unsettle(self, purchase_id: str, paid_at_most: int, now: datetime) -> int:
        """The chain dropped what paid for runs: those above a number are settled again, by the same transactions."""
        async with self._database.connection() as connection:
            done = await connection.execute(
                """update marketplace.use set settled_at = null, next_try_at = $3 where id in (
                       select id from marketplace.use
                        where purchase_id = $1 and state = 'completed' and settled_at is not null
                        order by settled_at, id offset $2)""",
                purchase_id, paid_at_most, now,
            )  # fmt: skip
        return int(done.rpartition(" ")[2])

    async def later(self, use: Use, due: datetime) -> None:
        """Settling did not get through."""
        async with self._database.connection() as connection:
            await connection.execute(
                "update marketplace.use set retries = retries + 1, next_try_at = $2 where id = $1", use.id, due
            )


def no_right(agent_id: str) -> NotFound:
    return NotFound(
        f"you have no runs of {agent_id}",
        next_step="buy runs, or a month where it is sold: on its page, by `nexus agents buy`, or "
        f"POST /api/v1/agents/{agent_id}/purchase",
    )


def _token(row: asyncpg.Record) -> Token:
    return Token(row["user_id"], row["agent_id"], row["wallet"], int(row["token_id"]))


def _use(row: asyncpg.Record) -> Use:
    values = dict(row)
    values["state"] = UseState(values["state"])
    return Use(**values)
