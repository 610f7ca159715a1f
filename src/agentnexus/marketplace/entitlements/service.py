"""`Entitlements`: who may run what, runs that a purchase pays for, and settling each with its seller on the chain."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import asyncpg

from agentnexus.core.errors import Conflict, InvalidInput, NexusError, NotFound, Unavailable
from agentnexus.core.ports import Clock, Ids
from agentnexus.marketplace.entitlements.model import LOOK_AFTER, Access, Right, RightStatus, Token, Use, UseState
from agentnexus.marketplace.entitlements.store import EntitlementStore, no_right
from agentnexus.marketplace.executions.model import Execution, ExecutionStatus, input_hash
from agentnexus.marketplace.executions.service import Executions
from agentnexus.marketplace.purchases.model import Purchase, PurchaseState, delay
from agentnexus.marketplace.purchases.service import KEY_CHARACTERS_MAX, Purchases
from agentnexus.platform.database import Connection, Database
from agentnexus.platform.logs import log
from agentnexus.platform.wakeups import Wakeups
from agentnexus.rails.evm.contracts import ContractRefused, DealStatus, epoch_id
from agentnexus.runtime.supervisor import check_input

LOOKS_MAX = 20
POLL_SECONDS = 1.0
AT_ONCE = 16
SETTLE_LEASE = timedelta(seconds=30)


def topic(use_id: str) -> str:
    """Where readers of this run wait."""
    return f"use:{use_id}"


class Entitlements:
    """Any number of processes may have one. Call `close` before the pool closes.

    Args:
        executions: where agents run; None in a process that only settles.
    """

    def __init__(
        self,
        database: Database,
        purchases: Purchases,
        executions: Executions | None,
        wakeups: Wakeups,
        *,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self.store: EntitlementStore = purchases.acts.rights
        self._database = database
        self._purchases = purchases
        self._executions = executions
        self._wakeups = wakeups
        self._clock = clock
        self._ids = ids
        self._running: dict[str, asyncio.Task[None]] = {}

    async def list(self, user_id: str) -> Sequence[Right]:
        """Every agent that the user bought runs of, newest first; balances as they were mirrored last."""
        found = [await self._right(*each) for each in await self.store.rights_of(user_id)]
        return [each for each in found if each.runs_bought]

    async def access(self, user_id: str, agent_id: str) -> Access:
        """What may be run now, read from the chain. Raises `NotFound` for somebody who never bought it."""
        token, _burnt = await self.store.right(user_id, agent_id)
        balance = await self._purchases.acts.market.balance(token.wallet, token.token_id)
        async with self._database.connection() as connection:
            under_way = await self.store.under_way_of(connection, user_id, agent_id)
            free = [count for _, count in await self._free(connection, user_id, agent_id)]
        return Access(max(min(balance - under_way, sum(free)), 0), under_way)

    async def run(self, user_id: str, agent_id: str, value: object, key: str) -> Use:
        """Start a run on what the user bought, once per key.

        It goes on when the caller goes away; `use` tells what became of it. Raises `InvalidInput` (names the field),
        `NotFound` (nothing bought, not for sale), `Conflict` (no run left, or another input under the key).
        """
        if not key or len(key) > KEY_CHARACTERS_MAX or not key.isprintable():
            raise InvalidInput("a run needs a key", field="Idempotency-Key", next_step="send an Idempotency-Key header")
        known = await self.store.use_of_key(user_id, key)
        if known is None:
            listing = await self._purchases.acts.listings.for_sale(agent_id)
            await asyncio.to_thread(check_input, listing.input_schema, value)
            known = await self._open(user_id, agent_id, value, key)
        if known.input_hash != input_hash(agent_id, value):
            raise Conflict("this key was used for another input or agent", next_step="use a new key", use=known.id)
        if known.state is UseState.RUNNING:
            self._go_on(known)
        return known

    async def use(self, user_id: str | None, use_id: str, *, wait_seconds: float = 0.0) -> Use:
        """With `wait_seconds`, once it ended or time is up. Raises `NotFound`, for a stranger's too."""
        event = self._wakeups.watch(topic(use_id))
        found = await self.store.use(use_id, user_id)
        if wait_seconds <= 0 or found.state is not UseState.RUNNING:
            return found
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                await event.wait()
        return await self.store.use(use_id, user_id)

    async def uses(self, user_id: str, limit: int) -> Sequence[Use]:
        """The user's newest runs of all agents."""
        return await self.store.uses_of(user_id, "", limit)

    async def execution(self, use: Use) -> Execution | None:
        """The run itself, with its result; None before it began."""
        if self._executions is None:
            raise Unavailable("agents do not run in this process", next_step="ask the API")
        with contextlib.suppress(NexusError):
            return await self._executions.get(use.execution_id)
        return None

    async def resume(self) -> None:
        """For ever, where agents run: go on with runs whose process ended."""
        await self._repeat(self.resume_once)

    async def resume_once(self) -> int:
        found = await self.store.claim(running=True, now=self._clock.now(), lease=LOOK_AFTER, limit=AT_ONCE)
        for each in found:
            self._go_on(each)
        return len(found)

    async def keep(self) -> None:
        """For ever: settle runs that ended, whoever ran them."""
        await self._repeat(self.keep_once)

    async def keep_once(self) -> int:
        """What is due now; how many runs that were."""
        due = await self.store.claim(running=False, now=self._clock.now(), lease=SETTLE_LEASE, limit=AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for each in due:
                group.create_task(self._settle(each))
        return len(due)

    async def close(self) -> None:
        """Leave what runs to others."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- starting ---------------------------------------------------------------------------------------------------

    async def _open(self, user_id: str, agent_id: str, value: object, key: str) -> Use:
        """A run counts against what the chain says now: read while no run of it was settled in between."""
        for _ in range(LOOKS_MAX):
            token, burnt = await self.store.right(user_id, agent_id)
            balance = await self._purchases.acts.market.balance(token.wallet, token.token_id)
            async with self._database.transaction() as connection:
                if await self.store.lock(connection, user_id, agent_id) != burnt:
                    continue
                known = await self.store.use_of_key(user_id, key, connection)
                if known is not None:
                    return known
                purchase = await self._purchase_for(connection, user_id, agent_id, balance)
                use = self._new(user_id, agent_id, purchase.id, key, input_hash(agent_id, value))
                await self.store.open_use(connection, use, json.dumps(value).encode("ascii"))
                return use
        raise Unavailable("too many runs end at this moment", next_step="try again")

    async def _purchase_for(self, connection: Connection, user_id: str, agent_id: str, balance: int) -> Purchase:
        """The oldest purchase with a run that is free."""
        under_way = await self.store.under_way_of(connection, user_id, agent_id)
        free = await self._free(connection, user_id, agent_id)
        if balance - under_way > 0:
            for purchase, count in free:
                if count > 0:
                    return purchase
        if not under_way:
            raise no_right(agent_id)
        raise Conflict(
            f"the {under_way} runs you have left of {agent_id} are all under way",
            next_step="wait until one has ended, or buy more",
            under_way=under_way,
        )

    async def _free(self, connection: Connection, user_id: str, agent_id: str) -> Sequence[tuple[Purchase, int]]:
        """Purchases that runs may start on, oldest first, and how many."""
        now = self._clock.now()
        bought = await self._purchases.store.of_agent(connection, user_id, agent_id)
        usable = [each for each in bought if each.usable(now)]
        counts = await self.store.counts([each.id for each in usable], connection)
        return [(each, each.quantity - sum(counts.get(each.id, (0, 0)))) for each in usable]

    def _new(self, user_id: str, agent_id: str, purchase_id: str, key: str, hashed: str) -> Use:
        now = self._clock.now()
        return Use(
            id=self._ids.new("use"),
            user_id=user_id,
            key=key,
            agent_id=agent_id,
            purchase_id=purchase_id,
            execution_id=self._ids.new("exe"),
            input_hash=hashed,
            state=UseState.RUNNING,
            created_at=now,
            next_try_at=now + LOOK_AFTER,
        )

    # -- running ----------------------------------------------------------------------------------------------------

    def _go_on(self, use: Use) -> None:
        if use.id in self._running or self._executions is None:
            return
        task = asyncio.create_task(self._run(use, self._executions), name=f"use-{use.id}")
        self._running[use.id] = task
        task.add_done_callback(lambda done: self._done(use.id, done))

    def _done(self, use_id: str, task: asyncio.Task[None]) -> None:
        """A database that was away is no end: the run is taken up again."""
        self._running.pop(use_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("entitlements.interrupted", use=use_id, error=str(error))

    async def _run(self, use: Use, executions: Executions) -> None:
        error: dict[str, object] | None = None
        value: object = json.loads(await self.store.input_of(use.id))
        try:
            await executions.run(use.agent_id, value, use.run_key, user_id=use.user_id, execution_id=use.execution_id)
        except NexusError as failure:
            status = await self._status_of(use, executions)
            if not status.final:
                log.info("entitlements.not_followed", use=use.id, error=failure.message)
                return
            error = None if status is ExecutionStatus.COMPLETED else failure.to_json()
        ended = await self.store.finish(use.id, error, self._clock.now())
        self._wakeups.notify(topic(use.id))
        if ended is not None:
            await self._settle(ended)

    async def _status_of(self, use: Use, executions: Executions) -> ExecutionStatus:
        """What became of the run itself (failed: it never began): an error may be ours alone.

        A run that another process makes is not given up because this one cannot make it, or cannot see it: its result
        would be handed out, and its price given back. It is looked at again after `LOOK_AFTER`.
        """
        try:
            return (await executions.get(use.execution_id)).status
        except NotFound:
            return ExecutionStatus.FAILED
        except NexusError:
            return ExecutionStatus.RUNNING

    async def _give_back_single(self, use: Use, purchase: Purchase) -> None:
        """Whoever bought one run and got nothing for it has the money back."""
        if purchase.quantity == 1 and purchase.state is PurchaseState.COMPLETED:
            with contextlib.suppress(Conflict):  # another try of it runs already
                await self._purchases.refund(use.user_id, purchase.id, "its run failed")

    # -- settling ---------------------------------------------------------------------------------------------------

    async def _settle(self, use: Use) -> None:
        """What follows from its end, until it is done: pay the seller and burn a token, or give a single one back."""
        transaction = ""
        try:
            purchase = await self._purchases.get(None, use.purchase_id)
            if use.state is UseState.COMPLETED:
                transaction = await self._pay(use, purchase)
            else:
                await self._give_back_single(use, purchase)
        except NexusError as error:
            log.warning("entitlements.not_settled", use=use.id, error=error.message)
            await self.store.later(use, self._clock.now() + delay(use.retries))
            return
        async with self._database.transaction() as connection:
            await self.store.settle(connection, use, transaction, self._clock.now())
        await self._purchases.look(purchase)
        self._wakeups.notify(topic(use.id))

    async def _pay(self, use: Use, purchase: Purchase) -> str:
        """The transaction that paid the seller; "" when the deal has ended otherwise: then nobody can. Burns a token.

        Each of the two once, however often it is asked.
        """
        market, transaction = self._purchases.acts.market, ""
        (seen,) = await market.seen([purchase])
        if seen.status is DealStatus.NONE and purchase.state is not PurchaseState.FAILED:
            raise Unavailable("its deal is not on the chain now", next_step="wait: a dropped block comes again")
        if seen.status is DealStatus.OPEN or await market.was_sent(f"{use.id}:release"):
            # Buyers may release a part by themselves: what is left is less than a price then.
            transaction = await self._release(use, purchase, min(purchase.price.atomic, seen.remaining))
        await self._burn(use, purchase)
        return transaction

    async def _release(self, use: Use, purchase: Purchase, amount: int) -> str:
        market = self._purchases.acts.market
        try:
            return await market.release(purchase, use.id, amount)
        except ContractRefused:
            (seen,) = await market.seen([purchase])
            if seen.status is DealStatus.OPEN:
                raise
            return ""

    async def _burn(self, use: Use, purchase: Purchase) -> None:
        """Take one token back; holders may have burnt it by themselves."""
        market, token = self._purchases.acts.market, epoch_id(purchase.agent_class)
        if not await market.balance(purchase.wallet, token) and not await market.was_sent(f"{use.id}:revoke"):
            return
        try:
            await market.revoke(purchase, f"{use.id}:revoke", 1)
        except ContractRefused:
            if await market.balance(purchase.wallet, token):
                raise

    # -- reading ----------------------------------------------------------------------------------------------------

    async def _right(self, token: Token, balance: int) -> Right:
        now, user_id, agent_id = self._clock.now(), token.user_id, token.agent_id
        async with self._database.connection() as connection:
            all_bought = await self._purchases.store.of_agent(connection, user_id, agent_id)
            bought = [each for each in all_bought if each.state in (PurchaseState.COMPLETED, PurchaseState.REFUNDED)]
            counts = await self.store.counts([each.id for each in bought], connection)
            under_way = await self.store.under_way_of(connection, user_id, agent_id)
        usable = [(each, each.quantity - sum(counts.get(each.id, (0, 0)))) for each in bought if each.usable(now)]
        left = max(min(balance - under_way, sum(count for _, count in usable)), 0)
        used = sum(succeeded for succeeded, _ in counts.values())
        ends = [each.expires_at for each, count in usable if count > 0 and each.expires_at is not None]
        return Right(
            agent_id=agent_id,
            agent_name=bought[-1].agent_name if bought else agent_id,
            status=_status(bought, left + under_way, used),
            runs_left=left,
            runs_bought=sum(each.quantity for each in bought),
            runs_used=used,
            under_way=under_way,
            expires_at=min(ends, default=None),
            wallet=token.wallet,
            token_id=token.token_id,
            purchases=tuple(each.id for each in bought),
        )

    async def _repeat(self, work: Callable[[], Awaitable[int]]) -> None:
        while True:
            try:
                found = await work()
            except (NexusError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("entitlements.failed", error=str(error))
                found = 0
            if not found:
                await asyncio.sleep(POLL_SECONDS)


def _status(bought: Sequence[Purchase], left: int, used: int) -> RightStatus:
    if left:
        return RightStatus.ACTIVE
    if used >= sum(each.quantity for each in bought):
        return RightStatus.USED_UP
    last = bought[-1].deal if bought else DealStatus.REFUNDED
    return RightStatus.EXPIRED if last in (DealStatus.EXPIRED, DealStatus.OPEN) else RightStatus.REVOKED
