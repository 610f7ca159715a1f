"""Who pays a seller that took the money and gave nothing: whoever's work it was, out of what was set aside for it.

Were it the node, a user and a seller in league could carry its wallet away a purchase at a time (decision 0009).
"""

from __future__ import annotations

import asyncio

import pytest

from agentnexus.bootstrap.prepaid import prepaid_funds
from agentnexus.core.clock import SystemClock
from agentnexus.core.errors import InsufficientFunds, NexusError
from agentnexus.core.payments import PayMode
from agentnexus.escrow.model import charged_account
from agentnexus.hiring.testing import Script
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.platform.blobs import PostgresBlobs
from agentnexus.platform.database import Database
from agentnexus.platform.wakeups import Wakeups
from agentnexus.workflows.engine.durable import DurableEngine
from agentnexus.workflows.engine.port import NewRun
from agentnexus.workflows.engine.postgres.journal import PostgresJournal
from agentnexus.workflows.funds import BudgetFunds
from agentnexus.workflows.model import Plan, StepRetry, Workflow, WorkflowRequest, WorkflowStatus
from agentnexus.workflows.run import BODY
from agentnexus.workflows.worker import open_room
from tests.escrow.conftest import USDC as PREPAID
from tests.escrow.test_hires import Shop, failing, open_shop
from tests.hiring.support import USDC, make_offer, seller_key, usd
from tests.workflows.paid_worker import SETTINGS, own_budget, step


def taking(**more: object) -> Script:
    """Takes the money first and fails."""
    return Script(output=failing, mode=PayMode.PAY, **more)  # type: ignore[arg-type]  # passed on


async def assert_the_node_lost_nothing(shop: Shop, *sellers: int) -> None:
    """What it charged is what sellers got, to the unit."""
    got = [usd(await shop.economy.paid(number)).atomic for number in sellers]
    income = await shop.room.books.balance(charged_account(PREPAID), PREPAID)
    assert income.posted.atomic == sum(got)
    await shop.room.assert_sound()


async def test_a_direct_hire_in_vain_is_charged(database: Database) -> None:
    shop = await open_shop(database, offers=[make_offer(1)], scripts={seller_key(1): taking()})
    await shop.room.funded("0.1")
    with pytest.raises(NexusError):
        await shop.hire()
    assert (await shop.economy.paid(1), await shop.room.balance()) == ("0.02", ("0.08", "0"))
    await assert_the_node_lost_nothing(shop, 1)
    await shop.economy.close()


async def test_a_seller_that_failed_with_the_money_is_charged_beside_the_one_that_delivered(database: Database) -> None:
    offers = [make_offer(1, price="0.01"), make_offer(2, price="0.02")]
    shop = await open_shop(database, offers=offers, scripts={seller_key(1): taking(), seller_key(2): Script()})
    await shop.room.funded("0.1")
    hired = await shop.hire()
    assert hired.output == {"echo": {"text": "hello"}}
    paid = [await shop.economy.paid(number) for number in (1, 2)]
    assert paid[1] == "0.02"
    await assert_the_node_lost_nothing(shop, 1, 2)
    await shop.economy.close()


async def test_a_user_and_a_seller_in_league_get_no_more_out_than_the_user_put_in(database: Database) -> None:
    offers = [make_offer(number, price="0.04") for number in (1, 2, 3)]
    shop = await open_shop(database, offers=offers, scripts={offer.seller.key: taking() for offer in offers})
    await shop.room.funded("0.1")
    for number in range(8):
        with pytest.raises(NexusError):
            await shop.hire(key=f"k{number}")
    with pytest.raises(InsufficientFunds):
        await shop.hire(key="last")
    gang = sum([usd(await shop.economy.paid(number)).atomic for number in (1, 2, 3)])
    assert gang == 80_000
    assert await shop.room.balance() == ("0.02", "0")
    await assert_the_node_lost_nothing(shop, 1, 2, 3)
    await shop.economy.close()


async def run(shop: Shop, *steps: tuple[str, str]) -> Workflow:
    """A plan of steps that are each tried three times, paid from Ann's account."""
    economy, room = shop.economy, shop.room
    otherwise = BudgetFunds(PersonalBudgets(economy.books, USDC).current)
    patient = [step(*each).model_copy(update={"retry": StepRetry(attempts=3)}) for each in steps]
    async with Wakeups(economy.database) as wakeups:
        opened = open_room(
            DurableEngine(PostgresJournal(economy.database, wakeups), settings=SETTINGS), hirer=economy.hiring,
            budgets=economy.books.budgets, blobs=PostgresBlobs(economy.database), clock=SystemClock(),
            root_budget=own_budget, funds=prepaid_funds(room.escrow, otherwise, USDC, SystemClock()),
        )  # fmt: skip
        plan = Plan(planner="hand", steps=tuple(patient))
        request = WorkflowRequest(user_id="ann", text="t", max_cost=usd("0.1"), auto_approve=True, plan=plan)
        await opened.engine.start(NewRun("wf_1", BODY, request.model_dump(mode="json"), tenant="ann"))
        working = asyncio.create_task(opened.engine.work())
        try:
            async with asyncio.timeout(60):
                return await opened.workflows.result("wf_1", "ann")
        finally:
            working.cancel()
            await asyncio.wait([working])


async def test_a_step_in_vain_is_tried_once_and_charged_with_the_steps_before_it(database: Database) -> None:
    """An attempt that cost money is the last one: no attempt that is tried again can have cost any."""
    offers = [make_offer(1, price="0.02"), make_offer(2, capability="text.fail", price="0.03")]
    scripts = {seller_key(1): Script(), seller_key(2): Script(breaks_off=99)}
    shop = await open_shop(database, offers=offers, scripts=scripts)
    await shop.room.funded("0.2")
    done = await run(shop, ("a", "text.echo"), ("f", "text.fail"))
    assert done.status is WorkflowStatus.FAILED
    assert {state.id: state.attempts for state in done.steps}["f"] == 1
    assert await shop.economy.paid(2) == "0.03"
    assert done.cost == usd("0.03") + usd(await shop.economy.paid(1))
    await assert_the_node_lost_nothing(shop, 1, 2)
    assert (await shop.room.balance())[1] == "0"
    await shop.economy.close()


async def test_an_attempt_that_is_tried_again_has_cost_nothing(database: Database) -> None:
    flaky = Script(output=failing)
    shop = await open_shop(database, offers=[make_offer(1)], scripts={seller_key(1): flaky})
    await shop.room.funded("0.1")
    done = await run(shop, ("a", "text.echo"))
    assert done.status is WorkflowStatus.FAILED
    assert done.steps[0].attempts == 3
    assert (await shop.economy.paid(1), await shop.room.balance()) == ("0", ("0.1", "0"))
    await assert_the_node_lost_nothing(shop, 1)
    await shop.economy.close()
