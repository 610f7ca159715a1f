"""When a schedule is due, between a form, a cron expression and a sentence."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import InvalidInput
from agentnexus.web.views.rhythms import REPEATS, WEEKDAYS, ZONES, RhythmForm, read_rhythm
from agentnexus.workflows.schedules.model import Rhythm

FORMS = (
    (RhythmForm("hourly", "00:15"), "15 * * * *", "Every hour at minute 15"),
    (RhythmForm("hourly", "00:00"), "0 * * * *", "Every hour at minute 0"),
    (RhythmForm("daily", "09:05"), "5 9 * * *", "Every day at 09:05"),
    (RhythmForm("weekdays", "17:30"), "30 17 * * mon-fri", "Monday to Friday at 17:30"),
    (RhythmForm("weekly", "00:00", weekday="sun"), "0 0 * * sun", "Every Sunday at 00:00"),
    (RhythmForm("monthly", "23:59", day="31"), "59 23 31 * *", "On day 31 of every month at 23:59"),
    (RhythmForm("cron", cron="0 9 1 1 *"), "0 9 1 1 *", "At 0 9 1 1 * (cron)"),
    (RhythmForm("cron", cron="*/15 * * * *"), "*/15 * * * *", "Every 15 minutes"),
)


@pytest.mark.parametrize(("form", "cron", "sentence"), FORMS)
def test_a_form_becomes_an_expression_and_a_sentence(form: RhythmForm, cron: str, sentence: str) -> None:
    assert form.expression == cron
    assert form.sentence == sentence
    assert read_rhythm(cron).sentence == sentence


@pytest.mark.parametrize(("cron", "repeats"), [
    ("0 9 * * 1", "weekly"), ("0 9 * * 0", "weekly"), ("0 9 * * 7", "weekly"), ("0 9 * * 1-5", "weekdays"),
    ("0 9 * * MON", "weekly"), ("0 9 13 * fri", "cron"), ("0 9 * 2 *", "cron"), ("0 9-17 * * *", "cron"),
    ("0,30 9 * * *", "cron"), ("0 9 L * *", "cron"), ("0 * 1 * *", "cron"), ("@daily", "cron"), ("", "cron"),
])  # fmt: skip
def test_an_expression_that_a_form_makes_is_shown_as_that_form(cron: str, repeats: str) -> None:
    found = read_rhythm(cron)
    assert found.repeats == repeats
    if repeats == "cron":
        assert found.expression == cron


@pytest.mark.parametrize(("form", "field"), [
    (RhythmForm("daily", "25:00"), "at"), (RhythmForm("daily", "9"), "at"), (RhythmForm("daily", ""), "at"),
    (RhythmForm("daily", "\u0660\u0669:00"), "at"), (RhythmForm("weekly", weekday="someday"), "weekday"),
    (RhythmForm("monthly", day="0"), "day"), (RhythmForm("monthly", day="32"), "day"),
    (RhythmForm("monthly", day="1e1"), "day"), (RhythmForm("never"), "repeats"),
])  # fmt: skip
def test_what_no_clock_or_calendar_has_is_refused_by_field(form: RhythmForm, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        _ = form.expression
    assert refused.value.details["field"] == field
    assert refused.value.next_step
    assert form.sentence  # whatever was typed can still be shown


@given(
    st.sampled_from([name for name, _ in REPEATS if name != "cron"]), st.times(),
    st.sampled_from([name for name, _ in WEEKDAYS]), st.integers(1, 31),
)  # fmt: skip
def test_every_form_is_due_some_day_and_reads_back_as_itself(repeats: str, at: object, weekday: str, day: int) -> None:
    form = RhythmForm(repeats, f"{at:%H:%M}", weekday, str(day))
    Rhythm(form.expression, "UTC")
    again = read_rhythm(form.expression)
    assert (again.repeats, again.expression) == (repeats, form.expression)


@given(st.text(alphabet=string.printable, max_size=40))
def test_no_text_breaks_the_reader(cron: str) -> None:
    assert read_rhythm(cron).sentence


def test_every_time_zone_on_offer_exists() -> None:
    for zone in ZONES:
        Rhythm("0 9 * * *", zone)
