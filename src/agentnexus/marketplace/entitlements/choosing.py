"""From which purchase a run is taken, and which tokens may be passed on; with the refusals. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentnexus.core.errors import Conflict, InvalidInput, NotFound
from agentnexus.marketplace.entitlements.stock import Lot, Stock
from agentnexus.marketplace.entitlements.store import no_right
from agentnexus.marketplace.purchases.kinds import Kind, agent_class, class_of
from agentnexus.rails.evm.contracts import Call
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, word

# Arguments of safeTransferFrom(from, to, id, amount, data), after its selector.
_TO, _TOKEN, _COUNT = slice(36, 68), slice(68, 100), slice(100, 132)


def next_lot(stock: Stock, agent_id: str) -> Lot:
    """What the next run is taken from. Raises `NotFound` (nothing bought), `Conflict` (used up, under way, not yet)."""
    usable = stock.usable
    if usable:
        return usable[0]
    for lot in stock.lots:
        period = lot.purchase.period
        if period is None or not lot.purchase.is_there or not lot.held.count or period.ends_at <= stock.now:
            continue
        if stock.now < period.starts_at:
            raise Conflict(
                f"your month of {agent_id} begins on {period.starts_at:%Y-%m-%d %H:%M} UTC",
                next_step="wait until then, or buy runs",
            )
        if not lot.free:
            raise Conflict(
                f"all {lot.purchase.runs_max} runs of this month of {agent_id} are used",
                next_step=f"buy runs, or wait for the next month: {period.ends_at:%Y-%m-%d}",
            )
    if not stock.under_way:
        raise no_right(agent_id)
    raise Conflict(
        f"the {stock.under_way} runs you have left of {agent_id} are all under way",
        next_step="wait until one has ended, or buy more",
        under_way=stock.under_way,
    )


@dataclass(frozen=True, slots=True)
class Gift:
    """What is passed on to whom. `token_id`: which month; the one that ends first by default."""

    kind: Kind
    receiver: str
    count: int
    token_id: int | None = None

    def is_in(self, agent_id: str, calls: Sequence[Call]) -> bool:
        """Whether an operation of these calls passes that on."""
        data = calls[0].data if len(calls) == 1 else b""
        receiver, token, count = data[_TO], int.from_bytes(data[_TOKEN], "big"), data[_COUNT]
        same = (receiver, count) == (word(self.receiver), word(self.count))
        return same and class_of(token) == agent_class(agent_id, self.kind, transferable=True)


def passing(stock: Stock, agent_id: str, gift: Gift) -> Lot:
    """Of whose token that can be passed on.

    Raises `NotFound` (nothing of that kind), `Conflict` (they stay with their buyer, or fewer are there), and
    `InvalidInput`.
    """
    lots = [each for each in stock.lots if each.purchase.kind is gift.kind and each.held.count]
    lots = [each for each in lots if gift.token_id in (None, each.token_id)]
    if not lots:
        raise no_right(agent_id) if gift.kind is Kind.RUNS else _no_month(agent_id)
    if gift.receiver in {ZERO_ADDRESS, *(each.held.wallet for each in lots)}:
        raise InvalidInput("pass it on to another wallet", field="to", next_step="give the receiver's address")
    if gift.count < 1:
        raise InvalidInput("pass on at least one", field="count", next_step="choose how many")
    if not any(each.purchase.transferable for each in lots):
        raise Conflict(
            f"{agent_id} is sold to one person alone: it cannot be passed on", next_step="take back what you do not use"
        )
    passable = stock.passable(gift.kind)
    most = {each.token_id: passable.get(each.token_id, 0) for each in sorted(lots, key=lambda each: each.token_id)}
    for token_id, there in most.items():
        if there >= gift.count:
            return next(each for each in lots if each.token_id == token_id)
    raise Conflict(
        f"at most {max(most.values(), default=0)} can be passed on at once",
        next_step="choose fewer; those of a run that is under way cannot",
    )


def _no_month(agent_id: str) -> NotFound:
    return NotFound(
        f"you have no such month of {agent_id}", next_step="see what you have: `nexus entitlements`, /entitlements"
    )
