"""`Escrow`: open a prepaid account, claim deposits, work from the balance, withdraw the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agentnexus.core.canonical import idempotency_key
from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput, NotAllowed, NotFound
from agentnexus.core.money import Asset, Money
from agentnexus.core.ports import Clock
from agentnexus.escrow.holds import Ended, Holds
from agentnexus.escrow.model import (
    Account,
    Entry,
    EntryKind,
    EscrowBalance,
    Payout,
    charged_account,
    outside_account,
    ownership_message,
)
from agentnexus.escrow.ports import SeenDeposit, Treasury
from agentnexus.escrow.store import EscrowStore
from agentnexus.escrow.withdrawals import Withdrawals
from agentnexus.ledger.door import Door
from agentnexus.platform.database import Database

HISTORY_MAX = 200
KEY_MAX = 200
LEAST_DIGITS = 2  # 0.01 of an asset: the node pays each transfer's fee, so crumbs one by one would eat up its SOL
CLAIM_GRACE = timedelta(seconds=30)
CLAIMS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What the treasury must hold, and what it holds.

    Args:
        expected: what the books say, and what arrived and nobody claimed yet.
        unclaimed: that part of it.
        leaving: withdrawals without an end, which may have left the chain and not yet the books.
    """

    asset: Asset
    expected: Money
    observed: Money
    unclaimed: Money
    leaving: Money

    @property
    def agrees(self) -> bool:
        return self.expected - self.leaving <= self.observed <= self.expected


