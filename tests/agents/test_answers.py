"""The parts of the text agents one by one: passages, ranking, answers, TextRank, and the common envelope."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.sdk import Refusal
from agentnexus.sdk.answers import MAX_FILE_BYTES, Envelope, OutsideCost, Part, Source, check_size, source_of
from agentnexus.sdk.texts import is_ended, words
from tests.agents.support import load

HARBOUR = (
    "The harbour of Esbjerg was founded in 1868. It is the largest on the North Sea coast of Denmark. "
    "Fish was its trade for a century. Today it ships wind turbines. The lighthouse was built by Hans Jensen in 1914."
)


class TestEnvelope:
    def test_files_within_the_limit_pass_and_others_say_both_sizes(self) -> None:
        assert check_size(b"x") == b"x"
        with pytest.raises(Refusal, match="empty") as empty:
            check_size(b"", field="sources.0.file")
        assert empty.value.field == "sources.0.file"
        with pytest.raises(Refusal, match=r"2\.0 MB, this agent reads at most 1 MB"):
            check_size(bytes(2 * 1024 * 1024), limit_bytes=1024 * 1024)
        assert MAX_FILE_BYTES == 32 * 1024 * 1024

    def test_sources_are_fingerprinted(self) -> None:
        source = source_of("a", b"")

        assert source.sha256 == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        assert (source.url, source.fetched_at) == (None, None)

    def test_an_answer_is_by_rules_free_of_outside_cost_and_strict(self) -> None:
        class Found(Part):
            value: int

        answer = Envelope[Found](result=Found(value=1))

        assert answer.model_dump() == {
            "result": {"value": 1},
            "engine": "rules",
            "sources": [],
            "warnings": [],
            "cost": {"amount_minor": 0, "currency": "USDC"},
        }
        with pytest.raises(ValueError, match="extra"):
            Source.model_validate({"name": "a", "surprise": 1})
        with pytest.raises(ValueError, match="greater than or equal"):
            OutsideCost(amount_minor=-1)


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("It rained.", True),
        ("Did it?", True),
        ('He said "no."', True),
        ("(It did.)", True),
        ("村庄很老。", True),
        ("A heading", False),
        ("14,000", False),
        ("", False),
    ],
)
def test_headings_and_cells_do_not_end_like_sentences(text: str, ended: bool) -> None:
    assert is_ended(text) is ended


@pytest.fixture(scope="module")
def knowledge() -> SimpleNamespace:
    load("knowledge-qa")
    import answering
    import reading
    import retrieval

    return SimpleNamespace(answer=answering, read=reading, find=retrieval)


@pytest.fixture(scope="module")
def summaries() -> SimpleNamespace:
    load("content-summarizer")
    import agent
    import page_text
    import textrank

    return SimpleNamespace(agent=agent, page=page_text, rank=textrank)


class TestKnowledge:
    def ask(self, knowledge: SimpleNamespace, question: str, text: str = HARBOUR) -> list[str]:
        passages = knowledge.find.cut(knowledge.read.read_text("s", text))
        index = knowledge.find.Index(passages)
        terms = knowledge.find.question_terms(question)
        return [
            item.sentence for item in knowledge.answer.best_sentences(question, terms, index.search(terms, 5), index)
        ]

    @pytest.mark.parametrize(
        ("question", "says"),
        [
            ("When was the harbour founded?", "founded in 1868"),
            ("Who built the lighthouse?", "Hans Jensen"),
            ("What was its trade for a century?", "Fish was"),
            ("What does it ship today?", "wind turbines"),
        ],
    )
    def test_the_sentence_fits_what_the_question_asks_for(
        self, knowledge: SimpleNamespace, question: str, says: str
    ) -> None:
        assert says in self.ask(knowledge, question)[0]

    def test_a_sentence_that_points_back_brings_the_one_it_points_to(self, knowledge: SimpleNamespace) -> None:
        found = self.ask(knowledge, "Which is the largest on the North Sea coast?")

        assert [sentence.split()[0] for sentence in found] == ["The", "It"]

    def test_no_shared_word_is_no_answer(self, knowledge: SimpleNamespace) -> None:
        assert self.ask(knowledge, "How do penguins sleep?") == []

    @pytest.mark.parametrize(
        ("question", "fits"),
        [
            ("When did it open?", "in May 1903"),
            ("How many turbines?", "24 turbines"),
            ("Who built it?", "by Hans Jensen"),
            ("Where is it?", "near Esbjerg"),
        ],
    )
    def test_each_kind_of_question_expects_its_form(self, knowledge: SimpleNamespace, question: str, fits: str) -> None:
        import re

        pattern = knowledge.answer.expected_form(question)

        assert pattern is not None
        assert re.search(pattern, fits)
        assert knowledge.answer.expected_form("Why is it so?") is None

    def test_passages_never_cross_pages_and_neighbours_share_a_sentence(self, knowledge: SimpleNamespace) -> None:
        page = " ".join(f"Sentence number {number} has exactly seven words." for number in range(60))

        passages = knowledge.find.cut(knowledge.read.read_text("s", f"{page}\f{page}"))

        assert {passage.page for passage in passages} == {1, 2}
        first, second = passages[0], passages[1]
        assert second.sentences[0] == first.sentences[-1]
        assert all(len(words(passage.text)) < 120 for passage in passages)

    def test_a_wall_of_text_without_stops_is_cut(self, knowledge: SimpleNamespace) -> None:
        passages = knowledge.find.cut(knowledge.read.read_text("s", "word " * 1000))

        assert len(passages) > 5
        assert sum(len(words(passage.text)) for passage in passages) >= 1000

    def test_headings_keep_their_own_line_in_a_passage(self, knowledge: SimpleNamespace) -> None:
        passage = knowledge.find.Passage("s", 1, ("Water power", "It is old.", "It is good."))

        assert passage.text == "Water power\nIt is old. It is good."

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.sampled_from(["rain", "snow", "hail", "wind", "fog", "sun"]), min_size=1, max_size=6))
    def test_coverage_is_a_share_and_whole_for_a_text_with_all_words(
        self, knowledge: SimpleNamespace, asked: list[str]
    ) -> None:
        passages = knowledge.find.cut(knowledge.read.read_text("s", "Rain and snow fell. The wind brought fog."))
        index = knowledge.find.Index(passages)
        terms = knowledge.find.question_terms(" ".join(asked))

        assert 0 <= index.coverage(terms, {"rain", "snow"}) <= 1
        assert index.coverage(terms, set(terms)) == pytest.approx(1)
        assert index.coverage(terms, set()) == 0

    def test_words_the_sources_never_use_weigh_most(self, knowledge: SimpleNamespace) -> None:
        index = knowledge.find.Index(knowledge.find.cut(knowledge.read.read_text("s", HARBOUR)))

        assert index.weight("penguin") > index.weight("harbour") > 0


class TestSummaries:
    def test_the_sentence_that_most_others_speak_of_is_first(self, summaries: SimpleNamespace) -> None:
        sentences = [
            "The harbour ships turbines and fish.",
            "Turbines leave the harbour every week.",
            "Fish left the harbour for a century.",
            "My aunt likes yellow curtains.",
        ]

        ranked = summaries.rank.rank(sentences, 4)

        assert ranked[0][0] == 0
        assert ranked[0][1] == pytest.approx(1)
        assert ranked[-1][0] == 3

    def test_near_repeats_are_left_out(self, summaries: SimpleNamespace) -> None:
        ranked = summaries.rank.rank(["The sea is wide and blue."] * 5 + ["The mountain is high."], 6)

        assert sorted(index for index, _ in ranked) == [0, 5]

    def test_chosen_sentences_come_from_all_over_a_long_text(self, summaries: SimpleNamespace) -> None:
        topics = ("harbour ships", "wind turbines", "tidal power", "solar cells")
        sentences = [
            f"{topic.capitalize()} of kind {number} were described by the report in detail {number}."
            for topic in topics
            for number in range(25)
        ]

        parts_of_text = {index // 25 for index, _ in summaries.rank.rank(sentences, 4)}

        assert len(parts_of_text) == 4

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.text("abcde ", max_size=20), max_size=15))
    def test_rows_have_unit_length_or_none(self, summaries: SimpleNamespace, sentences: list[str]) -> None:
        lengths = np.linalg.norm(summaries.rank.term_matrix(sentences), axis=1)

        assert all(math.isclose(length, 1) or length == 0 for length in lengths)

    def test_nothing_to_rank_is_nothing_ranked(self, summaries: SimpleNamespace) -> None:
        assert summaries.rank.rank([], 5) == []

    @pytest.mark.parametrize(
        ("text", "title"),
        [
            ("Power from the tides\n\nTwice a day the sea rises.", "Power from the tides"),
            ("Twice a day the sea rises. It falls too.", None),
            ("Just words", None),
            ("", None),
        ],
    )
    def test_a_first_line_that_stands_apart_is_the_title(
        self, summaries: SimpleNamespace, text: str, title: str | None
    ) -> None:
        assert summaries.agent.first_heading(text) == title

    def test_keywords_are_content_words_by_frequency(self, summaries: SimpleNamespace) -> None:
        assert summaries.agent.keywords(["The tide turns the tide mill.", "A mill stands by the tide in 1966."])[
            :2
        ] == [
            "tide",
            "mill",
        ]

    @pytest.mark.parametrize("html", ["", "  ", "<html></html>", "<script>x()</script>"])
    def test_pages_without_an_article_are_refused(self, summaries: SimpleNamespace, html: str) -> None:
        with pytest.raises(Refusal):
            summaries.page.read_html(html)

    def test_a_page_beyond_the_limit_is_refused(
        self, summaries: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(summaries.page, "MAX_HTML_CHARACTERS", 100)

        with pytest.raises(Refusal, match="at most 100"):
            summaries.page.read_html("x" * 101)


class TestFetching:
    """Against a page server on this machine, through the same client settings."""

    @pytest.fixture(autouse=True)
    def fetching(self) -> SimpleNamespace:
        load("content-summarizer")
        import fetching

        return SimpleNamespace(module=fetching)

    def read(self, fetching: SimpleNamespace, status: int, body: bytes) -> object:
        import httpx

        request = httpx.Request("GET", "https://page.test/a")
        return fetching.module._read(httpx.Response(status, content=body, request=request))

    def test_a_page_is_decoded_and_stamped(self, fetching: SimpleNamespace) -> None:
        fetched = self.read(fetching, 200, "<p>Größe</p>".encode("cp1252"))

        assert fetched.html == "<p>Größe</p>"
        assert fetched.fetched_at.endswith("Z")
        assert fetched.url == "https://page.test/a"

    @pytest.mark.parametrize(
        ("status", "body", "says"),
        [(404, b"", "status 404"), (500, b"", "status 500"), (200, bytes(5000), "not lead to a web page")],
    )
    def test_what_is_no_page_is_refused(self, fetching: SimpleNamespace, status: int, body: bytes, says: str) -> None:
        with pytest.raises(Refusal, match=says):
            self.read(fetching, status, body)

    def test_a_page_that_never_ends_is_cut_off(
        self, fetching: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fetching.module, "MAX_PAGE_BYTES", 1000)

        with pytest.raises(Refusal, match="larger than"):
            self.read(fetching, 200, b"x" * 2000)
