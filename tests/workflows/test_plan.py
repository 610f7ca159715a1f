"""Plans that cannot run are refused before money moves, each with every reason; sound ones pass."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import BudgetExceeded, InvalidPlan
from agentnexus.core.offers import Capability, Offer, Price
from agentnexus.workflows.estimate import check_cost, estimate
from agentnexus.workflows.model import FileRef, Plan, PlanStep, StepOffer, StepRetry, Undo
from agentnexus.workflows.plan import Offered, check_plan, cycle, faults, layers, with_dependencies, with_offers
from agentnexus.workflows.planning import offered_from

from .catalogue import USDC, agent_offers, agents_offered, offer_of

FILE = FileRef(name="a.pdf", size_bytes=1, blob="sha256:" + "0" * 64)
READ = PlanStep(id="read", title="", capability="pdf.extract", input={"file": {"$file": 0}})
SUM = PlanStep(
    id="sum", title="", capability="text.summarize", depends_on=("read",),
    input={"text": {"$step": "read", "path": "result.text"}},
)  # fmt: skip


def reasons(*steps: PlanStep, files: tuple[FileRef, ...] = (FILE,), output: object = None) -> str:
    plan = Plan(planner="test", steps=steps, output=output)
    with pytest.raises(InvalidPlan) as refusal:
        check_plan(plan, files, agents_offered())
    return str(refusal.value.details["reasons"])


def changed(step: PlanStep, **fields: object) -> PlanStep:
    return PlanStep.model_validate({**step.model_dump(), **fields})


def test_a_sound_plan_passes() -> None:
    check_plan(
        Plan(planner="t", steps=(READ, SUM), output={"$step": "sum", "path": "result.summary"}),
        (FILE,),
        agents_offered(),
    )


def test_no_steps() -> None:
    assert "no steps" in reasons()


def test_more_than_a_hundred_steps() -> None:
    many = [changed(READ, id=f"s{n}") for n in range(101)]
    assert "101 steps" in reasons(*many)


def test_two_steps_of_one_name() -> None:
    assert "two steps are called read" in reasons(READ, READ)


def test_a_cycle_is_shown() -> None:
    one, two = changed(READ, id="one", depends_on=("two",)), changed(READ, id="two", depends_on=("one",))
    assert "one → two → one" in reasons(one, two)


def test_a_step_that_waits_for_itself() -> None:
    assert "read → read" in reasons(changed(READ, depends_on=("read",)))


def test_an_unknown_dependency() -> None:
    assert "depends on ghost" in reasons(changed(READ, depends_on=("ghost",)))


def test_a_capability_nobody_sells() -> None:
    assert "needs wallet.drain, which nobody sells" in reasons(changed(READ, capability="wallet.drain"))


def test_an_undo_nobody_sells() -> None:
    assert "undo of read needs money.back" in reasons(changed(READ, undo=Undo(capability="money.back")))


def test_an_offer_that_is_gone() -> None:
    gone = StepOffer(id="gone", market="x402", seller="evm:0x", price=USDC.parse("1"))
    assert "an offer that is gone" in reasons(changed(READ, offer=gone))


def test_a_file_that_was_not_given() -> None:
    assert "uses file 3, 1 were given" in reasons(changed(READ, input={"file": {"$file": 3}}))


def test_a_reference_to_an_unknown_step() -> None:
    assert "uses step ghost" in reasons(READ, changed(SUM, input={"text": {"$step": "ghost"}}))


def test_a_reference_without_a_dependency() -> None:
    assert "without depending on it" in reasons(READ, changed(SUM, depends_on=()))


def test_a_reference_to_nothing() -> None:
    wrong = changed(SUM, input={"text": {"$step": "read", "path": "result.txet"}})
    assert "step read does not give 'result.txet'" in reasons(READ, wrong)


def test_a_reference_of_the_wrong_type() -> None:
    number = changed(SUM, input={"text": {"$step": "read", "path": "result.page_count"}})
    assert "is integer, string is asked" in reasons(READ, number)


def test_a_file_where_text_is_asked() -> None:
    assert "is a file, text is asked" in reasons(changed(SUM, depends_on=(), input={"text": {"$file": 0}}))


def test_text_where_a_file_is_asked() -> None:
    assert "is text, a file is asked" in reasons(changed(READ, input={"file": {"$file": 0, "as": "text"}}))


def test_a_value_the_seller_refuses() -> None:
    assert "is greater than the maximum of 20" in reasons(
        changed(SUM, depends_on=(), input={"text": "x", "sentences": 500})
    )


def test_a_missing_and_an_unknown_field_are_both_named() -> None:
    found = reasons(changed(READ, input={"flie": {"$file": 0}}))
    assert "input.file is missing" in found
    assert "input.flie is not known" in found


def test_a_wrong_type_deep_inside_a_list() -> None:
    ask = PlanStep(
        id="ask", title="", capability="knowledge.answer", depends_on=("read",),
        input={"question": "why?", "sources": [{"name": "a", "text": {"$step": "read", "path": "result.pages"}}]},
    )  # fmt: skip
    assert "input.sources.0.text: read.result.pages is array" in reasons(READ, ask)


def test_an_output_that_no_step_gives() -> None:
    assert "the output uses 'nope'" in reasons(READ, output={"x": {"$step": "read", "path": "nope"}})
    assert "the output uses step ghost" in reasons(READ, output={"$step": "ghost"})


def test_malformed_references_are_refused() -> None:
    for value in ({"$file": "0"}, {"$file": 0, "as": "png"}, {"$file": True}, {"$step": 5}, {"$step": "a", "x": 1}):
        assert "reference" in reasons(changed(READ, input={"file": value}))


def test_absurd_nesting_is_refused() -> None:
    deep: object = 1
    for _ in range(60):
        deep = [deep]
    assert "nested too deeply" in reasons(changed(READ, input={"file": deep}))


def test_all_reasons_are_given_at_once() -> None:
    found = reasons(changed(READ, capability="no.such", depends_on=("ghost",)), changed(SUM, depends_on=()))
    assert "ghost" in found
    assert "no.such" in found
    assert "without depending" in found


def test_references_become_dependencies() -> None:
    assert with_dependencies(changed(SUM, depends_on=())).depends_on == ("read",)


def test_offers_are_the_best_or_the_cheapest() -> None:
    capability = Capability(name="a.b")
    best, cheap = offer_of(capability, "0.05", suffix="-best"), offer_of(capability, "0.01", suffix="-cheap")
    offered = offered_from([best, cheap])
    plan = Plan(planner="t", steps=(PlanStep(id="s", title="", capability="a.b"),))
    chosen = [with_offers(plan, offered, cheapest=cheapest).steps[0].offer for cheapest in (False, True)]
    assert [offer.id if offer else None for offer in chosen] == [best.id, cheap.id]


def test_steps_without_schemas_are_left_to_the_seller() -> None:
    offered = offered_from([offer_of(Capability(name="a.b"), "0.01"), offer_of(Capability(name="c.d"), "0.01")])
    one = PlanStep(id="one", title="", capability="a.b", input={"anything": {"$file": 0}})
    two = PlanStep(
        id="two", title="", capability="c.d", input={"x": {"$step": "one", "path": "y.0.z"}}, depends_on=("one",)
    )
    check_plan(Plan(planner="t", steps=(one, two)), (FILE,), offered)


# ---- estimate ----


def priced(scheme: str, *prices: str) -> Offered:
    offers = [offer_of(Capability(name="a.b"), price, suffix=str(number)) for number, price in enumerate(prices)]
    rails = ({"scheme": scheme, "network": "eip155:31337"},)
    return offered_from([offer.model_copy(update={"rails": rails, "latency_ms": 1500}) for offer in offers])


def one_step(attempts: int = 3) -> Plan:
    return Plan(planner="t", steps=(PlanStep(id="s", title="", capability="a.b", retry=StepRetry(attempts=attempts)),))


def test_the_worst_case_is_the_dearest_fallback() -> None:
    found = estimate(one_step(), priced("exact", "0.01", "0.05", "0.03"), USDC.zero())
    assert found.expected == USDC.parse("0.01")
    assert found.worst_case == USDC.parse("0.05")
    assert [offer.price for offer in found.steps[0].alternatives] == [USDC.parse("0.05"), USDC.parse("0.03")]
    assert found.fees == {"eip155:31337": USDC.zero()}
    assert found.seconds == 1.5


def test_where_money_goes_first_every_attempt_may_be_lost() -> None:
    assert estimate(one_step(4), priced("prepaid", "0.01"), USDC.zero()).worst_case == USDC.parse("0.04")


def test_fees_of_the_rail_are_added_up() -> None:
    plan = Plan(planner="t", steps=tuple(PlanStep(id=f"s{n}", title="", capability="a.b") for n in range(3)))
    found = estimate(plan, priced("exact", "0.01"), USDC.zero(), lambda _offer: USDC.parse("0.001"))
    assert found.fees == {"eip155:31337": USDC.parse("0.003")}


def test_the_time_is_that_of_the_longest_path_and_unknown_when_one_is() -> None:
    steps = [
        PlanStep(id="a", title="", capability="a.b"),
        PlanStep(id="b", title="", capability="a.b", depends_on=("a",)),
    ]
    steps.append(PlanStep(id="c", title="", capability="a.b", depends_on=("a",)))
    plan = Plan(planner="t", steps=tuple(steps))
    assert estimate(plan, priced("exact", "0.01"), USDC.zero()).seconds == 3.0
    assert estimate(plan, offered_from([offer_of(Capability(name="a.b"), "0.01")]), USDC.zero()).seconds is None


def test_over_the_limit_is_refused_with_what_is_missing() -> None:
    found = estimate(one_step(), priced("exact", "0.01"), USDC.zero())
    check_cost(found, USDC.parse("0.01"))
    with pytest.raises(BudgetExceeded) as refusal:
        check_cost(found, USDC.parse("0.009"))
    assert refusal.value.details == {
        "limit": "max_cost", "left": "0.009000", "needed": "0.010000", "missing": "0.001000",
    }  # fmt: skip


# ---- properties ----

NAMES = [f"s{n}" for n in range(8)]
GRAPHS = st.lists(st.lists(st.sampled_from(NAMES), max_size=4, unique=True), min_size=1, max_size=8)


def graph(edges: list[list[str]]) -> Plan:
    steps = [PlanStep(id=f"s{n}", title="", capability="a.b", depends_on=tuple(d)) for n, d in enumerate(edges)]
    return Plan(planner="t", steps=tuple(steps))


@given(GRAPHS)
def test_a_plan_either_has_layers_or_a_true_cycle_or_a_hole(edges: list[list[str]]) -> None:
    plan = graph(edges)
    known = {step.id for step in plan.steps}
    waits = {step.id: set(step.depends_on) for step in plan.steps}
    loop = cycle(plan)
    if loop:
        assert loop[0] == loop[-1]
        assert all(after in waits[before] for before, after in itertools.pairwise(loop))
        return
    if any(not deps <= known for deps in waits.values()):
        return
    depth = {step: level for level, layer in enumerate(layers(plan)) for step in layer}
    assert set(depth) == known
    assert all(depth[dependency] < depth[step] for step, deps in waits.items() for dependency in deps)


@given(GRAPHS)
def test_faults_are_found_exactly_when_the_graph_is_unsound(edges: list[list[str]]) -> None:
    plan = graph(edges)
    offered = offered_from([offer_of(Capability(name="a.b"), "0.01")])
    known = {step.id for step in plan.steps}
    hole = any(set(step.depends_on) - known for step in plan.steps)
    assert bool(list(faults(plan, (), offered))) == (hole or bool(cycle(plan)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5)
    | st.fixed_dictionaries({"$file": st.integers(-2, 3)})
    | st.fixed_dictionaries({"$step": st.sampled_from(["read", "sum", "ghost"]), "path": st.text("ab.0", max_size=6)}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["file", "text", "pages", "want", "x"]), JSON, max_size=4), JSON)
def test_whatever_a_planner_writes_the_check_answers_with_reasons_or_passes(
    given_input: dict[str, object], output: object
) -> None:
    step = changed(READ, input=given_input)
    for reason in faults(Plan(planner="t", steps=(step,), output=output), (FILE,), agents_offered()):
        assert isinstance(reason, str)
        assert reason


def test_prices_of_meters_count_with_their_maximum() -> None:
    base: Offer = agent_offers()[0]
    assert isinstance(base.price, Price)
    assert estimate(Plan(planner="t", steps=(READ,)), agents_offered(), USDC.zero()).expected == base.price.maximum