class Escrow:
    """The door of this room. Any number of processes may have one on the same database and ledger.

    Args:
        require_proof: whether a wallet must sign that it belongs to the user; only development may do without.
    """

    def __init__(
        self, database: Database, books: Door, treasury: Treasury, clock: Clock, *, require_proof: bool = True
    ) -> None:
        self.treasury = treasury
        self._store = EscrowStore(database)
        self._books = books
        self._clock = clock
        self.require_proof = require_proof
        self.holds = Holds(self._store, books, clock)
        self._withdrawals = Withdrawals(self._store, books, treasury, clock)

    # -- accounts ---------------------------------------------------------------------------------------------------

    async def create(self, user_id: str, wallet: str, proof: str = "") -> Account:
        """The user's account for deposits from `wallet`; again with the same wallet changes nothing.

        Args:
            proof: signature of `ownership_message` by the wallet.

        Raises `InvalidInput` for what is no address, `NotAllowed` without a valid proof, `Conflict` when the user or
        the wallet has another account.
        """
        if not self.treasury.is_wallet(wallet):
            raise InvalidInput(
                "this is no wallet's address on this network", field="userWallet", next_step="copy it from the wallet"
            )
        message = ownership_message(user_id, wallet)
        if (proof or self.require_proof) and not self.treasury.proves(wallet, message, proof):
            raise NotAllowed(
                "the wallet has not shown that it is yours",
                next_step="sign details.to_sign with the wallet and send the signature",
                to_sign=message,
            )
        made = Account(user_id, wallet, self.treasury.network, self._clock.now())
        account = await self._store.open_account(made)
        if account is None:
            raise Conflict("this wallet belongs to another account", next_step="use a wallet of your own")
        if account.wallet != wallet:
            raise Conflict(
                f"your account is bound to {account.wallet}",
                next_step="withdraw first and ask the operator to close it",
            )
        return account

    async def account(self, user_id: str) -> Account:
        """Raises `NotFound`."""
        found = await self._store.account(user_id)
        if found is None:
            raise NotFound("there is no prepaid account yet", next_step="create one with your wallet's address")
        return found

    async def has_account(self, user_id: str) -> bool:
        return await self._store.account(user_id) is not None

    async def balance(self, user_id: str, asset: Asset) -> EscrowBalance:
        """Raises `NotFound`."""
        account = await self.account(user_id)
        balance = await self._books.balance(account.ledger, asset)
        return EscrowBalance(balance.available, await self.holds.reserved(user_id, asset) + balance.reserved)

    async def history(self, user_id: str, limit: int = 50, before: int | None = None) -> tuple[Sequence[Entry], int]:
        """Newest first, from the one before a position, and how many there are in all. Raises `NotFound`."""
        await self.account(user_id)
        return await self._store.history(user_id, max(1, min(limit, HISTORY_MAX)), before)

    async def spent(self, user_id: str, asset: Asset) -> Money:
        """What was charged so far."""
        charged = await self._store.charged(user_id)
        return next((money for money in charged if money.asset.caip19 == asset.caip19), asset.zero())

    async def last_top_up(self, user_id: str) -> datetime | None:
        return await self._store.last_top_up(user_id)

    # -- deposits ---------------------------------------------------------------------------------------------------

    async def deposit(self, user_id: str, signature: str, amount: str | None = None) -> SeenDeposit:
        """Credit a transfer that the user's wallet made to the treasury, once.

        Args:
            amount: what the user says it was, decimal text; another amount on the chain is refused.

        Raises `InvalidInput` with ``details.reason``, `Conflict` when it was used before or is not final yet.
        """
        account = await self.account(user_id)
        network = self.treasury.network
        if not signature.isascii() or not signature.isprintable():
            raise InvalidInput(
                f"not a signature: {signature[:100]!r}", next_step="copy it from your wallet", reason="malformed"
            )
        if await self._store.claimed(network, signature):
            raise _used(signature)
        seen = await self.treasury.deposit(signature, account.wallet)
        if amount is not None and seen.amount.asset.parse(amount) != seen.amount:
            raise InvalidInput(
                f"the transaction carries {seen.amount}, not {amount}",
                field="amount",
                next_step="claim the amount that was sent, or leave it out",
                reason="wrong_amount",
            )
        owner, credited = await self._store.claim(network, user_id, seen, self._clock.now())
        if owner != user_id or credited:
            raise _used(signature)
        # From here on only this user can be credited; a crash is mended by claiming again, or by `finish_claims`.
        if not await self._credit(account, signature, seen.amount):
            raise _used(signature)
        return seen

    async def _credit(self, account: Account, signature: str, amount: Money) -> bool:
        """Whether this call credited it; every step may be repeated."""
        network = self.treasury.network
        key = f"escrow-deposit:{network}:{signature}"
        await self._books.deposit(key, account.ledger, amount, source=outside_account(network), memo=signature)
        entry = Entry(EntryKind.DEPOSIT, amount, signature, "", self._clock.now())
        await self._store.note(f"deposit:{network}:{signature}", account.user_id, entry)
        return await self._store.credit(network, signature, self._clock.now())

    async def finish_claims(self) -> int:
        """Credit what was verified and claimed for a user when a crash came. How many."""
        finished = 0
        before = self._clock.now() - CLAIM_GRACE
        for user_id, signature, amount in await self._store.open_claims(self.treasury.network, before, CLAIMS_AT_ONCE):
            finished += await self._credit(await self.account(user_id), signature, amount)
        return finished

    # -- withdrawals ------------------------------------------------------------------------------------------------

    async def withdraw(self, user_id: str, amount: Money, key: str, destination: str | None = None) -> str:
        """Send available money to the user's own wallet; the transaction's signature. Repeatable by `key`.

        Raises `NotAllowed` for another destination, `InsufficientFunds`, `PaymentFailed`, `PaymentUnknown`.
        """
        account = await self.account(user_id)
        if destination is not None and destination != account.wallet:
            raise NotAllowed(
                "money goes back only to the wallet of the account",
                next_step=f"withdraw to {account.wallet}",
                field="destination",
            )
        if amount.atomic <= 0:
            raise InvalidInput(f"cannot withdraw {amount}", field="amount", next_step="withdraw more than zero")
        if not key or not key.isprintable() or len(key) > KEY_MAX:
            raise InvalidInput("a withdrawal needs a printable key", field="key", next_step="send an Idempotency-Key")
        row_id = idempotency_key("withdrawal", user_id, key)
        least = Money(amount.asset, 10 ** max(amount.asset.decimals - LEAST_DIGITS, 0))
        if amount < least and await self._store.withdrawal(row_id) is None:
            available = (await self._books.balance(account.ledger, amount.asset)).available
            if amount < available:
                raise InvalidInput(
                    f"{amount} is less than the {least} that is worth the network's fee",
                    field="amount",
                    next_step="withdraw more at once, or everything",
                )
        return await self._withdrawals.send(row_id, account, amount)

    # -- upkeep -----------------------------------------------------------------------------------------------------

    async def repair(self, ended: Ended) -> tuple[int, int]:
        """One round: finish open withdrawals, release holds of work that has ended. How many of each."""
        return await self._withdrawals.finish_open(), await self.holds.release_ended(ended)

    async def reconcile(self) -> list[Reconciliation]:
        """Books against chain, per asset."""
        return [await self._compared(asset) for asset in self.treasury.assets]

    async def _compared(self, asset: Asset) -> Reconciliation:
        """What comes in while this looks may show as a difference: only one that stays is real."""
        arrived = await self.treasury.arrived(asset)
        observed = await self.treasury.rail.balance(asset)
        unclaimed = arrived - await self._store.credited_in_all(asset)
        leaving = await self._store.leaving(asset)
        outside = await self._books.balance(outside_account(asset.network), asset)
        return Reconciliation(asset, unclaimed - outside.posted, observed, unclaimed, leaving)

    async def book_payout(self, signature: str) -> Payout:
        """Book what the operator took out of the treasury, as a withdrawal of the node's own income; once.

        Raises what `Treasury.departure` raises, `Conflict` for a withdrawal of a user, which is booked already, and
        `InsufficientFunds` when it is more than the income: then users' money was taken.
        """
        seen = await self.treasury.departure(signature)
        if seen.key is not None and await self._store.withdrawal(seen.key) is not None:
            raise Conflict(
                "that is a user's withdrawal and booked already",
                next_step="give the signature of your own transfer",
                signature=seen.signature,
            )
        account, asset = charged_account(seen.amount.asset), seen.amount.asset
        try:
            transfer = await self._books.withdraw(
                f"payout:{asset.network}:{seen.signature}",
                account,
                seen.amount,
                target=outside_account(asset.network),
                correlation=seen.signature,
                memo=f"to {seen.receiver or 'several receivers'}",
            )
        except InsufficientFunds as error:
            available = (await self._books.balance(account, asset)).available
            raise InsufficientFunds(
                f"{seen.amount} left the treasury and the node's income is {available}: the rest is its users' money",
                next_step=f"send at least {seen.amount - available} back to {self.treasury.address}",
                account=account,
            ) from error
        left = (await self._books.balance(account, asset)).posted
        return Payout(seen.signature, seen.receiver, seen.amount, transfer.at, left)

    async def unclaimed(self, asset: Asset, limit: int = HISTORY_MAX) -> list[SeenDeposit]:
        """Of the newest `limit` transfers to the treasury those that were credited to nobody."""
        found = await self.treasury.arrivals(asset, limit)
        credited = await self._store.credited(self.treasury.network, [each.signature for each in found])
        return [each for each in found if each.signature not in credited]


def _used(signature: str) -> Conflict:
    return Conflict(
        "this transaction was credited before",
        next_step="look at the account's history",
        reason="reused",
        signature=signature,
    )
