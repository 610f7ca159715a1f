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
from agentnexus.marketplace.entitlements.choosing import Gift, next_lot, passing
from agentnexus.marketplace.entitlements.model import LOOK_AFTER, Access, Right, Use, UseState
from agentnexus.marketplace.entitlements.reading import Reading
from agentnexus.marketplace.entitlements.settling import Settling
from agentnexus.marketplace.entitlements.stock import Lot
from agentnexus.marketplace.entitlements.store import EntitlementStore
from agentnexus.marketplace.executions.model import Execution, ExecutionStatus, input_hash
from agentnexus.marketplace.executions.service import Executions
from agentnexus.marketplace.purchases.kinds import Kind
from agentnexus.marketplace.purchases.model import delay
from agentnexus.marketplace.purchases.service import KEY_CHARACTERS_MAX, PASSES, Purchases, kept
from agentnexus.platform.database import Database
from agentnexus.platform.logs import log
from agentnexus.platform.wakeups import Wakeups
from agentnexus.rails.evm.contracts import ContractRefused
from agentnexus.rails.evm.encoding import address
from agentnexus.runtime.supervisor import check_input
from agentnexus.wallets.model import Operation, OperationState, SigningRequest

LOOKS_MAX = 20
POLL_SECONDS = 1.0
AT_ONCE = 16
SETTLE_LEASE = timedelta(seconds=30)
INPUT_KEPT = timedelta(days=1)


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
        self.reading = Reading(database, purchases, clock)
        self._settling = Settling(purchases)
        self._database = database
        self._purchases = purchases
        self._executions = executions
        self._wakeups = wakeups
        self._clock = clock
        self._ids = ids
        self._running: dict[str, asyncio.Task[None]] = {}

    async def list(self, user_id: str) -> Sequence[Right]:
        """What the user bought or was given, by agent and kind, newest first; balances as they were mirrored last."""
        return await self.reading.rights(user_id)

    async def access(self, user_id: str, agent_id: str) -> Access:
        """What may be run now, read from the chain. Raises `NotFound` for somebody who never had a right to it."""
        return (await self.reading.now(user_id, agent_id)).access()

    async def transfer(
        self, user_id: str, agent_id: str, kind: Kind, *, to: str, count: int, key: str, token_id: int | None = None
    ) -> Operation:
        """Pass tokens on to another wallet, once per key: an operation of the user's own wallet, to sign as any other.

        Raises `InvalidInput` (no address, or of what cannot hold tokens), `NotFound` (nothing of that kind), `Conflict`
        (not passed on by this agent's rules, fewer are there, some are under way, another order under the key), and
        what `Wallets.begin` raises.
        """
        gift, market = Gift(kind, address(to, field="to"), count, token_id), self._purchases.acts.market
        name, wallets = f"pass-on:{_checked_key(key)}", self._purchases.acts.wallets
        known = await wallets.asked(user_id, name)
        if known is not None:
            if not gift.is_in(agent_id, known[1]):
                raise Conflict("this key was used for something else", next_step="use a new key")
            return known[0]
        lot = passing(await self.reading.now(user_id, agent_id), agent_id, gift)
        what = "a month" if kind is Kind.PERIOD else f"{count} run{'s' * (count > 1)}"
        call = market.tokens.safe_transfer(lot.held.wallet, gift.receiver, lot.token_id, count)
        title = f"Pass {what} of {lot.purchase.agent_name} on to {gift.receiver}"
        try:
            return await wallets.begin(user_id, [call], key=name, purpose="transfer", title=title)
        except ContractRefused as error:
            if error.error != "ERC1155InvalidReceiver":
                raise
            raise InvalidInput(
                f"{gift.receiver} is a contract that cannot hold runs",
                field="to",
                next_step="give the address of a person's wallet",
            ) from None

    async def signing_request(self, operation: Operation) -> SigningRequest | None:
        """What the owner of a wallet signs to pass something on; None where nothing is to be signed."""
        if operation.state is not OperationState.UNSIGNED:
            return None
        return await self._purchases.acts.wallets.signing_request(operation.user_id, operation.id)

    async def run(self, user_id: str, agent_id: str, value: object, key: str) -> Use:
        """Start a run on what the user bought, once per key.

        It goes on when the caller goes away; `use` tells what became of it. Raises `InvalidInput` (names the field),
        `NotFound` (nothing bought, not for sale), `Conflict` (no run left, or another input under the key).
        """
        known = await self.store.use_of_key(user_id, _checked_key(key))
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
                group.create_task(kept(self._settle(each), use=each.id))
        return len(due)

    async def given(self, user_id: str, use_id: str) -> object:
        """What a run of theirs was given: while it runs, and for a day after it failed; then None."""
        use = await self.store.use(use_id, user_id)
        value: object = json.loads(await self.store.input_of(use.id))
        return value

    async def forget(self) -> None:
        """Delete what runs were given that failed a day ago."""
        await self.store.forget(self._clock.now() - INPUT_KEPT)

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
            owned = await self.reading.owned(user_id, agent_id)
            balances = await self.reading.balances(owned.tokens)
            with contextlib.suppress(asyncpg.DeadlockDetectedError):  # the chain's watcher was at the same rows
                async with self._database.transaction() as connection:
                    if await self.store.lock(connection, user_id, agent_id) != owned.burnt:
                        continue
                    known = await self.store.use_of_key(user_id, key, connection)
                    if known is not None:
                        return known
                    stock = await self.reading.stock(connection, owned, balances)
                    use = self._new(user_id, next_lot(stock, agent_id), key, input_hash(agent_id, value))
                    await self.store.open_use(connection, use, json.dumps(value).encode("ascii"))
                    return use
        raise Unavailable("too many runs end at this moment", next_step="try again")

    def _new(self, user_id: str, lot: Lot, key: str, hashed: str) -> Use:
        now = self._clock.now()
        return Use(
            id=self._ids.new("use"),
            user_id=user_id,
            key=key,
            agent_id=lot.purchase.agent_id,
            purchase_id=lot.purchase.id,
            wallet=lot.held.wallet,
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

    # -- settling ---------------------------------------------------------------------------------------------------

    async def _settle(self, use: Use) -> None:
        """What follows from its end, until it is done."""
        try:
            purchase = await self._purchases.get(None, use.purchase_id)
            transaction = await self._settling.settle(use, purchase)
        except NexusError as error:
            log.warning("entitlements.not_settled", use=use.id, error=error.message)
            await self.store.later(use, self._clock.now() + delay(use.retries))
            return
        burnt = purchase.token_id if purchase.kind is Kind.RUNS else None
        async with self._database.transaction() as connection:
            await self.store.settle(connection, use, transaction, self._clock.now(), token_id=burnt)
        await self._purchases.look(purchase)
        self._wakeups.notify(topic(use.id))

    async def _repeat(self, work: Callable[[], Awaitable[int]]) -> None:
        while True:
            try:
                found = await work()
            except PASSES as error:
                log.warning("entitlements.failed", error=str(error))
                found = 0
            if not found:
                await asyncio.sleep(POLL_SECONDS)


def _checked_key(key: str) -> str:
    if not key or len(key) > KEY_CHARACTERS_MAX or not key.isprintable():
        raise InvalidInput(
            f"this needs a key of at most {KEY_CHARACTERS_MAX} printable characters",
            field="Idempotency-Key",
            next_step="send an Idempotency-Key header",
        )
    return key
