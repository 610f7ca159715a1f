"""Follows deals on the chain: each event is booked once, and has its purchase looked at; what is undone is undone."""

from __future__ import annotations

from dataclasses import dataclass

from agentnexus.core.errors import Conflict, NotFound
from agentnexus.core.money import Money
from agentnexus.core.ports import Clock
from agentnexus.ledger.model import ReservationState, TransferKind
from agentnexus.marketplace.entitlements.holdings import Passed, pass_on, take_back
from agentnexus.marketplace.purchases.acts import seller_account
from agentnexus.marketplace.purchases.model import Purchase
from agentnexus.marketplace.purchases.service import DUE, Purchases
from agentnexus.platform.database import Connection
from agentnexus.platform.logs import log
from agentnexus.platform.wakeups import Wakeups
from agentnexus.rails.evm.encoding import ZERO_ADDRESS
from agentnexus.rails.evm.indexer.indexer import Indexer
from agentnexus.rails.evm.indexer.model import Change, ChangeKind

HANDLER = "purchases"
DEALS = ("Deposited", "Released", "Refunded", "Expired", "Resolved")
TOKENS = ("TransferSingle", "TransferBatch", "Revoked")


@dataclass(frozen=True, slots=True)
class _Leg:
    """Money that an event moved, between accounts of the ledger."""

    debit: str
    credit: str
    amount: int
    kind: TransferKind


class Mirror:
    """The handler of the contracts' indexer."""

    def __init__(self, purchases: Purchases, escrow: str, wakeups: Wakeups, clock: Clock) -> None:
        self._store = purchases.store
        self._books = purchases.acts.books
        self._escrow = escrow
        self._entitlements = purchases.acts.market.tokens.address
        self._wakeups = wakeups
        self._clock = clock

    def follow(self, indexer: Indexer) -> None:
        """Before it runs, in every process that may be told."""
        indexer.subscribe(HANDLER, self.told, [*DEALS, *TOKENS])

    async def told(self, connection: Connection, change: Change) -> None:
        """Book it, and have the purchase looked at. Events of deals that nobody bought here are not ours."""
        if change.event.contract == self._entitlements:
            await self._tokens(connection, change)
        elif change.event.contract == self._escrow:
            purchase = await self._store.poke(connection, str(change.event.arguments["id"]), self._clock.now())
            if purchase is not None:
                await self._book(connection, purchase, change)
                self._wakeups.notify(DUE)

    async def _tokens(self, connection: Connection, change: Change) -> None:
        """Somebody's balance changed, by us or by themselves."""
        told = change.event.arguments
        holders = [str(told[name]) for name in ("from", "to", "holder") if name in told]
        await self._pass_on(connection, change)
        if await self._store.poke_holders(connection, holders, self._clock.now()):
            self._wakeups.notify(DUE)

    async def _pass_on(self, connection: Connection, change: Change) -> None:
        """What backs tokens goes with them; undone newest first, as events are."""
        event = change.event
        where = f"{event.block.hash}:{event.transaction}:{event.log_index}"
        for number, passed in enumerate(_passed(change)):
            if change.kind is ChangeKind.REVERTED:
                await take_back(connection, f"{where}:{number}")
            else:
                await pass_on(connection, f"{where}:{number}", passed)

    async def _book(self, connection: Connection, purchase: Purchase, change: Change) -> None:
        opens = change.event.event == "Deposited" and change.kind is ChangeKind.APPLIED
        if opens and purchase.booked_by in ("", change.key):
            is_captured = await self._capture(purchase)
            await self._store.booked(connection, purchase.id, change.key)
            if is_captured:
                return
        for number, leg in enumerate(_legs(purchase, change)):
            if leg.amount:
                await self._move(purchase, change, f"{change.key}:{number}", leg)

    async def _move(self, purchase: Purchase, change: Change, key: str, leg: _Leg) -> None:
        """What comes back to the buyer, their budget has back; where that is undone, it has spent it again."""
        debit, credit = (leg.debit, leg.credit)
        if change.kind is ChangeKind.REVERTED:
            debit, credit = credit, debit
        money = Money(purchase.price.asset, leg.amount)
        facts = {"correlation": purchase.id, "memo": change.event.transaction}
        if purchase.wallet_account in (debit, credit):
            try:
                await self._books.transfer(
                    key, debit, credit, money, leg.kind, reservation=purchase.reservation, **facts
                )
                return
            except (Conflict, NotFound) as error:  # paid past the budget: signed for after it was given up
                log.info("purchases.past_the_budget", purchase=purchase.id, change=change.key, error=error.message)
        await self._books.transfer(key, debit, credit, money, leg.kind, **facts)

    async def _capture(self, purchase: Purchase) -> bool:
        """Post what was set aside. False when it had been given back: then it is booked like any other money."""
        try:
            reservation = await self._books.reservation(purchase.reservation)
            if reservation.state is ReservationState.VOIDED:
                return False
            await self._books.capture(purchase.reservation)
        except NotFound:
            return False
        return True


def _legs(purchase: Purchase, change: Change) -> list[_Leg]:
    """What an event moved."""
    deal, buyer, told = purchase.account, purchase.wallet_account, change.event.arguments
    fees = f"fees:{purchase.price.asset.network}"

    def amount(name: str) -> int:
        value = told.get(name, 0)
        assert isinstance(value, int), "amounts are numbers"
        return value

    if change.event.event == "Deposited":
        return [_Leg(buyer, deal, purchase.amount.atomic, TransferKind.MOVE)]
    return [
        _Leg(deal, seller_account(purchase), amount("toSeller"), TransferKind.MOVE),
        _Leg(deal, fees, amount("fee"), TransferKind.FEE),
        _Leg(deal, buyer, amount("toBuyer"), TransferKind.REFUND),
    ]


def _passed(change: Change) -> list[Passed]:
    """Nothing where tokens were minted or burnt."""
    told = change.event.arguments
    giver, receiver = str(told.get("from", ZERO_ADDRESS)), str(told.get("to", ZERO_ADDRESS))
    if ZERO_ADDRESS in (giver, receiver) or giver == receiver:
        return []
    ids, values = (told["ids"], told["values"]) if "ids" in told else ([told["id"]], [told["value"]])
    assert isinstance(ids, list) and isinstance(values, list), "the event has two lists"
    moved = [(int(str(each)), int(str(count))) for each, count in zip(ids, values, strict=True)]
    return [Passed(giver, receiver, token_id, count) for token_id, count in moved if count]
