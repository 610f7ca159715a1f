"""A hirer and budgets that follow a script: what `hiring.Hiring` promises, without markets or money."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agentnexus.core.canonical import content_hash
from agentnexus.core.errors import NoOffer
from agentnexus.core.money import Money, total
from agentnexus.core.offers import Need, Offer
from agentnexus.core.payments import Limits, PaymentRecord, PaymentState, Receipt, ReceiptStatus
from agentnexus.core.updates import Held, Progress
from agentnexus.hiring.model import Hired
from agentnexus.workflows.funds import EscrowShortfall
from agentnexus.workflows.ports import OnUpdate

from .catalogue import USDC

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
Act = Callable[[Need, str], Awaitable[object]]


def receipt_of(offer: Offer, key: str, status: ReceiptStatus, state: PaymentState) -> Receipt:
    payment = PaymentRecord(
        rail="evm", network="eip155:31337", asset=USDC.caip19, amount=str(offer.price.maximum.atomic),
        payer="0xbuyer", payee="0xseller", state=state,
        transaction="0x" + content_hash(key)[7:] if state is PaymentState.CONFIRMED else "",
        authorization="0x" + content_hash("signed " + key)[7:],
    )  # fmt: skip
    return Receipt(
        id="rct_" + content_hash(key)[7:19], job_id="job", need_hash="", offer=offer, quote=None, status=status,
        payments=(payment,), result_hash="", started_at=AT, finished_at=AT,
    )  # fmt: skip


@dataclass(frozen=True)
class Ranked:
    offer: Offer


class ScriptedHirer:
    """`acts[capability]` makes the output or raises; every hire is remembered by key, like the real one's.

    `ways_back[capability]` is awaited between the end of a hire and its answer.
    """

    def __init__(self, offers: Sequence[Offer]) -> None:
        self.catalogue = list(offers)
        self.acts: dict[str, Act] = {}
        self.ways_back: dict[str, Callable[[], Awaitable[None]]] = {}
        self.calls: Counter[str] = Counter()
        self.needs: dict[str, Need] = {}
        self.budgets: dict[str, str] = {}
        self.prefers: dict[str, Sequence[str]] = {}
        self.deadlines: dict[str, float | None] = {}
        self.tasks: dict[str, str] = {}
        self.only: dict[str, str] = {}
        self.cancelled: dict[str, str] = {}
        self.answers: dict[str, Hired] = {}
        self.written: dict[str, list[Receipt]] = defaultdict(list)

    async def offers(self, need: Need, *, refresh: bool = False, user_id: str = "", limit: int = 20) -> list[Ranked]:
        del refresh, user_id
        wanted = [o for o in self.catalogue if need.capability in (None, o.capability.name)]
        limit_price = need.constraints.max_price
        fitting = [o for o in wanted if limit_price is None or o.price.maximum <= limit_price]
        return [Ranked(offer) for offer in fitting[:limit]]

    async def hire(
        self,
        need: Need,
        *,
        budget_id: str,
        key: str,
        user_id: str,
        prefer: Sequence[str] = (),
        fallback: int = 3,
        on_update: OnUpdate | None = None,
        deadline_seconds: float | None = None,
        task: str = "",
        only: str = "",
    ) -> Hired:
        del user_id, fallback
        self.deadlines[key] = deadline_seconds
        self.calls[key] += 1
        self.tasks[key], self.only[key] = task, only
        self.needs[key], self.budgets[key], self.prefers[key] = need, budget_id, prefer
        if key in self.answers:
            return self.answers[key]
        offer = next((o for o in self.catalogue if o.capability.name == need.capability), None)
        if offer is None:
            raise NoOffer(f"nobody sells {need.capability}")
        if on_update is not None:
            told = on_update(Progress(0.5, "half way"))
            if told is not None:
                await told
            held = on_update(Held(receipt_of(offer, key, ReceiptStatus.SETTLED, PaymentState.HELD).payments[0]))
            if held is not None:
                await held
        try:
            output = await self.acts.get(need.capability or "", self._default)(need, key)
        except asyncio.CancelledError:
            raise
        except Exception:
            self.written[key].append(receipt_of(offer, key, ReceiptStatus.REFUNDED, PaymentState.REFUNDED))
            raise
        receipt = receipt_of(offer, key, ReceiptStatus.SETTLED, PaymentState.CONFIRMED)
        receipt = receipt.model_copy(update={"finished_at": AT + timedelta(seconds=len(self.answers))})
        self.written[key].append(receipt)
        self.answers[key] = Hired(receipt, output, (receipt,))
        if need.capability in self.ways_back:  # done and paid, and its buyer has not heard of it
            await self.ways_back[need.capability]()
        return self.answers[key]

    async def _default(self, need: Need, _key: str) -> object:
        return {"result": {"text": f"{need.capability} done", "answer": "yes"}}

    async def cancel(self, key: str, reason: str = "") -> list[Receipt]:
        if key in self.calls and key not in self.answers and not self.written[key]:
            offer = next(o for o in self.catalogue if o.capability.name == self.needs[key].capability)
            self.written[key].append(receipt_of(offer, key, ReceiptStatus.REFUNDED, PaymentState.REFUNDED))
        self.cancelled[key] = reason
        return list(self.written[key])

    async def receipts(self, key: str) -> list[Receipt]:
        return list(self.written.get(key, []))


class ScriptedBudgets:
    def __init__(self) -> None:
        self.made: dict[str, dict[str, object]] = {}

    async def create(self, budget_id: str, **terms: object) -> object:
        limits = terms["limits"]
        assert isinstance(limits, Limits)
        assert self.made.setdefault(budget_id, terms) == terms  # the same call again, or none
        return terms

    async def revoke(self, budget_id: str) -> object:
        return self.made.pop(budget_id)


class ScriptedFunds:
    """Prepaid balances in memory: `balances` by user, what is reserved by workflow, what was captured by key."""

    def __init__(self) -> None:
        self.balances: dict[str, Money] = {}
        self.reserved: dict[str, tuple[str, Money]] = {}
        self.captured: dict[tuple[str, str], Money] = {}
        self.released: list[str] = []

    async def available(self, user_id: str) -> Money | None:
        return self.balances.get(user_id)

    async def reserve(self, user_id: str, workflow_id: str, amount: Money) -> None:
        if workflow_id in self.reserved:
            return
        balance = self.balances.get(user_id)
        if balance is not None:
            if balance < amount:
                raise EscrowShortfall(balance, amount)
            self.balances[user_id] = balance - amount
        self.reserved[workflow_id] = (user_id, amount)

    async def set_aside(self, workflow_id: str) -> Money | None:
        found = self.reserved.get(workflow_id)
        return None if found is None or found[0] not in self.balances else found[1]

    async def capture(self, workflow_id: str, key: str, amount: Money, transaction: str = "") -> None:
        self.captured.setdefault((workflow_id, key), amount)

    async def release(self, workflow_id: str) -> None:
        found = self.reserved.pop(workflow_id, None)
        if found is None:
            return
        self.released.append(workflow_id)
        user_id, amount = found
        spent = [value for (run, _), value in self.captured.items() if run == workflow_id]
        if user_id in self.balances:
            self.balances[user_id] = self.balances[user_id] + amount - total(spent, amount.asset)
