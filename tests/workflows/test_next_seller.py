"""Who is hired next after a failure: never the same seller twice in a row, unless its owner chose it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from agentnexus.core.errors import SellerFailed
from agentnexus.core.offers import Offer
from agentnexus.hiring.testing import Script
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.model import Plan, StepOffer, StepRetry, Workflow, WorkflowStatus
from agentnexus.workflows.plan_run import attempt_of, hire_key
from tests.hiring.support import Economy, make_offer, seller_key

from .paid_worker import room_of, step
from .test_paid import start, working

A, B = seller_key(1), seller_key(2)
DEAR, CHEAP = make_offer(1, price="0.03"), make_offer(2, price="0.02")
AT_ONCE = StepRetry(attempts=3, first_delay_seconds=0, longest_delay_seconds=0)


class Sellers:
    """Two that fail so many times each; `asked` is who was, in order."""

    def __init__(self, **failures: int) -> None:
        self.asked: list[str] = []
        self._left = failures

    def script(self, name: str) -> Script:
        def answer(_given: object) -> object:
            self.asked.append(name)
            self._left[name] -= 1
            if self._left[name] >= 0:
                raise SellerFailed("busy")
            return {"echo": {"name": name}}

        return Script(output=answer)


Run = Callable[..., Awaitable[Workflow]]


@pytest.fixture
async def run(database: Database) -> AsyncIterator[Run]:
    economies: list[Economy] = []

    async def begin(sellers: Sellers, *offers: Offer, picked: bool = False, attempts: int = 3) -> Workflow:
        scripts = {A: sellers.script("a"), B: sellers.script("b")}
        economy = await Economy.build(database, offers=offers, scripts=scripts)
        economies.append(economy)
        planned = step("s1", "text.echo").model_copy(
            update={
                "offer": StepOffer.of(DEAR),
                "picked": picked,
                "retry": AT_ONCE.model_copy(update={"attempts": attempts}),
            }
        )
        plan = Plan(planner="hand", steps=(planned,), output={"$step": "s1", "path": "echo.name"})
        async with Wakeups(database) as wakeups:
            room = room_of(economy, wakeups)
            await start(room, "wf_1", plan)
            async with working(room):
                done = await room.workflows.result("wf_1", "ann")
        await economy.assert_sound()
        return done

    yield begin
    for economy in economies:
        await economy.close()


async def test_who_failed_last_is_not_asked_first_after_the_pause(run: Run) -> None:
    """The cheap one would be: it is the best on offer, and only the first attempt prefers the planned one."""
    sellers = Sellers(a=1, b=1)
    done = await run(sellers, DEAR, CHEAP)
    assert (done.status, done.result) == (WorkflowStatus.COMPLETED, "a")
    assert sellers.asked == ["a", "b", "a"]


async def test_the_only_one_is_asked_again(run: Run) -> None:
    sellers = Sellers(a=2, b=0)
    done = await run(sellers, DEAR)
    assert (done.status, sellers.asked) == (WorkflowStatus.COMPLETED, ["a", "a", "a"])


@pytest.mark.parametrize(("failures", "asked"), [(1, ["a", "a"]), (2, ["a", "a", "b"]), (9, ["a", "a", "b"])])
async def test_a_seller_that_was_chosen_is_tried_again_before_it_is_replaced(
    run: Run, failures: int, asked: list[str]
) -> None:
    sellers = Sellers(a=failures, b=0)
    done = await run(sellers, DEAR, CHEAP, picked=True)
    assert (done.status, done.result) == (WorkflowStatus.COMPLETED, asked[-1])
    assert sellers.asked == asked


async def test_with_one_attempt_a_chosen_seller_is_replaced_at_once(run: Run) -> None:
    sellers = Sellers(a=9, b=0)
    done = await run(sellers, DEAR, CHEAP, picked=True, attempts=1)
    assert (done.status, sellers.asked) == (WorkflowStatus.COMPLETED, ["a", "b"])


@pytest.mark.parametrize("attempt", [1, 7, 10])
def test_a_key_tells_its_attempt(attempt: int) -> None:
    assert attempt_of(hire_key("wf_1", "undo-s1", attempt)) == attempt
