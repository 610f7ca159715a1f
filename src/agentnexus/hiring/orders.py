"""One call of `hire` and what the store knows of it: what was asked, who was tried, whose answer or error stands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from agentnexus.core.errors import Conflict, InvalidInput, NexusError, PaymentUnknown, Unavailable
from agentnexus.core.offers import Need
from agentnexus.hiring.attempt import DATABASE_ERRORS, OnUpdate, OwnFault
from agentnexus.hiring.choose import Policy
from agentnexus.hiring.failures import error_from_text
from agentnexus.hiring.holds import PAID
from agentnexus.hiring.jobs import Attempt, HireRow
from agentnexus.hiring.match import Buyer
from agentnexus.hiring.model import Hired, RankedOffer

HASH_IN_THREAD_CHARACTERS = 1 << 18
OUTAGES = (Unavailable, OSError, *DATABASE_ERRORS)


@dataclass(frozen=True, slots=True)
class Order:
    """One call of `hire`, as asked."""

    key: str
    need: Need
    need_hash: str
    budget_id: str
    user_id: str
    task: str
    buyer: Buyer
    prefer: tuple[str, ...]
    fallback: int
    policy: Policy
    session: str | None
    deadline: float | None
    on_update: OnUpdate | None


def check_key(key: str) -> None:
    """Raises `InvalidInput`."""
    if not key or not key.isprintable() or len(key) > 200:
        raise InvalidInput("a hire needs a printable key of at most 200 characters", field="key")


@contextmanager
def cut_off(key: str, errors: tuple[type[Exception], ...] = OUTAGES) -> Iterator[None]:
    """Turn a fault of ours into "not known": what was begun goes on under its key, and only there."""
    try:
        yield
    except errors as error:
        if isinstance(error.__cause__, OwnFault):
            raise
        raise PaymentUnknown(
            f"the hire was cut off, and its seller may have been paid: {error}",
            next_step="call again with the same key: it goes on with the same payment",
            hire=key,
        ) from error


async def need_hash(need: Need) -> str:
    """Hash of a need whose input is JSON; raises `InvalidInput` for anything else."""

    def check_and_hash() -> str:
        try:
            json.dumps(need.input, allow_nan=False)
            return need.hash()
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidInput(
                f"the input is not JSON: {error}"[:300], field="input", next_step="send JSON values only"
            ) from error

    large = any(isinstance(value, str) and len(value) > HASH_IN_THREAD_CHARACTERS for value in need.input.values())
    return await asyncio.to_thread(check_and_hash) if large else check_and_hash()


def stored_answer(hire: HireRow | None, order: Order) -> Hired | None:
    """The answer of a hire that has ended; raises its error when it failed, `Conflict` for another need."""
    if hire is None:
        return None
    if (hire.need_hash, hire.user_id, hire.budget_id) != (order.need_hash, order.user_id, order.budget_id):
        raise Conflict(
            "this key was used for another hire",
            next_step="use one key per hire, with the same need",
            key=order.key,
        )
    if hire.state == "failed" and hire.error is not None:
        raise error_from_text(hire.error)
    if hire.state == "done" and hire.output is not None:
        return Hired(hire.receipts[-1], json.loads(hire.output), hire.receipts, resumed=True)
    return None


def untried(offers: Sequence[RankedOffer], attempts: Sequence[Attempt]) -> list[RankedOffer]:
    """Offers not tried yet, and never the seller that has just failed; an attempt that we cut off ourselves is none."""
    failed = [attempt for attempt in attempts if attempt.state != "interrupted"]
    tried = {attempt.offer.id for attempt in failed}
    last = failed[-1].offer.seller.key if failed else None
    return [ranked for ranked in offers if ranked.offer.id not in tried and ranked.seller != last]


def liked(order: Order, left: Sequence[RankedOffer]) -> Sequence[str]:
    """Whom to take first: those the caller named, and where none of them is left, those on the user's list."""
    named = any(ranked.seller in order.prefer for ranked in left)
    return order.prefer if named else order.buyer.preferred


def stored_error(attempts: Sequence[Attempt]) -> NexusError | None:
    """The error of the last attempt, from its receipt: a crash came between writing it and trying the next."""
    receipt = attempts[-1].receipt if attempts else None
    if receipt is None or receipt.error is None:
        return None
    return error_from_text(json.dumps(receipt.error))


def was_paid(attempt: Attempt) -> bool:
    """Whether its receipt shows a payment that the seller has."""
    return attempt.receipt is not None and any(payment.state in PAID for payment in attempt.receipt.payments)


def attempt_json(attempt: Attempt) -> dict[str, object]:
    """``{seller, market, state, receipt, error}`` for the details of an error."""
    return {
        "seller": attempt.offer.seller.name or attempt.offer.seller.key,
        "market": attempt.offer.market,
        "state": attempt.state,
        "receipt": None if attempt.receipt is None else attempt.receipt.id,
        "error": None if attempt.receipt is None else attempt.receipt.error,
    }
