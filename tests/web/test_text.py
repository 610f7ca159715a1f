"""Amounts, times and names as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from agentnexus.core.errors import NoOffer
from agentnexus.core.money import Asset, Money
from agentnexus.web.rendering import static_url
from agentnexus.web.views import text
from agentnexus.web.views.problems import problem_of
from agentnexus.web.views.runs import State
from agentnexus.web.views.schemas import schema_rows
from tests.web import samples

SATS = Asset("sat", 0, "bip122:000000000019d6689c085ae165831e93/slip44:0")


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0.02", "0.02 USDC"),
        ("0.0125", "0.0125 USDC"),
        ("5", "5.00 USDC"),
        ("0.000001", "0.000001 USDC"),
        ("0", "0.00 USDC"),
    ],
)
def test_amounts_are_exact_and_without_noise(amount: str, shown: str) -> None:
    assert text.money(samples.USDC.parse(amount)) == shown


def test_assets_without_decimals_have_none() -> None:
    assert text.money(Money(SATS, 2100)) == "2100 sat"
    assert text.money(None) == ""


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(None, ""), (3, "3 ms"), (999.4, "999 ms"), (1840, "1.8 s"), (61_000, "1 min 1 s"), (3_660_000, "1 h 1 min")],
)
def test_durations_use_the_unit_that_fits(milliseconds: float | None, shown: str) -> None:
    assert text.duration(milliseconds) == shown


@pytest.mark.parametrize(("share", "shown"), [(None, ""), (0, "0 %"), (0.984, "98 %"), (0.996, "99.6 %"), (1, "100 %")])
def test_nearly_all_is_not_shown_as_all(share: float | None, shown: str) -> None:
    assert text.percent(share) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(3, "just now"), (60, "1 min ago"), (7200, "2 h ago"), (200_000, "20 Nov 2026")]
)
def test_times_are_told_from_now(seconds: int, shown: str) -> None:
    assert text.ago(samples.START, samples.START + timedelta(seconds=seconds)) == shown


def test_long_titles_are_broken_at_words_and_cut_with_a_mark() -> None:
    assert text.wrapped("Extract text and tables from annual-report.pdf", 24) == [
        "Extract text and tables",
        "from annual-report.pdf",
    ]
    assert text.wrapped("one two three four five six", 8)[-1].endswith("…")


def test_sizes_networks_and_plurals() -> None:
    assert [text.size(n) for n in (5, 1500, 2_500_000)] == ["5 bytes", "2 KB", "2.5 MB"]
    assert text.network_name("eip155:8453") == "Base"
    assert text.network_name("eip155:31337") == "local chain (eip155:31337)"
    assert text.network_name("solana:abc") == "solana:abc"
    assert (text.plural(1, "step"), text.plural(2000, "step")) == ("1 step", "2,000 steps")


def test_a_sigil_is_the_same_everywhere_and_differs_between_agents() -> None:
    drawings = [text.sigil(agent.id) for agent in samples.AGENTS]
    assert drawings[0] == text.sigil(samples.AGENTS[0].id)
    assert len({drawing.path for drawing in drawings}) == len(drawings)


def test_errors_of_the_house_become_sentences() -> None:
    problem = problem_of(NoOffer("nobody sells this", next_step="raise the limit"))
    assert problem is not None
    assert (problem.message, problem.next_step, problem.code) == ("Nobody sells this.", "Raise the limit.", "no_offer")
    assert problem_of(None) is None
    empty = problem_of({})
    assert empty is not None
    assert empty.message == "It did not work."


def test_an_unknown_state_is_still_shown_in_words() -> None:
    assert State.of("half_done") == State("half_done", "Half done", "")


def test_schemas_are_documented_field_by_field() -> None:
    rows = {row.name: row for row in schema_rows(samples.QA_INPUT)}
    assert rows["question"].required
    assert rows["sources[].file"].kind == "file (base64)"
    assert rows["style"].kind == "one of short, full"
    assert "from 1" in rows["top_k"].description
    assert "default 5" in rows["top_k"].description


def test_static_addresses_carry_the_contents_hash() -> None:
    path, _, version = static_url("css/base.css").partition("?v=")
    assert path == "/static/css/base.css"
    assert len(version) == 10


@pytest.mark.parametrize(("said", "shown"), [
    ("share of the question", "Share of the question"), ("pdf.extract is slow", "pdf.extract is slow"),
    ("iPhone photos", "iPhone photos"), ("0x12 is no key", "0x12 is no key"), ("", ""), ("  ", "  "), ("a", "A"),
])  # fmt: skip
def test_a_sentence_begins_with_a_capital_unless_it_is_a_name(said: str, shown: str) -> None:
    assert text.capital(said) == shown


@pytest.mark.parametrize(("key", "shown"), [
    ("evm:0x9965507d1a55bcc2695c58ba16fb37d819b0a4dc", "evm:0x9965…a4dc"),
    ("PDF extractor", "PDF extractor"), ("a seller whose name is long", "a seller whose name is long"),
    ("evm", "evm"), ("", ""),
])  # fmt: skip
def test_a_long_key_is_shown_by_its_ends(key: str, shown: str) -> None:
    assert text.short_key(key) == shown


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("it comes back on 2026-12-03", "it comes back on 3 Dec 2026"),
        ("until 2026-12-13, not 2027-01-05.", "until 13 Dec 2026, not 5 Jan 2027."),
        ("at 2026-12-03 09:00 UTC", "at 3 Dec 2026 09:00 UTC"),
        ("report-2026-12-03.pdf", "report-2026-12-03.pdf"),
        ("2026-12-03T09:00", "2026-12-03T09:00"),
        ("2026-02-30 is no day, nor is 0000-01-01", "2026-02-30 is no day, nor is 0000-01-01"),
        ("", ""),
    ],
)
def test_dates_in_sentences_are_written_as_pages_write_them(said: str, shown: str) -> None:
    assert text.with_days(said) == shown


def test_a_moment_has_its_day_and_its_zone() -> None:
    moment = datetime(2026, 12, 3, 1, 5, tzinfo=timezone(timedelta(hours=2)))
    assert (text.day(moment), text.minute(moment)) == ("2 Dec 2026", "2 Dec 2026, 23:05 UTC")
