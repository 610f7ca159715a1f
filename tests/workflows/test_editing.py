"""Plans changed before approval: what may go, who needs what, other sellers, caps, and the price afterwards."""

from __future__ import annotations

import pytest

from agentnexus.core.errors import Conflict, InvalidInput, NoOffer
from agentnexus.workflows.editing import PlanChange, changed
from agentnexus.workflows.estimate import estimate, to_reserve
from agentnexus.workflows.model import Plan, PlanStep, StepOffer
from agentnexus.workflows.plan import Offered
from agentnexus.workflows.planning import offered_from

from .catalogue import USDC, agent_offers, offer_of


def step(step_id: str, *after: str, capability: str = "text.summarize", **more: object) -> PlanStep:
    given = {"text": {"$step": after[0], "path": "result.text"}} if after else {"text": "hello"}
    return PlanStep(id=step_id, title=f"do {step_id}", capability=capability, input=given, depends_on=after, **more)


def plan_of(*steps: PlanStep, output: object = None) -> Plan:
    return Plan(planner="test", steps=steps, output=output)


@pytest.fixture
def offered() -> Offered:
    summarizer = next(o.capability for o in agent_offers() if o.capability.name == "text.summarize")
    return offered_from(
        [
            offer_of(summarizer, "0.03", seller="0x" + "aa" * 20, suffix="-dear"),
            offer_of(summarizer, "0.01", seller="0x" + "bb" * 20, suffix="-cheap"),
        ]
    )


def test_a_step_that_nobody_needs_is_dropped_with_its_part_of_the_result(offered: Offered) -> None:
    plan = plan_of(step("s1"), step("s2"), output={"first": {"$step": "s1"}, "second": {"$step": "s2"}})
    left = changed(plan, PlanChange(drop=("s2",)), offered)
    assert [each.id for each in left.steps] == ["s1"]
    assert left.output == {"first": {"$step": "s1"}}


def test_a_step_that_others_need_stays_and_they_are_named(offered: Offered) -> None:
    plan = plan_of(step("s1"), step("s2", "s1"), output={"$step": "s2"})
    with pytest.raises(Conflict, match=r"step s1 cannot be dropped: step s2 \(do s2\) needs it") as refused:
        changed(plan, PlanChange(drop=("s1",)), offered)
    assert refused.value.details["needed_by"] == ["step s2 (do s2)"]
    with pytest.raises(Conflict, match="the result needs it"):
        changed(plan, PlanChange(drop=("s2",)), offered)


def test_steps_that_need_each_other_are_dropped_together(offered: Offered) -> None:
    plan = plan_of(step("s1"), step("s2", "s1"), step("s3"), output=[{"$step": "s2"}, {"$step": "s3"}])
    left = changed(plan, PlanChange(drop=("s1", "s2")), offered)
    assert [each.id for each in left.steps] == ["s3"]
    assert left.output == [{"$step": "s3"}]


def test_dropping_everything_is_refused(offered: Offered) -> None:
    with pytest.raises(Conflict, match="nothing would be left"):
        changed(plan_of(step("s1")), PlanChange(drop=("s1",)), offered)


@pytest.mark.parametrize("change", [PlanChange(drop=("s9",)), PlanChange(sellers={"s9": "x"}), PlanChange()])
def test_a_change_of_nothing_or_of_no_step_is_refused(offered: Offered, change: PlanChange) -> None:
    with pytest.raises(InvalidInput):
        changed(plan_of(step("s1")), change, offered)


@pytest.mark.parametrize("name", ["x402:text.summarize-cheap", "evm:0x" + "bb" * 20, "Summarizes text seller-cheap"])
def test_a_seller_is_chosen_by_offer_key_or_name(offered: Offered, name: str) -> None:
    wanted = offered.offers["text.summarize"][1]
    spelled = {"x402": wanted.id, "evm:": wanted.seller.key}.get(name[:4], wanted.seller.name)
    edited = changed(plan_of(step("s1")), PlanChange(sellers={"s1": spelled}), offered)
    assert edited.step("s1").offer == StepOffer.of(wanted)


def test_a_seller_who_does_not_sell_it_is_refused_and_those_who_do_are_named(offered: Offered) -> None:
    with pytest.raises(NoOffer) as refused:
        changed(plan_of(step("s1")), PlanChange(sellers={"s1": "nobody"}), offered)
    assert offered.offers["text.summarize"][0].seller.name in refused.value.next_step


def test_a_cap_moves_the_step_to_a_seller_who_asks_less(offered: Offered) -> None:
    dear, cheap = offered.offers["text.summarize"]
    plan = plan_of(step("s1", offer=StepOffer.of(dear)))
    edited = changed(plan, PlanChange(max_prices={"s1": USDC.parse("0.02")}), offered)
    assert edited.step("s1").offer == StepOffer.of(cheap)
    assert edited.step("s1").max_price == USDC.parse("0.02")
    lifted = changed(edited, PlanChange(max_prices={"s1": None}, sellers={"s1": dear.id}), offered)
    assert (lifted.step("s1").picked, edited.step("s1").picked) == (True, False)
    assert lifted.step("s1").offer == StepOffer.of(dear)


def test_a_cap_that_nobody_goes_below_is_refused_with_the_lowest_price(offered: Offered) -> None:
    with pytest.raises(NoOffer, match=r"the cheapest asks 0\.01 USDC"):
        changed(plan_of(step("s1")), PlanChange(max_prices={"s1": USDC.parse("0.005")}), offered)
    with pytest.raises(InvalidInput, match="above zero"):
        changed(plan_of(step("s1")), PlanChange(max_prices={"s1": USDC.parse("0")}), offered)


def test_a_seller_above_the_cap_is_refused(offered: Offered) -> None:
    plan = plan_of(step("s1", max_price=USDC.parse("0.02")))
    with pytest.raises(InvalidInput, match=r"may cost 0\.02"):
        changed(plan, PlanChange(sellers={"s1": "x402:text.summarize-dear"}), offered)


def test_the_estimate_of_a_capped_step_leaves_out_who_asks_more(offered: Offered) -> None:
    cheap = offered.offers["text.summarize"][1]
    free = estimate(plan_of(step("s1", offer=StepOffer.of(cheap))), offered, USDC.zero())
    capped = estimate(
        plan_of(step("s1", offer=StepOffer.of(cheap), max_price=USDC.parse("0.02"))), offered, USDC.zero()
    )
    assert free.worst_case == USDC.parse("0.03")
    assert capped.worst_case == USDC.parse("0.01")
    assert capped.steps[0].alternatives == ()


def test_never_more_is_reserved_than_was_allowed(offered: Offered) -> None:
    found = estimate(plan_of(step("s1")), offered, USDC.zero())
    assert to_reserve(found, USDC.parse("0.02")) == USDC.parse("0.02")
    assert to_reserve(found, USDC.parse("5")) == found.worst_case
    assert to_reserve(None, USDC.parse("5")) == USDC.parse("5")
    unpriced = found.steps[0].model_copy(update={"most": None})  # in another asset: nobody knows the worst case here
    assert to_reserve(found.model_copy(update={"steps": (unpriced,)}), USDC.parse("5")) == USDC.parse("5")
