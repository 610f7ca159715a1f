"""The summarizer: quotes only, in order, with an honest no for pages without an article."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.sdk import Context
from agentnexus.sdk.execute import execute_blocking
from agentnexus.sdk.texts import paragraphs
from tests.agents.support import EXAMPLES, example, load, refused, run

NAME = "content-summarizer"
ARTICLE = (EXAMPLES / "tides-article.html").read_text(encoding="utf-8")


def report_text() -> str:
    return run("pdf-extractor", {"file": example("renewables-report.pdf"), "want": ["text"]})["result"]["text"]


def test_the_report_is_summarised_by_its_own_sentences_in_its_own_order() -> None:
    text = report_text()

    result = run(NAME, {"text": text, "sentences": 5})["result"]

    assert len(result["summary"]) == 5
    flat = " ".join(paragraphs(text))
    places = [flat.index(sentence) for sentence in result["summary"]]
    assert places == sorted(places)
    assert result["text"] == " ".join(result["summary"])


def test_the_summary_of_the_report_begins_with_what_it_is_about() -> None:
    result = run(NAME, {"text": report_text()})["result"]

    assert result["title"] == "Renewable power: where it stands and how it began"
    assert "3,870 gigawatts" in result["summary"][0]
    assert result["language"] == "en"
    assert "capacity" in result["keywords"]
    assert 600 < result["word_count"] < 750


def test_headings_and_table_cells_are_no_summary_sentences() -> None:
    result = run(NAME, {"text": report_text(), "sentences": 20})["result"]

    assert all(sentence.endswith((".", "!", "?")) for sentence in result["summary"])
    assert not any(
        "Limit Applies" in sentence or sentence.startswith("Renewable power:") for sentence in result["summary"]
    )


def test_a_page_gives_its_article_title_author_and_date_without_navigation() -> None:
    result = run(NAME, {"html": ARTICLE, "sentences": 3})["result"]

    assert result["title"] == "Power from the tides"
    assert result["byline"] == "AgentNexus examples"
    assert result["published_at"] == "2026-11-21"
    assert len(result["summary"]) == 3
    assert all(sentence.replace("\u2019", "'") in " ".join(ARTICLE.split()) for sentence in result["summary"])
    assert "Skip to" not in result["text"]


def test_key_sentences_come_best_first_and_without_repeats() -> None:
    repeated = "The river floods the valley in spring. " * 6 + "Farmers store the water for the dry summer months. " * 2

    result = run(NAME, {"text": repeated, "sentences": 4})["result"]

    scores = [sentence["score"] for sentence in result["key_sentences"]]
    assert len(set(result["summary"])) == len(result["summary"])
    assert scores[0] == max(scores)
    assert all(0 <= score <= 1 for score in scores)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Der Fluss tritt im Frühling über die Ufer. Die Bauern speichern das Wasser für den Sommer.", "de"),
        ("La rivière déborde au printemps. Les paysans gardent l'eau pour l'été qui vient.", "fr"),
        ("El río se desborda en primavera. Los campesinos guardan el agua para el verano seco.", "es"),
        ("河流在春天泛滥。农民们为干旱的夏天储存水。这个村庄有三百年的历史。", "zh"),
    ],
)
def test_the_language_is_told(text: str, language: str) -> None:
    assert run(NAME, {"text": text, "sentences": 1})["result"]["language"] == language


def test_a_given_language_is_kept() -> None:
    assert (
        run(NAME, {"text": "Water runs down. Fire burns up quickly.", "language": "nl"})["result"]["language"] == "nl"
    )


def test_chinese_sentences_are_split_and_ranked() -> None:
    text = "河流在春天泛滥。农民们为干旱的夏天储存水。这个村庄有三百年的历史。"

    result = run(NAME, {"text": text, "sentences": 1})["result"]

    assert result["sentence_count"] == 3
    assert len(result["summary"]) == 1


def test_a_text_shorter_than_the_summary_is_returned_whole_with_a_warning() -> None:
    answer = run(NAME, {"text": "Only one sentence stands here today.", "sentences": 5})

    assert answer["result"]["summary"] == ["Only one sentence stands here today."]
    assert "not longer" in answer["warnings"][0]


def test_long_sentences_are_cut_at_a_clause_in_the_key_points() -> None:
    long = (
        "The harbour was built in the old town, " + "where ships from many countries brought salt and cloth " * 5 + "."
    )

    points = run(NAME, {"text": long + " It burned down later on."})["result"]["key_points"]

    assert any(point.endswith(" \u2026") for point in points)
    assert all(len(point.split()) <= 25 for point in points)


@pytest.mark.parametrize(
    "value", [{}, {"text": "a b c d.", "html": "<p>a</p>"}, {"text": "x", "url": "https://example.org/"}]
)
def test_exactly_one_material_is_wanted(value: dict) -> None:
    assert "exactly one" in refused(NAME, value).next_step


@pytest.mark.parametrize("text", ["", "   ", "12 34 56", "!!! ???", "a b"])
def test_a_text_without_sentences_is_refused(text: str) -> None:
    error = refused(NAME, {"text": text})

    assert "no sentences" in error.message


@pytest.mark.parametrize(
    "html",
    ["", "<html></html>", "<html><body><script>var a = 1;</script></body></html>", "not markup at all", "\x00\x01"],
)
def test_a_page_without_an_article_is_refused(html: str) -> None:
    assert refused(NAME, {"html": html}).field == "html"


def test_deeply_nested_markup_does_not_crash() -> None:
    html = "<html><body>" + "<div>" * 50_000 + "<p>The one sentence of this page is here.</p>"

    assert refused(NAME, {"html": html}).field == "html"


def test_external_entities_in_markup_are_not_followed() -> None:
    html = (
        '<!DOCTYPE html [<!ENTITY f SYSTEM "file:///etc/hostname">]><html><body><article>'
        + "<p>The lighthouse &f; was built in the year 1812 on the northern rock.</p>" * 5
        + "</article></body></html>"
    )

    result = run(NAME, {"html": html})["result"]

    assert "The lighthouse &f; was built" in result["text"] or "The lighthouse  was built" in result["text"].replace(
        "&f;", ""
    )


@pytest.mark.parametrize(
    "url", ["http://example.org/", "file:///etc/passwd", "https://user:pw@example.org/", "ftp://x/", "https://"]
)
def test_only_plain_https_addresses_are_fetched(url: str) -> None:
    assert refused(NAME, {"url": url}).field == "url"


def test_an_address_that_cannot_be_reached_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # the discard port: nobody listens

    error = refused(NAME, {"url": "https://example.org/article"})

    assert "example.org" in error.message
    assert "[egress]" in error.next_step
    assert "`html`" in error.next_step


def test_a_text_beyond_the_limit_is_refused_with_both_numbers() -> None:
    error = refused(NAME, {"text": "The sea is wide. " * 400_000})

    assert "6,800,000" in error.message
    assert "5,000,000" in error.message


def test_a_book_sized_text_is_ranked_in_blocks() -> None:
    chapters = " ".join(
        f"Chapter {number} tells how the {animal} crossed river number {number} and met the keeper of bridge {number}."
        for number, animal in enumerate(["fox", "heron", "badger", "otter"] * 700)
    )

    result = run(NAME, {"text": chapters, "sentences": 3})["result"]

    assert result["sentence_count"] == 2800
    assert len(result["summary"]) == 3


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=600))
def test_no_text_crashes_the_agent(text: str) -> None:
    _, agent = load(NAME)

    assert execute_blocking(agent, {"text": text}, Context()).status in ("completed", "refused")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["sea", "wind", "moon", "tide", "rain", "ship"]), min_size=4, max_size=12),
    st.integers(1, 20),
)
def test_scores_sum_to_one_and_every_chosen_sentence_exists(spoken: list[str], wanted: int) -> None:
    load(NAME)
    from textrank import _similarity, centrality, rank, term_matrix

    sentences = [f"The {word} meets the {other}." for word, other in zip(spoken, reversed(spoken), strict=True)]
    scores = centrality(_similarity(term_matrix(sentences)))
    chosen = rank(sentences, wanted)

    assert abs(scores.sum() - 1) < 1e-6
    assert len({index for index, _ in chosen}) == len(chosen) <= wanted
    assert all(0 <= index < len(sentences) for index, _ in chosen)


def test_a_sentence_that_leans_on_the_one_before_is_not_torn_out_of_its_place() -> None:
    text = (
        "The report counts power stations. Solar power grew faster than any other source of power in the report. "
        "It grew by 346 gigawatts of power, more than all other power stations together. "
        "Wind power grew by 116 gigawatts of power in power stations at sea and on land."
    )
    answer = run(NAME, {"text": text, "sentences": 1})
    assert not answer["result"]["summary"][0].startswith("It ")
