"""Content summarizer: the sentences that carry a text, quoted, never rewritten."""

from __future__ import annotations

from collections import Counter

from fetching import fetch_page
from languages import detect_language
from page_text import PageText, read_html
from pydantic import ConfigDict, Field
from textrank import rank

from agentnexus.sdk import Context, Refusal, agent, one_of, ui
from agentnexus.sdk.answers import Envelope, Part, Source, source_of
from agentnexus.sdk.texts import STOP_WORDS, is_ended, paragraphs, sentences, words

MAX_TEXT_CHARACTERS = 5_000_000
MAX_SENTENCES = 20_000
POINT_WORDS = 24
KEYWORDS = 10
TITLE_CHARACTERS = 120


class Request(Part):
    """One of `text`, `html` or `url`."""

    model_config = ConfigDict(json_schema_extra=one_of("text", "html", "url"))

    text: str | None = Field(default=None, title="Text", json_schema_extra=ui("textarea", order=1))
    html: str | None = Field(default=None, title="HTML of a page", json_schema_extra=ui("textarea", order=2))
    url: str | None = Field(
        default=None,
        title="Web address",
        description="fetched only when the operator allows its host",
        max_length=2000,
        json_schema_extra=ui("text", order=3),
    )
    sentences: int = Field(default=5, ge=1, le=20, title="Sentences in the summary")
    language: str | None = Field(
        default=None, title="Language", description="ISO 639-1 code; detected when empty", pattern="^[a-z]{2}$"
    )


class Sentence(Part):
    """A sentence of the original; `position` counts from 0."""

    text: str
    position: int = Field(ge=0)
    score: float = Field(ge=0, le=1)


class Summary(Part):
    """`summary` in the order of the original, `key_sentences` the best first, `text` the summary as one paragraph."""

    title: str | None = None
    byline: str | None = None
    published_at: str | None = None
    language: str | None = None
    summary: list[str]
    key_points: list[str]
    key_sentences: list[Sentence]
    keywords: list[str] = Field(default_factory=list)
    text: str
    word_count: int = Field(ge=0)
    sentence_count: int = Field(ge=0)


class Answer(Envelope[Summary]):
    """The summary and where the text came from."""


@agent
def summarize(request: Request, context: Context) -> Answer:
    """Summarise a text or web page by its own key sentences."""
    page, source = _material(request)
    if len(page.text) > MAX_TEXT_CHARACTERS:
        raise Refusal(
            f"the text has {len(page.text):,} characters, this agent reads at most {MAX_TEXT_CHARACTERS:,}",
            next_step="send it in parts",
            field="text",
        )
    warnings: list[str] = []
    found = spoken_sentences(page.text)
    if len(found) > MAX_SENTENCES:
        warnings.append(f"only the first {MAX_SENTENCES:,} of {len(found):,} sentences were read")
        found = found[:MAX_SENTENCES]
    if not found:
        raise Refusal("there are no sentences in this text", next_step="send running text", field="text")
    if len(found) <= request.sentences:
        warnings.append("the text is not longer than the summary asked for")
    context.progress(0.3, f"{len(found)} sentences")
    # Five at least, because the key points are taken from the same ranking.
    ranked = rank(found, max(request.sentences, 5))
    context.progress(0.9, "sentences ranked")
    chosen = sorted(index for index, _ in ranked[: request.sentences])
    result = Summary(
        title=page.title or first_heading(page.text),
        byline=page.byline,
        published_at=page.published_at,
        language=request.language or detect_language(" ".join(found[:40])),
        summary=[found[index] for index in chosen],
        key_points=[shorten(found[index]) for index, _ in ranked[:5]],
        key_sentences=[
            Sentence(text=found[index], position=index, score=round(min(score, 1.0), 4))
            for index, score in ranked[: request.sentences]
        ],
        keywords=keywords(found),
        text=" ".join(found[index] for index in chosen),
        word_count=len(words(page.text)),
        sentence_count=len(found),
    )
    return Answer(result=result, sources=[source], warnings=warnings)


def _material(request: Request) -> tuple[PageText, Source]:
    given = [name for name in ("text", "html", "url") if getattr(request, name) is not None]
    if len(given) != 1:
        named = " and ".join(given) or "nothing"
        raise Refusal(f"got {named}", next_step="send exactly one of text, html or url", field="text")
    if request.url is not None:
        fetched = fetch_page(request.url)
        page = read_html(fetched.html, fetched.url)
        origin = source_of(fetched.url, fetched.body)
        return page, origin.model_copy(update={"url": fetched.url, "fetched_at": fetched.fetched_at})
    if request.html is not None:
        return read_html(request.html), source_of("html", request.html.encode(errors="replace"))
    text = request.text or ""
    return PageText(text=text), source_of("text", text.encode(errors="replace"))


def spoken_sentences(text: str) -> list[str]:
    """Sentences fit for a summary. Where most end with a stop, lines that do not are headings and table rows."""
    found = [sentence for sentence in sentences(text) if _says_something(sentence)]
    ended = [sentence for sentence in found if is_ended(sentence)]
    return ended if len(ended) * 2 > len(found) else found


def _says_something(sentence: str) -> bool:
    """Page numbers and short labels have few words or mostly digits."""
    found = words(sentence)
    cjk = any("\u3040" <= character <= "\u9fff" for character in sentence)
    letters = sum(character.isalpha() for character in sentence)
    return (len(found) >= 4 or (cjk and len(found) >= 3)) and letters * 2 > len(sentence.replace(" ", ""))


def first_heading(text: str) -> str | None:
    """The first line when it stands apart from the text as a title does."""
    first = next(iter(paragraphs(text)), "")
    is_title = 0 < len(first) <= TITLE_CHARACTERS and not is_ended(first)
    return first if is_title and first != text.strip() else None


def shorten(sentence: str) -> str:
    """The sentence, cut at a clause when it is long."""
    spoken = sentence.split(" ")
    if len(spoken) <= POINT_WORDS:
        return sentence
    head = " ".join(spoken[:POINT_WORDS])
    clause = max(head.rfind(mark) for mark in (";", ":", ", ", " \u2013 "))
    return (head[:clause] if clause > len(head) // 2 else head).rstrip(" ,;:\u2013") + " \u2026"


def keywords(found: list[str]) -> list[str]:
    """The content words used most, as written in lower case."""
    spoken = (word for sentence in found for word in words(sentence))
    counts = Counter(word for word in spoken if word not in STOP_WORDS and len(word) > 2 and not word.isdigit())
    return [word for word, _ in counts.most_common(KEYWORDS)]
