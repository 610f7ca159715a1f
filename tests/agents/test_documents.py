"""Documents as strangers send them: golden answers, rotated and drawn pages, forms, web pages, long texts."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf.generic import NameObject, NumberObject
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from tests.agents.support import (
    EXAMPLES,
    drawn,
    encoded,
    example,
    load,
    locked,
    picture_page,
    refused,
    run,
    text_page,
    workbook,
)

EXTRACTOR, SUMMARIZER, KNOWLEDGE = "pdf-extractor", "content-summarizer", "knowledge-qa"
FILES = ("renewables-report.pdf", "storage-brief.pdf", "tides-article.html")
LONG_AGO = "The old mill stood at the river for three hundred years. It ground the grain of nine villages. "


class Library:
    """The example documents, cut and indexed once."""

    def __init__(self) -> None:
        load(KNOWLEDGE)
        import answering
        import reading
        import retrieval

        pages = [
            page for name in FILES for page in reading.read_file(name, (EXAMPLES / name).read_bytes(), None, "sources")
        ]
        self.parts = SimpleNamespace(answering=answering, reading=reading, retrieval=retrieval)
        self.pages = pages
        self.passages = retrieval.cut(pages)
        self.index = retrieval.Index(self.passages)

    def ask(self, question: str, *, min_score: float = 0.4) -> list[SimpleNamespace]:
        terms = self.parts.retrieval.question_terms(question)
        hits = [hit for hit in self.index.search(terms, 5) if hit.score >= min_score]
        found = self.parts.answering.best_sentences(question, terms, hits, self.index)
        return [
            SimpleNamespace(text=each.sentence, source=each.passage.source, page=each.passage.page) for each in found
        ]


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


@pytest.mark.parametrize(
    ("question", "says", "place"),
    [
        ("When did the tidal power station on the Rance open?", "1966", ("renewables-report.pdf", 2)),
        ("In what year did the Rance station open?", "1966", None),
        ("when was the Sihwa Lake plant opened", "2011", None),
        ("When did James Blyth build a wind turbine?", "1887", ("renewables-report.pdf", 3)),
        ("What year did Vindeby go into service?", "1991", ("renewables-report.pdf", 3)),
        ("When did the Vulcan Street Plant begin to sell electricity?", "1882", ("renewables-report.pdf", 2)),
        ("when did Dinorwig open", "1984", ("storage-brief.pdf", 1)),
        ("When did Bath County in Virginia open?", "1985", ("storage-brief.pdf", 1)),
        ("When did the Hornsdale Power Reserve open?", "2017", ("storage-brief.pdf", 2)),
        ("Since when are there silicon solar cells?", "1954", ("renewables-report.pdf", 4)),
        ("Who observed that light can make an electric current flow?", "Becquerel", ("renewables-report.pdf", 4)),
        ("Who built a wind turbine in Scotland?", "James Blyth", ("renewables-report.pdf", 3)),
        ("Who built a much larger wind turbine in Cleveland?", "Charles Brush", ("renewables-report.pdf", 3)),
        ("Who described the limit of a solar cell with a single junction?", "Shockley", ("renewables-report.pdf", 4)),
        ("who calculated what an ideal rotor can take", "Albert Betz", ("renewables-report.pdf", 3)),
        ("Where is the Three Gorges Dam?", "Yangtze", ("renewables-report.pdf", 2)),
        ("Where did geothermal steam light five bulbs?", "Larderello", ("renewables-report.pdf", 4)),
        ("where is the largest tidal range", "Bay of Fundy", ("tides-article.html", None)),
        ("How many generators does Itaipu have?", "20 generators", ("renewables-report.pdf", 2)),
        ("How many turbines does Hornsea One have?", "174 turbines", ("renewables-report.pdf", 3)),
        ("How large is the share of renewable electricity in 2023?", "30 percent", ("renewables-report.pdf", 1)),
        ("What was the capacity of wind power?", "one thousand gigawatts", ("renewables-report.pdf", 1)),
        ("How high is the tidal range in the Bay of Fundy?", "sixteen metres", ("tides-article.html", None)),
        ("What percent of the light did the first cell turn into electricity?", "six percent", None),
        ("Why are the tides largest at new moon?", "spring tides", ("tides-article.html", None)),
        ("What is the drawback of tidal power?", "cost", ("tides-article.html", None)),
        ("What heats the houses of Iceland?", "hot water", ("renewables-report.pdf", 4)),
        ("What are batteries useful for?", "frequency", ("storage-brief.pdf", 2)),
        ("how quickly do the turbines of Dinorwig reach full power", "16 seconds", ("storage-brief.pdf", 1)),
        ("WHO CALCULATED THE BETZ LIMIT?", "Albert Betz", ("renewables-report.pdf", 3)),
    ],
)
def test_questions_to_the_example_documents_have_their_answers(
    library: Library, question: str, says: str, place: tuple[str, int | None] | None
) -> None:
    found = library.ask(question)
    assert found, question
    text = " ".join(each.text for each in found)
    assert says in text
    if place is not None:
        assert place in [(each.source, each.page) for each in found]


@pytest.mark.parametrize(
    "question",
    [
        "Who won the football world cup in 1990?",
        "What did Napoleon eat at Waterloo?",
        "Is quantum cheese legal?",
        "How many legs does a centipede have?",
        "recipe for apple pie",
        "Who is the chief executive of Microsoft?",
        "What is the boiling point of mercury in kelvin?",
        "Wann wurde die Mauer gebaut?",
        "\u65e5\u672c\u306e\u9996\u90fd\u306f\u3069\u3053\u3067\u3059\u304b",
    ],
)
def test_questions_the_documents_do_not_answer_find_nothing(library: Library, question: str) -> None:
    assert library.ask(question, min_score=0.5) == []


def test_every_answer_is_a_sentence_of_its_page_word_for_word(library: Library) -> None:
    pages = {(page.source, page.number): re.sub(r"\s+", "", page.text) for page in library.pages}
    for question in ("When did Dinorwig open?", "Who calculated the Betz limit?", "Where is the Bay of Fundy?"):
        for each in library.ask(question):
            assert re.sub(r"\s+", "", each.text) in pages[each.source, each.page]


def test_passages_cover_every_page_and_never_cross_one(library: Library) -> None:
    assert {(passage.source, passage.page) for passage in library.passages} == {
        (page.source, page.number) for page in library.pages
    }
    for passage in library.passages:
        words = sum(part.count(" ") + 1 for part in passage.sentences)
        assert words < 3 * library.parts.retrieval.PASSAGE_WORDS


SPOKEN = """when who where how many what is the tidal power station Rance turbines capacity Betz limit largest open in
    1966 ? ."""
WORDS = st.sampled_from(SPOKEN.split())


@settings(max_examples=80, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=10))
def test_scores_are_shares_and_the_best_comes_first(library: Library, words: list[str]) -> None:
    terms = library.parts.retrieval.question_terms(" ".join(words))
    if not terms:
        return
    hits = library.index.search(terms, 7)
    assert len(hits) <= 7
    assert all(0 < hit.score <= 1 for hit in hits)
    rounded = [round(hit.score, 2) for hit in hits]
    assert rounded == sorted(rounded, reverse=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["tidal", "Rance", "unheard", "of"]), min_size=1, max_size=4))
def test_covering_more_of_the_question_never_scores_less(library: Library, words: list[str]) -> None:
    terms = library.parts.retrieval.question_terms(" ".join(words))
    half, whole = set(terms[: len(terms) // 2]), set(terms)
    if terms:
        assert library.index.coverage(terms, half) <= library.index.coverage(terms, whole)
        assert library.index.coverage(terms, whole) == pytest.approx(1)
        assert library.index.coverage(terms, set()) == 0


@pytest.mark.parametrize(
    ("sources", "field"),
    [
        ([{"name": "a", "file": encoded(b"")}], "sources.0.file"),
        ([{"name": "a", "file": encoded(b"\x89PNG" + bytes(99))}], "sources.0.file"),
        ([{"name": "a", "file": encoded(workbook({"S": [["a"], [1]]}))}], "sources.0.file"),
        ([{"name": "a", "file": encoded(drawn(picture_page))}], "sources.0.file"),
        ([{"name": "a", "file": encoded(locked(drawn(text_page("secret")), "pw"))}], "sources.0.file"),
        ([{"name": "a", "file": encoded(b"%PDF-1.4 broken")}], "sources.0.file"),
        ([{"name": "a", "file": encoded(b"<html><script>x()</script></html>")}], "sources.0.file"),
        ([{"name": "a", "text": ""}], "sources"),
        ([{"name": "a", "text": " \n\f\n "}], "sources"),
    ],
)
def test_sources_that_cannot_be_read_are_refused_at_their_place(sources: list[dict], field: str) -> None:
    error = refused(KNOWLEDGE, {"question": "which mill burned", "sources": sources})
    assert error.field == field


@pytest.mark.parametrize(
    "request_body",
    [
        {"question": "q", "sources": [{"name": "a", "text": "x"}]},
        {"question": "why", "sources": []},
        {"question": "why", "sources": [{"name": "", "text": "x"}]},
        {"question": "why", "sources": [{"name": "a"}]},
        {"question": "why", "sources": [{"name": "a", "text": "x", "file": "eA=="}]},
        {"question": "why", "sources": [{"name": "a", "text": 5}]},
        {"question": "why", "sources": [{"name": "a", "text": "x"}] * 101},
        {"question": "why", "sources": [{"name": "a", "text": "x"}], "top_k": 0},
        {"question": "why", "sources": [{"name": "a", "text": "x"}], "top_k": 51},
        {"question": "why", "sources": [{"name": "a", "text": "x"}], "min_score": 1.01},
        {"question": "why", "sources": [{"name": "a", "text": "x"}], "surprise": 1},
        {"question": "w" * 2001, "sources": [{"name": "a", "text": "x"}]},
    ],
)
def test_requests_beyond_their_limits_are_input_errors(request_body: dict) -> None:
    error = refused(KNOWLEDGE, request_body)
    assert error.code == "invalid_input"
    assert error.field


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_files_of_any_encoding_are_quoted_right(encoding: str) -> None:
    text = "Das M\u00fchlrad in K\u00f6ln wurde 1823 gebaut. Es steht heute still."
    sources = [{"name": "a.txt", "file": encoded(text.encode(encoding))}]
    result = run(KNOWLEDGE, {"question": "Wann wurde das M\u00fchlrad gebaut?", "sources": sources})["result"]
    assert result["answer"] == "Das M\u00fchlrad in K\u00f6ln wurde 1823 gebaut."


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_a_rotated_page_is_read_like_any_other(angle: int) -> None:
    reader = pypdf.PdfReader(io.BytesIO(drawn(text_page("The harbour opened in 1899.", "It closed in 1950."))))
    writer = pypdf.PdfWriter()
    writer.add_page(reader.pages[0].rotate(angle))
    buffer = io.BytesIO()
    writer.write(buffer)
    result = run(EXTRACTOR, {"file": encoded(buffer.getvalue())})["result"]
    assert " ".join(result["text"].split()) == "The harbour opened in 1899. It closed in 1950."


def test_a_font_that_is_not_embedded_does_not_hide_the_text() -> None:
    def page(canvas: Canvas) -> None:
        pdfmetrics.registerFont(UnicodeCIDFont("HeiseiMin-W3"))
        canvas.setFont("HeiseiMin-W3", 14)
        canvas.drawString(30, 200, "\u6771\u4eac\u30bf\u30ef\u30fc")
        canvas.setFont("Helvetica", 12)
        canvas.drawString(30, 100, "A line in another font.")

    result = run(EXTRACTOR, {"file": encoded(drawn(page))})["result"]
    assert "A line in another font." in result["text"]


def test_text_drawn_out_of_order_and_in_two_columns_is_all_there() -> None:
    def page(canvas: Canvas) -> None:
        for number in reversed(range(5)):
            canvas.drawString(210, 260 - 18 * number, f"right {number}")
            canvas.drawString(30, 260 - 18 * number, f"left {number}")

    text = run(EXTRACTOR, {"file": encoded(drawn(page))})["result"]["text"]
    assert sorted(re.findall(r"(?:left|right) \d", text)) == sorted(
        f"{side} {number}" for side in ("left", "right") for number in range(5)
    )


def form(canvas: Canvas) -> None:
    canvas.drawString(30, 280, "Application form")
    canvas.acroForm.textfield(name="full.name", value="Ann O'Neil", x=30, y=220, width=200, height=20)
    canvas.acroForm.textfield(name="empty", value="", x=30, y=180, width=200, height=20)
    canvas.acroForm.checkbox(name="agree", checked=True, x=30, y=140)
    canvas.acroForm.checkbox(name="spam", checked=False, x=60, y=140)
    canvas.acroForm.choice(name="colour", value="red", options=["red", "green"], x=30, y=100, width=80, height=20)


def test_a_form_gives_the_values_of_all_its_fields() -> None:
    forms = run(EXTRACTOR, {"file": encoded(drawn(form)), "want": ["forms", "text"]})["result"]["forms"]
    assert (forms["full.name"], forms["agree"], forms["spam"], forms["colour"]) == ("Ann O'Neil", True, False, "red")
    assert forms["empty"] in ("", None)


@pytest.mark.parametrize("want", ["text", "tables", "forms", "meta"])
def test_only_what_was_wanted_is_given(want: str) -> None:
    result = run(EXTRACTOR, {"file": example("renewables-report.pdf"), "want": [want]})["result"]
    assert bool(result["text"]) is (want == "text")
    assert any(page["tables"] for page in result["pages"]) is (want == "tables")
    assert bool(result["metadata"]) is (want == "meta")
    assert result["forms"] == {}


def grid(canvas: Canvas, rows: list[list[str]], *, ruled: bool) -> None:
    for row, cells in enumerate(rows):
        for column, cell in enumerate(cells):
            canvas.drawString(34 + 100 * column, 246 - 20 * row, cell)
    if ruled:
        canvas.grid([30 + 100 * n for n in range(len(rows[0]) + 1)], [260 - 20 * n for n in range(len(rows) + 1)])


CELLS = [["station", "year"], ["Rance", "1966"], ["Sihwa", "2011"]]


@pytest.mark.parametrize("ruled", [True, False])
def test_a_table_is_found_with_lines_and_without_where_a_column_holds_figures(ruled: bool) -> None:
    found = run(EXTRACTOR, {"file": encoded(drawn(lambda canvas: grid(canvas, CELLS, ruled=ruled)))})["result"]
    assert found["pages"][0]["tables"] == [CELLS]
    assert found["text"].split() == [cell for row in CELLS for cell in row]


def test_two_tables_of_a_page_stay_two_tables() -> None:
    def page(canvas: Canvas) -> None:
        grid(canvas, CELLS, ruled=True)
        canvas.translate(0, -120)
        grid(canvas, [["a", "b", "c"], ["1", "2", "3"]], ruled=True)

    tables = run(EXTRACTOR, {"file": encoded(drawn(page))})["result"]["pages"][0]["tables"]
    assert tables == [CELLS, [["a", "b", "c"], ["1", "2", "3"]]]


@pytest.mark.parametrize(
    ("selection", "pages"),
    [
        ("1", [1]), ("3,1", [1, 3]), ("1-2", [1, 2]), ("2-", [2, 3]), (" 1 - 3 ", [1, 2, 3]), ("1,1,1", [1]),
        ("1-3,2-2", [1, 2, 3]), ("2-99999", [2, 3]), ("", [1, 2, 3]), ("  ", [1, 2, 3]), ("01", [1]),
    ],
)  # fmt: skip
def test_pages_are_chosen_as_people_write_them(selection: str, pages: list[int]) -> None:
    data = drawn(*(text_page(f"This is page {number}.") for number in (1, 2, 3)))
    result = run(EXTRACTOR, {"file": encoded(data), "pages": selection, "want": ["text"]})["result"]
    assert [page["n"] for page in result["pages"]] == pages
    assert result["page_count"] == 3
    assert result["text"] == "\f".join(f"This is page {number}." for number in pages)


@pytest.mark.parametrize("selection", ["0", "4", "-1", "2-1", "a", "1,,2", "1;2", "1..3", "1-2-3", ",", "1e1"])
def test_pages_that_are_not_there_are_refused(selection: str) -> None:
    data = drawn(*(text_page(f"This is page {number}.") for number in (1, 2, 3)))
    error = refused(EXTRACTOR, {"file": encoded(data), "pages": selection})
    assert error.field == "pages"


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"invoice_number": {"type": "string"}}, {"invoice_number": "2024-17"}),
        ({"Invoice Number": {}}, {"Invoice Number": "2024-17"}),
        ({"total": {"type": "number"}}, {"total": 1234.5}),
        ({"x": {"type": "number", "title": "Total"}}, {"x": 1234.5}),
        ({"items": {"type": "integer"}}, {"items": 3}),
        ({"paid": {"type": "boolean"}}, {"paid": True}),
        ({"due": {"type": "string"}}, {"due": "1 May 2024"}),
        ({"missing": {"type": "string"}}, {"missing": None}),
        ({"total": "odd"}, {"total": "EUR 1.234,50"}),
        ({"": {}}, {"": None}),
        ({"(.*": {}}, {"(.*": None}),
    ],
)
def test_labelled_values_are_found_whatever_the_case_and_spacing(schema: dict, found: dict) -> None:
    page = text_page(
        "Invoice Number: 2024-17", "TOTAL : EUR 1.234,50", "items= 3 pieces", "Paid: yes", "Due: 1 May 2024"
    )
    body = {"file": encoded(drawn(page)), "want": ["text"], "schema": {"properties": schema}}
    assert run(EXTRACTOR, body)["result"]["fields"] == found


def test_a_document_without_pages_or_with_a_broken_tree_is_refused() -> None:
    writer = pypdf.PdfWriter()
    buffer = io.BytesIO()
    writer.write(buffer)
    assert "no pages" in refused(EXTRACTOR, {"file": encoded(buffer.getvalue())}).message
    broken = pypdf.PdfWriter(clone_from=io.BytesIO(drawn(text_page("x"))))
    broken._pages.get_object()[NameObject("/Kids")] = NumberObject(7)
    buffer = io.BytesIO()
    broken.write(buffer)
    assert refused(EXTRACTOR, {"file": encoded(buffer.getvalue())}).field == "file"


@pytest.mark.parametrize(
    ("html", "says"),
    [
        (f"<p>{LONG_AGO * 3}</p>", "old mill"),
        (f"<html><article><h1>Mill</h1><p>{LONG_AGO * 3}</p></article>", "old mill"),
        (f"<HTML><BODY><DIV><P>{LONG_AGO * 3}</P></DIV></BODY></HTML>", "old mill"),
        (f"<html><body><p>{LONG_AGO * 3}<p>{LONG_AGO}<br><br>", "nine villages"),
        (
            f"<html><body><article><p>&quot;Mill&quot; &amp; m&uuml;ller. {LONG_AGO * 3}</p></article></body></html>",
            "old mill",
        ),
        (f"\ufeff<!doctype html><html><body><article><p>{LONG_AGO * 3}</p></article></body></html>", "old mill"),
        (
            f"<html><body><article><table><tr><td><table><tr><td>x</td></tr></table></td></tr></table>"
            f"<p>{LONG_AGO * 3}</p></article></body></html>",
            "old mill",
        ),
        (f"<html><body><!-- <p>hidden</p> --><article><p>{LONG_AGO * 3}</p></article></body></html>", "old mill"),
    ],
)
def test_pages_are_read_however_they_are_written(html: str, says: str) -> None:
    result = run(SUMMARIZER, {"html": html})["result"]
    assert says in result["text"]
    assert "hidden" not in result["text"]


@pytest.mark.parametrize(
    "secret",
    ["<script>var stolen = 'token';</script>", "<style>.stolen { color: red }</style>", "<noscript>stolen</noscript>"],
)
def test_scripts_and_styles_are_no_text(secret: str) -> None:
    html = f"<html><head>{secret}</head><body>{secret}<article><p>{LONG_AGO * 4}</p></article>{secret}</body></html>"
    assert "stolen" not in run(SUMMARIZER, {"html": html})["result"]["text"]


@pytest.mark.parametrize("html", ["", " ", "<html></html>", "<script>1</script>", "plain words", "\x00\x01", "<<<>>>"])
def test_pages_without_an_article_are_refused_with_advice(html: str) -> None:
    error = refused(SUMMARIZER, {"html": html})
    assert error.field == "html"
    assert "send" in error.next_step


def test_ten_thousand_sentences_are_summarised_over_the_whole_text() -> None:
    text = " ".join(
        f"Station number {n} was built by engineer {n % 97} in the year {1900 + n % 100}." for n in range(10_000)
    )
    result = run(SUMMARIZER, {"text": text, "sentences": 10})["result"]
    assert result["sentence_count"] == 10_000
    positions = [sentence["position"] for sentence in result["key_sentences"]]
    assert len(set(positions)) == len(positions) <= 10
    assert max(positions) > 5_000 > min(positions)
    assert result["summary"] == [sentence for sentence in result["summary"] if sentence in text]


@pytest.mark.parametrize("wanted", [1, 2, 5, 20])
def test_a_summary_has_at_most_the_sentences_asked_for(wanted: int) -> None:
    report = "\n\n".join(page.extract_text() for page in pypdf.PdfReader(EXAMPLES / FILES[0]).pages)
    result = run(SUMMARIZER, {"text": report, "sentences": wanted})["result"]
    assert 1 <= len(result["summary"]) <= wanted
    assert result["text"] == " ".join(result["summary"])
    assert len(result["key_points"]) <= 5
    flat = re.sub(r"\s+", " ", report)
    assert all(sentence in flat for sentence in result["summary"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": LONG_AGO, "sentences": 0}, "sentences"),
        ({"text": LONG_AGO, "sentences": 21}, "sentences"),
        ({"text": LONG_AGO, "sentences": "five"}, "sentences"),
        ({"text": LONG_AGO, "language": "english"}, "language"),
        ({"text": LONG_AGO, "language": "EN"}, "language"),
        ({"text": 5}, "text"),
        ({"text": LONG_AGO, "more": 1}, "more"),
        ({"url": "https://x.example/" + "a" * 2000}, "url"),
        ({}, "text"),
        ({"text": LONG_AGO, "html": "<p>x</p>"}, "text"),
        ({"text": ""}, "text"),
        ({"text": "12 34 56 78. 90 12 34 56."}, "text"),
    ],
)
def test_a_summary_of_nothing_or_of_two_things_is_refused(body: dict, field: str) -> None:
    assert refused(SUMMARIZER, body).field == field


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com", "ftp://example.com", "file:///etc/passwd", "javascript:alert(1)", "example.com", "https://",
        "https://user@example.com", "https://user:pw@example.com/", "data:text/html,x", "//example.com", " ",
    ],
)  # fmt: skip
def test_only_plain_web_addresses_are_ever_fetched(url: str) -> None:
    error = refused(SUMMARIZER, {"url": url})
    assert (error.field, error.next_step) == ("url", "send an https address")
