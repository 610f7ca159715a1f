"""Amounts, times, sizes and log lines at the edges, where rounding or strange data would say something wrong."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import BudgetExceeded, NexusError
from agentnexus.core.events import Event, EventName
from agentnexus.core.money import Asset, Money
from agentnexus.ledger.limits import Rejection
from agentnexus.web.adapters.events import MAX_LINES, RunLog
from agentnexus.web.adapters.lifting import lift_files
from agentnexus.web.views import text
from agentnexus.web.views.problems import problem_of, sentence
from agentnexus.web.views.runs import FINAL, STATES, State
from agentnexus.web.views.schemas import schema_rows
from agentnexus.workflows.model import StepStatus, WorkflowStatus
from tests.web.samples import START, USDC

ETHER = Asset("ETH", 18, "eip155:1/slip44:60")


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (0, "0 ms"),
        (999.49, "999 ms"),
        (999.5, "1.0 s"),
        (1000, "1.0 s"),
        (59_949, "59.9 s"),
        (59_950, "1 min 0 s"),
        (60_000, "1 min 0 s"),
        (3_599_400, "59 min 59 s"),
        (3_599_500, "1 h 0 min"),
        (90_000_000, "25 h 0 min"),
    ],
)
def test_a_duration_never_reads_sixty_seconds_or_a_thousand_milliseconds(milliseconds: float, shown: str) -> None:
    assert text.duration(milliseconds) == shown


@given(st.floats(0, 1e9))
def test_durations_stay_within_their_unit(milliseconds: float) -> None:
    shown = text.duration(milliseconds)
    limits = {"ms": 1000, "s": 60, "min": 60}
    for number, unit in re.findall(r"([\d.]+) (ms|s|min)", shown):
        assert float(number) < limits[unit]


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 KB"),
        (999_499, "999 KB"),
        (999_500, "1.0 MB"),
        (12_345_678, "12.3 MB"),
    ],
)
def test_sizes_change_their_unit_before_they_read_a_thousand(count: int, shown: str) -> None:
    assert text.size(count) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "0 %"), (0.001, "0 %"), (0.5, "50 %"), (0.9899, "99 %"), (0.99, "99.0 %"), (0.9999999, "99.9 %"),
     (1.0, "100 %")],
)  # fmt: skip
def test_only_all_is_shown_as_all(share: float, shown: str) -> None:
    assert text.percent(share) == shown


@given(st.floats(0, 1))
def test_a_hundred_percent_means_every_one(share: float) -> None:
    assert (text.percent(share).startswith("100")) == (share == 1)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-100, "just now"),
        (0, "just now"),
        (44.9, "just now"),
        (45, "1 min ago"),
        (89, "1 min ago"),
        (91, "2 min ago"),
        (59.4 * 60, "59 min ago"),
        (59.6 * 60, "1 h ago"),
        (23.4 * 3600, "23 h ago"),
        (23.6 * 3600, "20 Nov 2026"),
    ],
)
def test_times_never_read_sixty_minutes_or_twenty_four_hours(seconds: float, shown: str) -> None:
    day = START.replace(hour=0)
    assert text.ago(day, day + timedelta(seconds=seconds)) == shown


@given(st.integers(0, 10**30), st.sampled_from([USDC, ETHER, Asset("sat", 0, "bip122:0/slip44:0")]))
def test_an_amount_as_shown_parses_back_to_the_very_same_amount(atomic: int, asset: Asset) -> None:
    shown = text.money(Money(asset, atomic))
    amount, _, symbol = shown.rpartition(" ")
    assert symbol == asset.symbol
    assert asset.parse(amount).atomic == atomic


@pytest.mark.parametrize(
    ("atomic", "shown"),
    [(1, "0.000000000000000001 ETH"), (10**18, "1.00 ETH"), (15 * 10**17, "1.50 ETH"), (-(10**18), "-1.00 ETH")],
)
def test_small_and_negative_amounts_are_exact(atomic: int, shown: str) -> None:
    assert text.money(Money(ETHER, atomic)) == shown


@pytest.mark.parametrize(
    ("network", "shown"),
    [
        ("eip155:8453", "Base"),
        ("eip155:84532", "Base Sepolia"),
        ("eip155:31337", "local chain (eip155:31337)"),
        ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"),
        ("", ""),
    ],
)
def test_networks_are_called_what_people_call_them(network: str, shown: str) -> None:
    assert text.network_name(network) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps"), (1234, "1,234 steps")])
def test_plurals(count: int, shown: str) -> None:
    assert text.plural(count, "step") == shown


@given(st.text(max_size=200), st.integers(-5, 40), st.integers(1, 3))
def test_wrapped_text_keeps_to_its_box(words: str, columns: int, lines: int) -> None:
    found = text.wrapped(words, columns, lines)
    assert len(found) <= lines
    assert all(len(line) <= max(columns, 4) for line in found)


@given(st.text(max_size=60))
def test_a_sigil_has_four_different_dots_in_its_box(identifier: str) -> None:
    drawn = text.sigil(identifier)
    dots = {*drawn.dots, drawn.lit}
    assert len(dots) == 4
    assert all(0 < x < 32 and 0 < y < 32 for x, y in dots)
    assert drawn == text.sigil(identifier)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("", ""),
        ("   ", ""),
        ("no offers", "No offers."),
        ("is it on?", "Is it on?"),
        ("done!", "Done!"),
        ("Already right.", "Already right."),
        ("eip155:1 is not allowed", "eip155:1 is not allowed."),
        ("0xabc is gone", "0xabc is gone."),
        ("https://a.example is down", "https://a.example is down."),
        ("seller, buyer and market", "Seller, buyer and market."),
        ("über alles", "Über alles."),
    ],
)
def test_messages_become_sentences_and_ids_keep_their_spelling(raw: str, said: str) -> None:
    assert sentence(raw) == said


def test_a_problem_is_made_from_an_error_or_from_its_json_alike() -> None:
    error = BudgetExceeded("this would cost too much", next_step="allow more", limit="max_cost")
    assert problem_of(error) == problem_of(error.to_json())
    assert problem_of(None) is None
    nothing = problem_of({})
    assert nothing is not None
    assert nothing.message == "It did not work."
    strange = problem_of({"message": None, "next_step": 5, "code": ["x"]})
    assert strange is not None
    assert strange.next_step == "5."


@pytest.mark.parametrize("status", [*WorkflowStatus, *StepStatus], ids=lambda status: status.value)
def test_every_status_has_words_of_its_own(status: WorkflowStatus | StepStatus) -> None:
    shown = State.of(status.value)
    assert status.value in STATES
    assert shown.label[0].isupper()
    assert shown.tone in ("", "done", "busy", "wait", "fail", "back")


def test_pages_and_engine_agree_on_what_is_final() -> None:
    assert {status.value for status in WorkflowStatus if status.final} == FINAL


def event(number: int, name: EventName, **data: object) -> Event:
    return Event(sequence=number, subject="wf_1", name=name, data=data, at=START)


def lines(*events: Event, **titles: str) -> list[str]:
    log = RunLog(titles=titles, assets={USDC.caip19: USDC})
    for each in events:
        log.feed(each)
    return [line.text for line in log.lines]


@pytest.mark.parametrize("name", [each for each in EventName if each is not EventName.STEP_PROGRESS])
def test_every_event_makes_a_line_that_begins_with_its_step_or_a_word(name: EventName) -> None:
    (alone,) = lines(event(1, name))
    assert alone
    if name.value.startswith(("step.", "payment.")):
        (of_step,) = lines(event(1, name, step="s1"), s1="Read the report")
        assert of_step.startswith("Read the report: ")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"asset": USDC.caip19, "amount": "20000"}, "Step: seller paid, 0.02 USDC"),
        ({"asset": USDC.caip19, "amount": "²"}, "Step: seller paid"),
        ({"asset": USDC.caip19, "amount": "9" * 5000}, "Step: seller paid"),
        ({"asset": USDC.caip19, "amount": -5}, "Step: seller paid"),
        ({"asset": "unknown", "amount": "5"}, "Step: seller paid"),
        ({"asset": None, "amount": None}, "Step: seller paid"),
    ],
)
def test_a_payment_is_told_with_its_amount_or_without_but_never_wrong(data: dict[str, object], said: str) -> None:
    assert lines(event(1, EventName.PAYMENT_SETTLED, step="s1", **data), s1="Step") == [said]


def test_progress_without_words_is_no_line_and_with_words_it_is() -> None:
    assert lines(event(1, EventName.STEP_PROGRESS, step="s1", progress=0.5)) == []
    assert lines(event(1, EventName.STEP_PROGRESS, step="s1", message="page 3")) == ["s1: page 3"]


def test_an_error_is_told_by_its_message_and_not_at_any_length() -> None:
    (line,) = lines(event(1, EventName.STEP_FAILED, step="s1", error={"message": "x" * 5000}))
    assert line.startswith("s1: failed, xxx")
    assert len(line) < 400


def test_titles_come_from_the_plan_and_nonsense_in_it_is_skipped() -> None:
    plan = event(1, EventName.WORKFLOW_PLAN_READY, steps=[{"id": "s1", "title": "Read"}, "nonsense", 5])
    assert lines(plan, event(2, EventName.STEP_STARTED, step="s1")) == ["The plan is ready", "Read: started"]
    assert lines(event(1, EventName.WORKFLOW_PLAN_READY, steps="nonsense")) == ["The plan is ready"]


def test_an_old_event_is_not_told_again() -> None:
    first, second = event(1, EventName.WORKFLOW_PLANNING), event(2, EventName.WORKFLOW_EXECUTING)
    assert lines(first, second, first, second) == ["Making a plan", "Started"]


def test_only_the_last_lines_are_kept() -> None:
    log = RunLog()
    for number in range(1, MAX_LINES + 50):
        log.feed(event(number, EventName.STEP_RETRYING, step=f"s{number}"))
    assert len(log.lines) == MAX_LINES
    assert log.lines[-1].sequence == MAX_LINES + 49


def test_a_refunded_step_says_where_its_money_is() -> None:
    told = lines(event(1, EventName.STEP_COMPENSATED, step="s1", how="refunded"))
    assert told == ["s1: stopped, nothing is held for it any more"]
    assert lines(event(1, EventName.STEP_COMPENSATED, step="s1", how="undone")) == ["s1: undone"]


FILE: dict[str, object] = {"type": "string", "contentEncoding": "base64"}


@pytest.mark.parametrize(
    ("schema", "value", "lifted", "names"),
    [
        ({"properties": {"file": FILE}}, {"file": "aGk="}, {"file": {"$file": 0}}, ["file"]),
        ({"properties": {"file": FILE}}, {"file": "aGk=", "name": "a.txt"}, {"file": {"$file": 0}, "name": "a.txt"},
         ["a.txt"]),
        ({"properties": {"file": FILE}}, {"file": "not base64!"}, {"file": "not base64!"}, []),
        ({"properties": {"text": {"type": "string"}}}, {"text": "aGk="}, {"text": "aGk="}, []),
        ({"properties": {"all": {"type": "array", "items": FILE}}}, {"all": ["aGk=", "eA=="]},
         {"all": [{"$file": 0}, {"$file": 1}]}, ["file", "file"]),
        ({"properties": {"s": {"type": "array", "items": {"properties": {"file": FILE, "name": {}}}}}},
         {"s": [{"file": "aGk=", "name": "one"}, {"name": "two"}]},
         {"s": [{"file": {"$file": 0}, "name": "one"}, {"name": "two"}]}, ["one"]),
        ({}, {"file": "aGk="}, {"file": "aGk="}, []),
        ({"properties": {"file": FILE}}, {"file": 5, "more": None}, {"file": 5, "more": None}, []),
    ],
)  # fmt: skip
def test_files_are_taken_out_where_the_schema_says_they_are(
    schema: dict[str, object], value: dict[str, object], lifted: dict[str, object], names: list[str]
) -> None:
    found = lift_files({"type": "object", **schema}, value)
    assert found.value == lifted
    assert [name for name, _ in found.files] == names


@given(st.dictionaries(st.text(max_size=5), st.recursive(st.none() | st.text(max_size=9), st.lists, max_leaves=5)))
def test_without_a_schema_a_value_is_left_as_it_is(value: dict[str, object]) -> None:
    found = lift_files({}, value)
    assert found.value == value
    assert found.files == []


def test_schemas_are_documented_with_limits_choices_and_inner_fields() -> None:
    rows = schema_rows(
        {
            "type": "object",
            "required": ["file"],
            "properties": {
                "file": {**FILE, "description": "The report"},
                "style": {"enum": ["short", "long"], "default": "short"},
                "count": {"type": "integer", "minimum": 1, "maximum": 9},
                "pages": {"type": "array", "items": {"properties": {"text": {"type": "string", "format": "uri"}}}},
                "place": {"type": "object", "properties": {"city": {"title": "City", "maxLength": 5}}},
                "any": {},
            },
        }
    )
    said = {row.name: (row.kind, row.required, row.description) for row in rows}
    assert said == {
        "file": ("file (base64)", True, "The report"),
        "style": ("one of short, long", False, "default short"),
        "count": ("integer", False, "from 1 · to 9"),
        "pages": ("list of anything", False, ""),
        "pages[].text": ("uri", False, ""),
        "place": ("object", False, ""),
        "place.city": ("anything", False, "City · at most characters: 5"),
        "any": ("anything", False, ""),
    }


def test_a_schema_without_end_is_documented_in_part() -> None:
    assert schema_rows({"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}})
    assert len(schema_rows({"properties": {f"p{n}": {} for n in range(1000)}})) == 80


def test_a_limit_of_ones_own_budget_comes_with_the_command_that_raises_it() -> None:
    refused = Rejection("user:local", "per_payment", USDC.parse("1"), USDC.parse("2.5")).to_error()
    for error in (refused, refused.to_json()):
        shown = problem_of(error)
        assert shown is not None
        assert shown.next_step == "Choose something cheaper, or raise it: `nexus budget --set per_payment=2.5`."


def test_every_error_of_the_house_can_be_shown() -> None:
    def all_of(kind: type[NexusError]) -> list[type[NexusError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in all_of(child))]

    for kind in all_of(NexusError):
        if kind.__module__ == NexusError.__module__:
            shown = problem_of(kind("it broke", next_step="mend it"))
            assert shown is not None
            assert (shown.message, shown.next_step, shown.code) == ("It broke.", "Mend it.", str(kind.code))
