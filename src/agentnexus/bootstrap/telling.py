"""What happens when something has happened: one worker reads the outbox and tells logs and processes.

An event is told at least once, in the order of commits; whoever is told must bear hearing it twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from agentnexus.core.events import Event, EventName
from agentnexus.hiring.cache import OfferCache
from agentnexus.platform.database import Database
from agentnexus.platform.logs import log
from agentnexus.platform.outbox import OutboxReader
from agentnexus.platform.wakeups import Wakeups

READER = "worker"
READ_SECONDS = 0.5
CATALOGUE = "catalogue"
Subscriber = Callable[[Event], Awaitable[None]]


async def note(event: Event) -> None:
    """A line in the log for everybody who follows it."""
    log.info(str(event.name), subject=event.subject, **event.data)


async def alarm(event: Event) -> None:
    """The books and the network differ: a person must look."""
    log.error(str(event.name), case=event.subject, **{k: v for k, v in event.data.items() if k in ALARMING})


ALARMING = ("kind", "subject", "difference")


def subscribers(wakeups: Wakeups) -> Mapping[EventName, Sequence[Subscriber]]:
    """Who hears of what. An event that is not here is of no interest to anybody."""

    async def wake_catalogue(_event: Event) -> None:
        wakeups.notify(CATALOGUE)

    return {
        EventName.PAYMENT_SETTLED: [note],
        EventName.PAYMENT_REFUNDED: [note],
        EventName.LEDGER_DIFFERENCE: [alarm],
        EventName.LISTING_CHANGED: [note, wake_catalogue],
    }


async def tell(database: Database, wakeups: Wakeups) -> None:
    """Read for ever; any number of workers may, one does at a time."""
    heard = subscribers(wakeups)

    async def deliver(event: Event) -> None:
        for subscriber in heard.get(event.name, ()):
            await subscriber(event)

    await OutboxReader(database, READER).follow(deliver, READ_SECONDS)


async def forget_offers(wakeups: Wakeups, offers: OfferCache) -> None:
    """For ever: after a change of the catalogue the next question asks the markets again, in every process."""
    changed = wakeups.watch(CATALOGUE)
    while True:
        await changed.wait()
        changed = wakeups.watch(CATALOGUE)  # before clearing, so that no change is missed
        await offers.clear()
