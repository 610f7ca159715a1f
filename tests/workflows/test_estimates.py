"""What a plan will cost, by arithmetic that can be done on paper; when a plan is remembered, and when made anew."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import BudgetExceeded, InvalidPlan, NexusError, NoOffer, Unavailable
from agentnexus.core.money import Asset, Money
from agentnexus.core.offers import Capability, Offer, Price
from agentnexus.workflows.engine.port import Retry
from agentnexus.workflows.estimate import FALLBACKS, REFUNDED_SCHEMES, check_cost, estimate
from agentnexus.workflows.model import (
    SINGLE,
    Estimate,
    Plan,
    PlanStep,
    StepEstimate,
    StepOffer,
    StepRetry,
    Undo,
    WorkflowRequest,
)
from agentnexus.workflows.plan import Offered, layers
from agentnexus.workflows.planner.cache import PlanCache
from agentnexus.workflows.planner.port import Task, fingerprint
from agentnexus.workflows.planning import REPAIRS_MAX, Planning, offered_from

from .catalogue import USDC, agent_offers, agents_offered, offer_of
from .scripted import ScriptedHirer
from .test_offline_planner import files

EURC = Asset("EURC", 6, "eip155:31337/erc20:0x" + "cd" * 20)


def seller(
    price: str, name: str = "a.b", *, scheme: str = "exact", seconds: float | None = 1.0, tag: str = ""
) -> Offer:
    made = offer_of(Capability(name=name), price, suffix=f"-{price}{tag}")
    rails = ({"scheme": scheme, "network": "eip155:31337"},)
    return made.model_copy(update={"rails": rails, "latency_ms": None if seconds is None else round(seconds * 1000)})


def step(step_id: str, *waits: str, name: str = "a.b", attempts: int = 3, offer: Offer | None = None) -> PlanStep:
    planned = None if offer is None else StepOffer.of(offer)
    retry = StepRetry(attempts=attempts)
    return PlanStep(id=step_id, title="", capability=name, depends_on=waits, retry=retry, offer=planned)


def plan_of(*steps: PlanStep) -> Plan:
    return Plan(planner="t", steps=steps)


def of(plan: Plan, *offers: Offer) -> Estimate:
    return estimate(plan, offered_from(offers), USDC.zero())


def test_a_plan_costs_the_sum_of_its_steps() -> None:
    found = of(plan_of(step("a"), step("b"), step("c", name="c.d")), seller("0.01"), seller("0.2", "c.d"))
    assert found.expected == USDC.parse("0.22")
    assert [entry.expected for entry in found.steps] == [USDC.parse("0.01")] * 2 + [USDC.parse("0.2")]


def test_the_offer_a_step_names_is_the_one_that_counts() -> None:
    best, named = seller("0.01"), seller("0.07")
    found = of(plan_of(step("a", offer=named)), best, named)
    assert found.expected == USDC.parse("0.07")
    assert [each.id for each in found.steps[0].alternatives] == [best.id]


def test_only_so_many_fallbacks_count_in_the_worst_case() -> None:
    offers = [seller(f"0.0{number}") for number in range(1, 8)]
    found = of(plan_of(step("a")), *offers)
    assert found.worst_case == USDC.parse(f"0.0{1 + FALLBACKS}")
    assert len(found.steps[0].alternatives) == FALLBACKS


@pytest.mark.parametrize("scheme", sorted(REFUNDED_SCHEMES))
def test_where_money_comes_back_one_attempt_is_the_worst(scheme: str) -> None:
    assert of(plan_of(step("a", attempts=5)), seller("0.01", scheme=scheme)).worst_case == USDC.parse("0.01")


@pytest.mark.parametrize("scheme", ["prepaid", "transfer", ""])
@pytest.mark.parametrize("attempts", [1, 2, 10])
def test_where_money_goes_first_every_attempt_is_lost_at_worst(scheme: str, attempts: int) -> None:
    found = of(plan_of(step("a", attempts=attempts)), seller("0.01", scheme=scheme))
    assert found.worst_case == USDC.parse("0.01") * attempts
    assert found.expected == USDC.parse("0.01")


def test_a_cheap_seller_that_keeps_money_may_be_worse_than_a_dear_one_that_does_not() -> None:
    assert of(
        plan_of(step("a", attempts=3)), seller("0.02", scheme="prepaid"), seller("0.05")
    ).worst_case == USDC.parse("0.06")


def test_the_dearest_price_counted_is_kept_for_hiring_and_for_undoing() -> None:
    undone = step("a", offer=seller("0.02")).model_copy(update={"undo": Undo(capability="c.d")})
    (found,) = of(plan_of(undone), seller("0.02"), seller("0.05"), seller("0.3", "c.d"), seller("0.1", "c.d")).steps
    assert (found.most, found.undo_most) == (USDC.parse("0.05"), USDC.parse("0.3"))
    assert found.worst_case == USDC.parse("0.35")


def test_a_seller_within_the_price_that_keeps_money_counts_though_it_is_no_alternative() -> None:
    counted = [seller("0.05", tag=f"-{number}") for number in range(1 + FALLBACKS)]
    (found,) = of(plan_of(step("a", attempts=3)), *counted, seller("0.04", scheme="prepaid")).steps
    assert found.worst_case == USDC.parse("0.12")
    assert len(found.alternatives) == FALLBACKS


def test_a_run_of_one_agent_costs_what_that_agent_asks() -> None:
    named = seller("0.02")
    plan = Plan(planner=SINGLE, steps=(step("a", offer=named),))
    (found,) = of(plan, named, seller("0.9")).steps
    assert (found.expected, found.worst_case, found.most) == (USDC.parse("0.02"),) * 3
    assert found.alternatives == ()


def test_an_estimate_that_was_made_before_the_dearest_price_was_kept_is_read() -> None:
    old = of(plan_of(step("a")), seller("0.01")).model_dump(mode="json")
    for name in ("most", "undo_most"):
        del old["steps"][0][name]
    read = Estimate.model_validate(old)
    assert read.step("a") is not None
    assert read.steps[0].most is None
    assert read.step("z") is None


def test_a_step_nobody_sells_costs_nothing_yet_and_takes_unknown_time() -> None:
    found = of(plan_of(step("a", name="no.body"), step("b")), seller("0.01"))
    assert found.expected == USDC.parse("0.01")
    assert found.seconds is None
    assert found.steps[0].alternatives == ()


def test_prices_in_another_asset_are_not_added_to_ours() -> None:
    foreign = seller("0.01").model_copy(update={"price": Price(per_job=EURC.parse("5"))})
    found = of(plan_of(step("a")), foreign)
    assert found.expected == found.worst_case == USDC.zero()


@pytest.mark.parametrize(
    ("waits", "seconds"),
    [
        ({"a": (), "b": (), "c": ()}, 1.0),
        ({"a": (), "b": ("a",), "c": ("b",)}, 3.0),
        ({"a": (), "b": ("a",), "c": ("a",)}, 2.0),
        ({"a": ("b",), "b": ("c",), "c": ()}, 3.0),
        ({"a": ("b",), "b": ("a",), "c": ()}, None),
        ({"a": ("ghost",)}, None),
        ({}, 0.0),
    ],
)
def test_the_time_is_that_of_the_longest_way(waits: dict[str, tuple[str, ...]], seconds: float | None) -> None:
    assert of(plan_of(*(step(name, *before) for name, before in waits.items())), seller("0.01")).seconds == seconds


def test_one_unknown_time_makes_the_whole_unknown() -> None:
    plan = plan_of(step("a"), step("b", name="c.d"))
    assert of(plan, seller("0.01"), seller("0.01", "c.d", seconds=None)).seconds is None


def test_fees_are_counted_per_network_and_only_for_the_first_rail() -> None:
    other = seller("0.01", "c.d").model_copy(
        update={"rails": ({"scheme": "exact", "network": "eip155:1"}, {"scheme": "exact", "network": "eip155:2"})}
    )
    plan = plan_of(step("a"), step("b"), step("c", name="c.d"))
    found = estimate(plan, offered_from([seller("0.01"), other]), USDC.zero(), lambda _offer: Money(USDC, 7))
    assert found.fees == {"eip155:31337": Money(USDC, 14), "eip155:1": Money(USDC, 7)}


def test_an_offer_without_rails_has_no_fees() -> None:
    bare = seller("0.01").model_copy(update={"rails": ()})
    assert of(plan_of(step("a")), bare).fees == {}


prices = st.lists(st.integers(1, 10**9), min_size=1, max_size=6)


@given(prices, st.integers(1, 10), st.sampled_from(["exact", "prepaid"]))
def test_the_worst_case_is_never_less_than_what_is_expected(amounts: list[int], attempts: int, scheme: str) -> None:
    offers = [seller(f"{Decimal(n).scaleb(-6):f}", scheme=scheme, tag=str(at)) for at, n in enumerate(amounts)]
    found = of(plan_of(step("a", attempts=attempts)), *offers)
    assert found.worst_case >= found.expected == Money(USDC, amounts[0])
    assert found.worst_case <= Money(USDC, max(amounts)) * attempts


@given(st.lists(st.sampled_from("abcdef"), max_size=5, unique=True), st.integers(1, 5))
def test_the_time_never_exceeds_doing_one_step_after_the_other(names: list[str], width: int) -> None:
    steps = [step(name, *names[max(0, at - width) : at]) for at, name in enumerate(names)]
    plan = plan_of(*steps)
    found = of(plan, seller("0.01", seconds=2.0))
    assert found.seconds == 2.0 * len(layers(plan))
    assert found.seconds <= 2.0 * len(names)


def entry(name: str, amount: int) -> StepEstimate:
    return StepEstimate(step=name, expected=Money(USDC, amount), worst_case=Money(USDC, amount))


@pytest.mark.parametrize(("allowed", "fits"), [(30, True), (31, True), (29, False), (0, False)])
def test_the_limit_itself_is_allowed_and_one_unit_less_is_not(allowed: int, fits: bool) -> None:
    found = Estimate(expected=Money(USDC, 30), worst_case=Money(USDC, 90), steps=(entry("a", 10), entry("b", 20)))
    if fits:
        check_cost(found, Money(USDC, allowed))
        return
    with pytest.raises(BudgetExceeded) as refused:
        check_cost(found, Money(USDC, allowed))
    assert refused.value.next_step == (
        "allow at least 0.00003 USDC, or ask for less: the dearest step is b with 0.00002 USDC"
    )
    assert refused.value.details["needed"] == "0.000030"


# --- retries ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10), st.floats(0, 600), st.floats(0, 3600), st.integers(1, 10), st.floats(0, 1))
def test_a_retry_waits_between_half_and_the_whole_of_its_delay_and_never_too_long(
    attempts: int, first: float, longest: float, attempt: int, uniform: float
) -> None:
    retry = StepRetry(attempts=attempts, first_delay_seconds=first, longest_delay_seconds=longest).policy()
    whole = min(first * 2 ** (attempt - 1), longest)
    assert whole / 2 - 1e-9 <= retry.delay_seconds(attempt, uniform) <= whole + 1e-9
    assert retry.delay_seconds(attempt, uniform) <= retry.delay_seconds(attempt + 1, uniform) + 1e-9


@pytest.mark.parametrize("changes", [{"attempts": 0}, {"attempts": 11}, {"first_delay_seconds": -1},
                                     {"longest_delay_seconds": 3601}, {"first_delay_seconds": 601}])  # fmt: skip
def test_a_plan_cannot_ask_for_endless_or_negative_patience(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        StepRetry.model_validate(changes)


@pytest.mark.parametrize("changes", [{"attempts": 0}, {"attempts": 101}, {"factor": 0.5}, {"first_delay_seconds": -1}])
def test_the_engine_refuses_a_policy_that_makes_no_sense(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"attempts|delay"):
        Retry(**{"attempts": 2, **changes})  # type: ignore[arg-type]


# --- remembering plans ------------------------------------------------------------------------------------------------

WISH = Task("Summarise it", files("a.pdf"))
PLANNED = plan_of(step("a"))


def test_a_plan_is_found_again_for_the_same_task_however_it_is_spaced() -> None:
    cache, offered = PlanCache(), agents_offered()
    cache.put("offline", WISH, offered, PLANNED)
    assert cache.get("offline", Task("  Summarise \n it ", files("a.pdf")), offered) == PLANNED
    assert cache.get("offline", Task("Summarise\u00a0it", files("a.pdf")), offered) == PLANNED


OTHERS: dict[str, Task] = {
    "other words": Task("Summarise that", files("a.pdf")),
    "other case": Task("summarise it", files("a.pdf")),
    "another file": Task("Summarise it", files("b.pdf")),
    "no file": Task("Summarise it"),
    "one file more": Task("Summarise it", files("a.pdf", "b.pdf")),
    "thrift": Task("Summarise it", files("a.pdf"), thrifty=True),
}


@pytest.mark.parametrize("task", OTHERS.values(), ids=OTHERS.keys())
def test_another_task_is_planned_anew(task: Task) -> None:
    cache, offered = PlanCache(), agents_offered()
    cache.put("offline", WISH, offered, PLANNED)
    assert cache.get("offline", task, offered) is None


def test_another_planner_is_asked_itself() -> None:
    cache, offered = PlanCache(), agents_offered()
    cache.put("offline", WISH, offered, PLANNED)
    assert cache.get("llm:m", WISH, offered) is None


def test_words_do_not_run_into_file_names() -> None:
    cache, offered = PlanCache(), agents_offered()
    cache.put("offline", Task("x", files("a", "b c")), offered, PLANNED)
    assert cache.get("offline", Task("x", files("a b", "c")), offered) is None


def changed(**update: object) -> Offered:
    first, *rest = agent_offers()
    return offered_from([first.model_copy(update=update), *rest])


CATALOGUES: dict[str, Offered] = {
    "a schema": changed(capability=agent_offers()[0].capability.model_copy(update={"input_schema": {}})),
    "a description": changed(capability=agent_offers()[0].capability.model_copy(update={"description": "new"})),
    "one capability less": offered_from(agent_offers()[1:]),
    "one capability more": offered_from([*agent_offers(), seller("0.01", "new.thing")]),
    "another best seller with other schemas": offered_from([seller("0.01", "pdf.extract"), *agent_offers()]),
}


@pytest.mark.parametrize("offered", CATALOGUES.values(), ids=CATALOGUES.keys())
def test_a_changed_catalogue_has_another_fingerprint(offered: Offered) -> None:
    assert fingerprint(offered) != fingerprint(agents_offered())


def test_what_does_not_matter_to_a_plan_does_not_change_the_fingerprint() -> None:
    first, *rest = agent_offers()
    measured = first.model_copy(update={"latency_ms": 5, "title": "New title", "stale": True})
    assert fingerprint(offered_from([*rest, measured])) == fingerprint(agents_offered())
    assert fingerprint(changed(price=Price(per_job=USDC.parse("0.021")))) == fingerprint(agents_offered())


def test_an_equal_capability_in_another_object_has_the_same_fingerprint() -> None:
    copies = [offer.model_copy(update={"capability": offer.capability.model_copy()}) for offer in agent_offers()]
    assert fingerprint(offered_from(copies)) == fingerprint(agents_offered())


BEST, OTHER = seller("0.02"), seller("0.05")
SOLD = offered_from([BEST, OTHER])


def remembered(*offers: Offer) -> Plan | None:
    """The plan that was made with the best of two sellers, asked for when these are left."""
    cache = PlanCache()
    cache.put("p", WISH, SOLD, plan_of(step("a", offer=BEST)))
    return cache.get("p", WISH, offered_from(offers))


def test_a_plan_is_forgotten_when_its_offer_is_gone_or_dearer_than_estimated() -> None:
    assert remembered(OTHER) is None
    assert remembered(BEST.model_copy(update={"price": Price(per_job=USDC.parse("0.020001"))}), OTHER) is None
    assert remembered(BEST.model_copy(update={"price": Price(per_job=EURC.parse("0.01"))})) is None


def test_a_plan_stays_when_others_change_or_its_own_offer_gets_cheaper() -> None:
    found = remembered(BEST)
    assert found is not None
    cheaper = BEST.model_copy(update={"price": Price(per_job=USDC.parse("0.01"))})
    found = remembered(cheaper, OTHER)
    assert found is not None
    assert found.step("a").offer == StepOffer.of(cheaper)


def test_a_remembered_plan_gets_the_best_seller_of_the_moment() -> None:
    better = BEST.model_copy(update={"id": "x402:better"})
    found = remembered(better, BEST)
    assert found is not None
    assert found.step("a").offer == StepOffer.of(better)


def test_forgetting_leaves_nothing_behind() -> None:
    cache = PlanCache()
    cache.put("p", WISH, SOLD, plan_of(step("a", offer=BEST)))
    assert cache.get("p", WISH, offered_from([OTHER])) is None
    assert cache.get("p", WISH, SOLD) is None


def test_the_plans_used_longest_ago_make_room() -> None:
    cache, offered = PlanCache(capacity=2), agents_offered()
    one, two, three = (Task(word) for word in ("one", "two", "three"))
    cache.put("p", one, offered, PLANNED)
    cache.put("p", two, offered, PLANNED)
    assert cache.get("p", one, offered)
    cache.put("p", three, offered, PLANNED)
    assert cache.get("p", two, offered) is None
    assert cache.get("p", one, offered)


# --- planners in turn -------------------------------------------------------------------------------------------------


class Scripted:
    """A planner that gives or raises what it is told to, one after the other."""

    def __init__(self, name: str, *answers: Plan | NexusError) -> None:
        self.name = name
        self.tasks: list[Task] = []
        self._answers = list(answers)

    async def plan(self, task: Task, offered: Offered) -> Plan:
        self.tasks.append(task)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, NexusError):
            raise answer
        return answer


def wish(max_cost: str = "1", plan: Plan | None = None) -> WorkflowRequest:
    return WorkflowRequest(user_id="ann", text="Do it", max_cost=USDC.parse(max_cost), plan=plan)


GOOD_PLAN, BAD_PLAN = plan_of(step("a")), plan_of(step("a", name="no.body"))
DEAR, CHEAP = seller("0.5"), seller("0.01")


async def test_a_planner_that_fails_gives_way_and_its_failure_is_not_remembered() -> None:
    broken, works = Scripted("one", Unavailable("down"), GOOD_PLAN), Scripted("two", GOOD_PLAN)
    planning = Planning(ScriptedHirer([CHEAP]), [broken, works])
    await planning.plan(wish())
    await planning.plan(wish())
    assert (len(broken.tasks), len(works.tasks)) == (2, 1)


async def test_the_last_planners_word_is_final() -> None:
    planning = Planning(ScriptedHirer([CHEAP]), [Scripted("one", Unavailable("down")), Scripted("two", NoOffer("no"))])
    with pytest.raises(NoOffer, match="no"):
        await planning.plan(wish())


async def test_reasons_are_given_back_so_many_times_and_a_repeat_ends_it() -> None:
    stubborn = Scripted("one", BAD_PLAN)
    with pytest.raises(InvalidPlan):
        await Planning(ScriptedHirer([CHEAP]), [stubborn]).plan(wish())
    assert [bool(task.reasons) for task in stubborn.tasks] == [False, True]
    trying = Scripted("two", *(plan_of(step("a", name=f"no.body{n}")) for n in range(9)))
    with pytest.raises(InvalidPlan):
        await Planning(ScriptedHirer([CHEAP]), [trying]).plan(wish())
    assert len(trying.tasks) == 1 + REPAIRS_MAX


async def test_a_plan_too_dear_is_asked_for_again_thriftily_and_with_the_cheapest_sellers() -> None:
    planner = Scripted("one", GOOD_PLAN)
    planned = await Planning(ScriptedHirer([DEAR, CHEAP]), [planner]).plan(wish("0.5"))
    assert planned.estimate.expected == USDC.parse("0.5"), "within the limit the best seller stays"
    two_steps = Scripted("two", plan_of(step("a"), step("b")))
    planned = await Planning(ScriptedHirer([DEAR, CHEAP]), [two_steps]).plan(wish("0.6"))
    assert planned.estimate.expected == USDC.parse("0.02")
    assert [task.thrifty for task in two_steps.tasks] == [False], "the same plan with cheaper sellers is enough"
    assert "cheapest sellers" in planned.plan.notes[-1]
    many = Scripted("three", plan_of(*(step(f"s{n}") for n in range(5))), plan_of(step("a")))
    planned = await Planning(ScriptedHirer([DEAR, CHEAP]), [many]).plan(wish("0.04"))
    assert planned.estimate.expected == USDC.parse("0.01")
    assert [task.thrifty for task in many.tasks] == [False, True], "the plan itself was too dear"
    assert "0.01 USDC is missing" in many.tasks[1].reasons[0]


async def test_when_even_thrift_is_too_dear_the_missing_amount_is_said() -> None:
    planner = Scripted("one", plan_of(*(step(f"s{n}") for n in range(5))))
    with pytest.raises(BudgetExceeded) as refused:
        await Planning(ScriptedHirer([CHEAP]), [planner]).plan(wish("0.04"))
    assert refused.value.details["needed"] == "0.050000"
    assert refused.value.details["missing"] == "0.010000"
    assert [task.thrifty for task in planner.tasks] == [False, True], "once more, and no more than that"


async def test_when_no_thrifty_plan_exists_the_first_refusal_stands() -> None:
    planner = Scripted("one", plan_of(*(step(f"s{n}") for n in range(5))), NoOffer("nothing cheaper"))
    with pytest.raises(BudgetExceeded):
        await Planning(ScriptedHirer([CHEAP]), [planner]).plan(wish("0.04"))


async def test_where_only_the_price_is_in_the_way_the_price_is_said_and_not_that_nobody_does_it() -> None:
    planner = Scripted("one", NoOffer("nothing fits"), GOOD_PLAN)
    with pytest.raises(BudgetExceeded) as refused:
        await Planning(ScriptedHirer([DEAR]), [planner]).plan(wish("0.04"))
    assert refused.value.details["needed"] == "0.500000"
    nobody = Scripted("two", NoOffer("nothing fits"))
    with pytest.raises(NoOffer, match="nothing fits"):
        await Planning(ScriptedHirer([DEAR]), [nobody]).plan(wish("0.04"))


async def test_a_plan_made_by_hand_is_checked_priced_and_asks_no_planner() -> None:
    planner = Scripted("one", Unavailable("must not be asked"))
    planning = Planning(ScriptedHirer([DEAR, CHEAP]), [planner])
    planned = await planning.plan(wish(plan=plan_of(step("a", offer=CHEAP))))
    assert planned.estimate.expected == USDC.parse("0.01")
    assert planner.tasks == []
    with pytest.raises(InvalidPlan, match="nobody sells"):
        await planning.plan(wish(plan=BAD_PLAN))


def test_without_a_planner_there_is_no_planning() -> None:
    with pytest.raises(ValueError, match="at least one planner"):
        Planning(ScriptedHirer([]), [])


def test_offers_are_grouped_in_the_order_given_and_counted_once() -> None:
    first, second, other = seller("0.05"), seller("0.01"), seller("0.02", "c.d")
    offered = offered_from([first, other, second, first])
    assert [each.id for each in offered.offers["a.b"]] == [first.id, second.id]
    assert offered.best("a.b") is first
    assert offered.best("no.body") is None
