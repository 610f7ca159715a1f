"""Bringing signed operations on chain, and noting what became of them: the chain is asked before all decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg

from agentnexus.core.errors import NexusError, NotFound, PaymentFailed, PaymentUnknown
from agentnexus.core.ports import Clock
from agentnexus.platform.logs import log
from agentnexus.rails.evm.contracts.refusals import ContractRefused
from agentnexus.rails.evm.errors import Reverted
from agentnexus.rails.evm.userops.bundler import Bundler, UserOperationReceipt
from agentnexus.wallets.metrics import count, count_mined
from agentnexus.wallets.model import GasPayer, OperationState, Wallet, WalletKind
from agentnexus.wallets.outcome import Outcomes
from agentnexus.wallets.store import UNSIGNED_TIME, Stored, WalletStore

RENEWALS_MAX = 3
ENDINGS_MAX = 3  # tries to use the nonce up of what pays its own gas, after those
# What its owner gave up may still be brought to the chain by whoever has its bytes: for so long that is looked for.
WATCHED_TIME, WATCH_AGAIN = timedelta(days=1), timedelta(minutes=10)
KEEP_SECONDS = 2.0
LOOK_AGAIN = timedelta(seconds=10)
AT_ONCE = 50
_GLANCE_SECONDS = 0.2
_PAUSE_SECONDS, _PAUSE_SECONDS_MAX = 0.1, 2.0
_STILL_THERE = (
    "nothing of it has happened so far; as it pays its own gas it has no end on the chain, so whoever kept its signed"
    " bytes could still bring it there while the account can pay: look at the history before you do it again"
)
# EntryPoint's codes: the account exists, the nonce is used.
_PENDING = ("AA10", "AA25")


class Sending:
    """What `Wallets` does with operations that are signed.

    Args:
        replace: makes another signed form of an operation of ours under the same nonce, when told so one that does
            nothing; None when it cannot.
    """

    def __init__(
        self,
        store: WalletStore,
        bundler: Bundler,
        outcomes: Outcomes,
        replace: Callable[[Wallet, Stored, bool], Awaitable[Stored | None]],
        clock: Clock,
    ) -> None:
        self._store = store
        self._bundler = bundler
        self._outcomes = outcomes
        self._replace = replace
        self._clock = clock

    async def send(self, wallet: Wallet, stored: Stored) -> Stored:
        """Hand it to the bundler; when that refuses for good, see what the chain has. Else it is tried again later."""
        assert stored.body is not None
        try:
            await self._bundler.send(stored.body)
        except PaymentFailed as refused:
            return await self._refused(wallet, stored, refused)
        except NexusError as error:
            log.warning("wallets.not_sent", operation=stored.operation.id, reason=error.message)
        return stored

    async def settle(self, wallet: Wallet, stored: Stored, timeout_seconds: float) -> Stored:
        """Raises `PaymentUnknown` when time is up before the chain has an answer."""
        try:
            async with asyncio.timeout(timeout_seconds):
                pause = _PAUSE_SECONDS
                while stored.operation.state is OperationState.SIGNED:
                    waited = await self._waited(wallet, stored, timeout_seconds)
                    if _waits_still(stored, waited):
                        await asyncio.sleep(pause)
                        pause = min(2 * pause, _PAUSE_SECONDS_MAX)
                    stored = waited
        except TimeoutError:
            raise PaymentUnknown(
                f"operation {stored.operation.id} was not mined within {timeout_seconds:.0f} s",
                next_step="look it up again later; it goes on by itself",
                operation=stored.operation.id,
            ) from None
        final = stored.operation.state.final
        return await self.resolve(wallet, stored) if final and not stored.closed else stored

    async def _waited(self, wallet: Wallet, stored: Stored, timeout_seconds: float) -> Stored:
        """One wait for the bundler's receipt."""
        try:
            receipt = await self._bundler.receipt(stored.operation.hash, timeout_seconds=timeout_seconds)
        except NotFound:  # a crash between keeping it and sending it, or another process is about to send it
            return await self._again(await self.send(wallet, stored))
        except (PaymentFailed, PaymentUnknown) as error:
            return await self.resolve(wallet, stored, error if isinstance(error, PaymentFailed) else None)
        return await self._note(wallet, stored, receipt)

    async def resolve(self, wallet: Wallet, stored: Stored, refused: PaymentFailed | None = None) -> Stored:
        """What the chain has of it, noted; renewed or rejected when it has nothing, and never will."""
        operation = stored.operation
        until = operation.valid_until
        lapsed = until is None or (await self._outcomes.lapsed(until) and not await self._on_its_way(stored))
        receipt = await self._outcomes.mined(operation.id, wallet.address, stored.from_block)
        if receipt is not None:
            return await self._note(wallet, stored, receipt)
        if operation.state is OperationState.SIGNED:
            return await self._not_mined(wallet, stored, refused, lapsed=lapsed)
        if operation.state is OperationState.UNSIGNED:
            forgotten = lapsed and self._clock.now() >= operation.updated_at + UNSIGNED_TIME
            return await self._reject(wallet, stored, _not_signed()) if forgotten else stored
        if operation.state is OperationState.REJECTED and not stored.ending:
            await self._watch(stored, lapsed=lapsed)
            return stored
        log.warning("wallets.reorganised", operation=operation.id, transaction=operation.transaction)
        await self._store.unmined(operation.id, self._clock.now())
        return await self._again(stored)

    async def _not_mined(
        self, wallet: Wallet, stored: Stored, refused: PaymentFailed | None, *, lapsed: bool
    ) -> Stored:
        """What was signed goes on, begins anew, or is over."""
        if wallet.kind is not WalletKind.SERVER:
            return await self._over(wallet, stored, refused, lapsed=lapsed)
        if not lapsed and (refused is None or await self._is_pending(stored, refused)):
            return stored
        return await self._replaced(wallet, stored, refused or _too_late())

    async def keep(self, wallet_of: Callable[[Stored], Awaitable[Wallet]]) -> None:
        """For ever; a round that fails is logged and done again."""
        while True:
            try:
                await self.keep_once(wallet_of)
            except (NexusError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("wallets.keep_failed", reason=str(error))
            await asyncio.sleep(KEEP_SECONDS)

    async def keep_once(self, wallet_of: Callable[[Stored], Awaitable[Wallet]]) -> int:
        """Look at what is due; how many those were. One that cannot be looked at does not keep the others waiting."""
        now = self._clock.now()
        due = await self._store.due(now, now + LOOK_AGAIN, AT_ONCE)
        for each in due:
            try:
                wallet = await wallet_of(each)
                looked = await self.resolve(wallet, each)
                if looked.operation.state is OperationState.SIGNED:
                    await self.send(wallet, looked)
            except NexusError as error:
                log.warning("wallets.not_kept", operation=each.operation.id, reason=error.message)
        return len(due)

    async def _refused(self, wallet: Wallet, stored: Stored, refused: PaymentFailed) -> Stored:
        """The bundler will not have it. Another process may have sent it meanwhile, which refuses it here."""
        assert stored.body is not None
        if isinstance(refused, Reverted):
            try:
                await self._bundler.send(stored.body)
                return stored
            except NexusError as error:
                log.info("wallets.refused", operation=stored.operation.id, reason=error.message)
        return await self.resolve(wallet, stored, refused if isinstance(refused, Reverted) else None)

    async def _replaced(self, wallet: Wallet, stored: Stored, error: PaymentFailed) -> Stored:
        """Another form under the same nonce. What has no end on the chain gets an empty one when its turns are over."""
        again = None
        if stored.renewals < RENEWALS_MAX and not stored.ending:
            again = await self._replace(wallet, stored, False)
        if again is None and _is_endless(stored) and stored.renewals < RENEWALS_MAX + ENDINGS_MAX:
            await self._store.refused(stored.operation.id, stored.operation.hash, error.to_json(), self._clock.now())
            again = await self._replace(wallet, stored, True)
        if again is None:
            return await self._reject(wallet, stored, error)
        return again if again.operation.hash == stored.operation.hash else await self.send(wallet, again)

    async def _watch(self, stored: Stored, *, lapsed: bool) -> None:
        """Nobody has brought to the chain what was given up."""
        operation, now = stored.operation, self._clock.now()
        if operation.gas is GasPayer.ACCOUNT:
            lapsed = now >= operation.updated_at + WATCHED_TIME
        await self._store.look_later(operation.id, None if lapsed else now + WATCH_AGAIN)

    async def _on_its_way(self, stored: Stored) -> bool:
        """Whether our own bundler may still bring what has no end on the chain: an operation that pays its own gas."""
        if stored.operation.gas is not GasPayer.ACCOUNT or stored.operation.state is not OperationState.SIGNED:
            return False
        try:
            await self._bundler.receipt(stored.operation.hash, timeout_seconds=_GLANCE_SECONDS)
        except PaymentUnknown:
            return True
        except (NotFound, PaymentFailed):
            return False
        return False  # it was mined, as the chain will say

    async def _is_pending(self, stored: Stored, refused: PaymentFailed) -> bool:
        """Refused for what is not in a block yet: this operation itself, or another one that makes the account."""
        if not isinstance(refused, ContractRefused) or refused.code_name not in _PENDING:
            return False
        return not await self._outcomes.outdated(stored.body)

    async def _over(self, wallet: Wallet, stored: Stored, refused: PaymentFailed | None, *, lapsed: bool) -> Stored:
        """What its owner signed. They may bring it to the chain by themselves until it is too late."""
        operation, now = stored.operation, self._clock.now()
        if lapsed:
            return await self._reject(wallet, stored, refused or _too_late())
        if refused is None:
            return stored
        if await self._outcomes.outdated(stored.body):
            await self._store.unsigned(operation.id, operation.hash, now)
        else:
            await self._store.refused(operation.id, operation.hash, refused.to_json(), now)
        return await self._again(stored)

    async def _note(self, wallet: Wallet, stored: Stored, receipt: UserOperationReceipt) -> Stored:
        error = None if receipt.succeeded else _failure(receipt).to_json()
        closed = await self._outcomes.is_deep(receipt.block_number)
        now = self._clock.now()
        noted, is_news = await self._store.mined(
            stored.operation.id, receipt, error=error, closed=closed, now=now, look_at=now + LOOK_AGAIN
        )
        if is_news:
            count_mined(wallet, stored.operation, noted.operation)
            log.info("wallets.mined", operation=stored.operation.id, state=str(noted.operation.state))
        return noted

    async def _reject(self, wallet: Wallet, stored: Stored, error: NexusError) -> Stored:
        operation, now = stored.operation, self._clock.now()
        endless = operation.state is OperationState.SIGNED and _is_endless(stored)
        # What the bundler said first tells more than that it is too late.
        why = dict(operation.error or (_not_in_time() if endless else error).to_json())
        if endless:
            why["next_step"] = _STILL_THERE
        look_at = now + WATCH_AGAIN if endless else None
        rejected = await self._store.rejected(operation, why, now, look_at)
        if rejected is None:
            return await self._again(stored)
        count(wallet, rejected.operation)
        log.info("wallets.rejected", operation=operation.id, reason=why["message"])
        return rejected

    async def _again(self, stored: Stored) -> Stored:
        return await self._store.find(stored.operation.id) or stored


def _is_endless(stored: Stored) -> bool:
    """An operation that pays its own gas: nothing in it says until when it is good."""
    return stored.operation.gas is GasPayer.ACCOUNT or bool(stored.ending)


def _waits_still(before: Stored, now: Stored) -> bool:
    """Nothing was found out: the same bytes are on their way."""
    return now.operation.state is OperationState.SIGNED and now.operation.hash == before.operation.hash


def _failure(receipt: UserOperationReceipt) -> PaymentFailed:
    return receipt.reason or PaymentFailed(
        "the calls failed without giving a reason; nothing of them happened",
        next_step="check what the called contracts need, and begin anew",
    )


def _too_late() -> PaymentFailed:
    return PaymentFailed(
        "it was not mined while it was good, and never will be",
        next_step="nothing happened: begin it again with a new key",
    )


def _not_in_time() -> PaymentFailed:
    return PaymentFailed("it was not mined in time, and this node sends it no more")


def _not_signed() -> PaymentFailed:
    return PaymentFailed("nobody signed it in time", next_step="nothing happened: begin it again with a new key")
