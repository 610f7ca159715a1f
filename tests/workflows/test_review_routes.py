"""Between plan and run over HTTP: edits, shortfalls, approvals at the same instant, and who did what."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from agentnexus.core.errors import Conflict
from agentnexus.core.money import Money
from agentnexus.escrow.model import shortfall
from agentnexus.workflows.editing import PlanChange

from .catalogue import USDC, agent_offers, offer_of
from .conftest import until
from .site import Site, make, sse


async def waiting(client: httpx.AsyncClient, **more: object) -> str:
    """A workflow that awaits approval."""
    workflow_id = await make(client, **more)

    async def asked() -> bool:
        return (await status(client, workflow_id)) == "awaiting_approval"

    await until(asked, "awaiting_approval")
    return workflow_id


async def status(client: httpx.AsyncClient, workflow_id: str) -> str:
    found: str = (await client.get(f"/workflows/{workflow_id}")).json()["workflow"]["status"]
    return found


async def test_a_balance_that_is_too_small_is_told_in_one_sentence_and_nothing_begins(site: Site) -> None:
    ann = await site.client("ann")
    site.funds.balances["ann"] = USDC.parse("0.0005")
    workflow_id = await waiting(ann, maxCost=2)
    refused = await ann.post(f"/workflows/{workflow_id}/approve")
    assert refused.status_code == 402
    body = refused.json()
    assert body["success"] is False
    assert body["error"] == "Insufficient escrow balance. Available: 0.0005, Required: 0.015. Please top up."
    assert (body["code"], body["details"]) == ("insufficient_funds", {"available": "0.0005", "required": "0.015"})
    assert await status(ann, workflow_id) == "awaiting_approval"
    site.funds.balances["ann"] = USDC.parse("1")
    assert (await ann.post(f"/workflows/{workflow_id}/approve")).json()["workflow"]["status"] == "approved"
    assert (await sse(ann, workflow_id))[-2]["event"] == "workflow.completed"
    assert site.funds.captured == {(workflow_id, "step:s1"): USDC.parse("0.015")}
    assert site.funds.balances["ann"] == USDC.parse("0.985")
    assert site.funds.reserved == {}


async def test_a_prepaid_account_that_is_too_small_says_it_in_the_same_place(site: Site) -> None:
    """Its own refusal is no `EscrowShortfall`, and clients read `error` as a sentence all the same."""
    ann = await site.client("ann")
    workflow_id = await waiting(ann)

    async def reserve(_user: str, _workflow: str, amount: Money) -> None:
        raise shortfall(amount - amount, amount)

    site.funds.reserve = reserve  # type: ignore[method-assign]
    refused = (await ann.post(f"/workflows/{workflow_id}/approve")).json()
    assert refused["error"] == "Insufficient escrow balance. Available: 0.0, Required: 0.015. Please top up."
    assert (refused["success"], refused["code"]) == (False, "insufficient_funds")
    assert refused["next_step"]


async def test_what_was_set_aside_comes_back_when_it_is_cancelled_before_it_runs(site: Site) -> None:
    ann = await site.client("ann")
    site.funds.balances["ann"] = USDC.parse("1")
    workflow_id = await waiting(ann)
    hold = asyncio.Event()

    async def wait(_need: object, _key: str) -> object:
        await hold.wait()
        return {}

    site.hirer.acts["table.analyze"] = wait
    await ann.post(f"/workflows/{workflow_id}/approve")
    await ann.post(f"/workflows/{workflow_id}/cancel")
    assert (await sse(ann, workflow_id))[-2]["event"] == "workflow.cancelled"
    assert site.funds.balances["ann"] == USDC.parse("1")


async def test_an_edited_plan_is_priced_anew_and_runs_as_edited(site: Site) -> None:
    analyze = next(offer for offer in agent_offers() if offer.capability.name == "table.analyze")
    cheap = offer_of(analyze.capability, "0.001", seller="0x" + "cc" * 20, suffix="-cheap")
    site.hirer.catalogue.append(cheap)
    ann = await site.client("ann")
    workflow_id = await waiting(ann, maxCost="0.5")
    edited = await ann.patch(f"/workflows/{workflow_id}/plan", json={"sellers": {"s1": cheap.id}})
    assert edited.status_code == 200, edited.text
    found = edited.json()["workflow"]
    assert found["executionPlan"]["steps"][0]["serviceId"] == cheap.id
    assert found["estimatedCost"] == 0.001
    capped = await ann.patch(f"/workflows/{workflow_id}/plan", json={"maxPrices": {"s1": "0.002"}})
    assert capped.json()["workflow"]["plan"]["steps"][0]["max_price"]["atomic"] == "2000"
    assert (await ann.post(f"/workflows/{workflow_id}/approve")).status_code == 200
    frames = await sse(ann, workflow_id)
    assert [frame["event"] for frame in frames].count("workflow.plan_ready") == 3
    assert frames[-2]["event"] == "workflow.completed"
    key = next(key for key in site.hirer.needs if key.startswith(f"{workflow_id}:s1"))
    assert list(site.hirer.prefers[key]) == [cheap.seller.key]
    assert site.hirer.needs[key].constraints.max_price == USDC.parse("0.001")  # the dearest that was approved


async def test_a_plan_is_not_changed_after_its_approval_nor_before_it_is_ready(site: Site) -> None:
    ann = await site.client("ann")
    workflow_id = await waiting(ann)
    await ann.post(f"/workflows/{workflow_id}/approve")
    late = await ann.patch(f"/workflows/{workflow_id}/plan", json={"maxPrices": {"s1": "1"}})
    assert late.status_code == 409
    assert "awaits approval" in late.json()["error"]
    await sse(ann, workflow_id)
    assert (await ann.patch(f"/workflows/{workflow_id}/plan", json={"drop": ["s1"]})).status_code == 409


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"drop": ["s1"]}, 409),
        ({"drop": ["nope"]}, 400),
        ({"sellers": {"s1": "nobody"}}, 404),
        ({"maxPrices": {"s1": "0.000001"}}, 404),
        ({"maxPrices": {"s1": "much"}}, 400),
        ({"surprise": 1}, 400),
        ({}, 400),
    ],
)
async def test_edits_that_cannot_be_are_refused_and_change_nothing(
    site: Site, body: dict[str, object], answer: int
) -> None:
    ann, bob = await site.client("ann"), await site.client("bob")
    workflow_id = await waiting(ann)
    before = (await ann.get(f"/workflows/{workflow_id}")).json()["workflow"]["plan"]
    refused = await ann.patch(f"/workflows/{workflow_id}/plan", json=body)
    assert refused.status_code == answer, refused.text
    assert (await ann.get(f"/workflows/{workflow_id}")).json()["workflow"]["plan"] == before
    assert (await bob.patch(f"/workflows/{workflow_id}/plan", json=body)).status_code in (404, 422, 400)


async def test_an_edit_and_an_approval_at_the_same_instant_agree_on_what_runs(site: Site) -> None:
    analyze = next(offer for offer in agent_offers() if offer.capability.name == "table.analyze")
    other = offer_of(analyze.capability, "0.014", seller="0x" + "cc" * 20, suffix="-other")
    site.hirer.catalogue.append(other)
    ann = await site.client("ann")
    for number in range(6):
        workflow_id = await waiting(ann, input=f"Analyse number {number}")
        edit = ann.patch(f"/workflows/{workflow_id}/plan", json={"sellers": {"s1": other.id}})
        approved, edited = await asyncio.gather(ann.post(f"/workflows/{workflow_id}/approve"), edit)
        assert approved.status_code == 200
        assert edited.status_code in (200, 409)
        assert (await sse(ann, workflow_id))[-2]["event"] == "workflow.completed"
        wanted = other if edited.status_code == 200 else analyze
        assert list(site.hirer.prefers[f"{workflow_id}:s1:1"]) == [wanted.seller.key]


async def test_of_two_edits_at_once_one_is_told_to_look_again(site: Site) -> None:
    ann = await site.client("ann")
    workflow_id = await waiting(ann)
    change = PlanChange(max_prices={"s1": USDC.parse("0.3")})
    edits = [site.room.workflows.edit(workflow_id, "ann", change) for _ in range(4)]
    answers = await asyncio.gather(*edits, return_exceptions=True)
    won = [answer for answer in answers if not isinstance(answer, Exception)]
    assert won
    assert all(isinstance(answer, Conflict) for answer in answers if answer not in won)


async def test_the_trail_has_every_act_and_cannot_be_changed(site: Site) -> None:
    ann, operator = await site.client("ann"), await site.client("op")
    workflow_id = await waiting(ann)
    await ann.patch(f"/workflows/{workflow_id}/plan", json={"maxPrices": {"s1": "0.4"}})
    await ann.post(f"/workflows/{workflow_id}/approve")
    await sse(ann, workflow_id)
    await operator.post(f"/workflows/{workflow_id}/cancel")
    entries = (await ann.get(f"/workflows/{workflow_id}/audit")).json()["entries"]
    assert [(entry["actor"], entry["action"]) for entry in entries] == [
        ("ann", "workflow.edit"), ("ann", "workflow.approve"), ("operator", "workflow.cancel"),
    ]  # fmt: skip
    bob = await site.client("bob")
    assert (await bob.get(f"/workflows/{workflow_id}/audit")).status_code == 404


async def test_floods_of_creates_approvals_and_cancels_leave_nothing_stuck(site: Site) -> None:
    """Every workflow is approved while it waits for that, and never again: an approval that is lost is stuck."""
    ann, bob = await site.client("ann"), await site.client("bob")
    flood = [waiting(client, input=f"Analyse number {number}") for number in range(15) for client in (ann, bob)]
    made = await asyncio.gather(*flood)

    async def one(number: int, workflow_id: str) -> None:
        client = bob if number % 2 else ann
        acts = [client.post(f"/workflows/{workflow_id}/approve") for _ in range(2)]
        if number % 3 == 0:
            acts.append(client.post(f"/workflows/{workflow_id}/cancel"))
        for answer in await asyncio.gather(*acts):
            assert answer.status_code in (200, 409), answer.text

    await asyncio.gather(*(one(number, workflow_id) for number, workflow_id in enumerate(made)))
    async with asyncio.timeout(60):
        ended = await asyncio.gather(*(site.room.workflows.result(each, None) for each in made))
    for number, workflow in enumerate(ended):
        ends = {"completed", "cancelled"} if number % 3 == 0 else {"completed"}
        assert workflow.status.value in ends, workflow.error
        hired = [key for key in site.hirer.answers if key.startswith(f"{workflow.id}:")]
        assert len(hired) == 1 or workflow.status.value == "cancelled"
        assert len(hired) <= 1
    await until(lambda: not site.funds.reserved, "everything given back")
