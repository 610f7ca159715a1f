"""Knowledge Q&A: an answer in the sources' own words, with source and page, or an honest "not found"."""

from __future__ import annotations

from answering import Found, best_sentences
from pydantic import ConfigDict, Field, model_validator
from reading import Page, read_file, read_text
from retrieval import Hit, Index, Passage, cut, question_terms, questions_in

from agentnexus.sdk import Context, File, Refusal, agent, one_of, ui
from agentnexus.sdk.answers import Envelope, Part, Source, check_size, source_of

MAX_TEXT_CHARACTERS = 20_000_000


class Document(Part):
    """A source: its text, or a file (PDF, HTML or plain text)."""

    model_config = ConfigDict(json_schema_extra=one_of("text", "file"))

    name: str = Field(min_length=1, max_length=300)
    text: str | None = Field(default=None, description="form feeds part its pages", json_schema_extra=ui("textarea"))
    file: File | None = Field(default=None, title="File", json_schema_extra=ui("file"))
    media_type: str | None = Field(default=None, max_length=100)

    @model_validator(mode="after")
    def _one_content(self) -> Document:
        if (self.text is None) == (self.file is None):
            raise ValueError("give either text or file")
        return self


class Request(Part):
    """A question and the sources that may answer it."""

    question: str = Field(min_length=2, max_length=2000, json_schema_extra=ui("textarea", order=1))
    sources: list[Document] = Field(min_length=1, max_length=100)
    top_k: int = Field(default=5, ge=1, le=50, title="Passages to return")
    min_score: float = Field(
        default=0.4, ge=0, le=1, title="Least score", description="share of the question a passage must cover"
    )


class PassageAnswer(Part):
    """A passage with its place. `score` 0..1 is the share of the question it covers."""

    source: str
    page: int | None = None
    text: str
    score: float = Field(ge=0, le=1)


class Citation(Part):
    """A sentence of the answer and where it stands."""

    sentence: str
    source: str
    page: int | None = None


class Knowledge(Part):
    """`answer` quotes the sources; None when `found` is false."""

    question: str
    answer: str | None
    found: bool
    citations: list[Citation] = Field(default_factory=list)
    passages: list[PassageAnswer] = Field(default_factory=list)


class Answer(Envelope[Knowledge]):
    """The answer, its citations and the passages behind it."""


@agent
def answer(request: Request, context: Context) -> Answer:
    """Answer a question from documents, with citations."""
    terms = question_terms(request.question)
    if not terms:
        raise Refusal(
            "the question has no word to search for", next_step="ask with the words the sources use", field="question"
        )
    pages, sources, warnings = _read(request.sources, context)
    passages = cut(pages)
    if not passages:
        raise Refusal("the sources hold no text", next_step="send sources with text", field="sources")
    context.progress(0.7, f"{len(passages)} passages")
    index = Index(passages)
    found: dict[tuple[str, Passage], Found] = {}
    hits: dict[Passage, Hit] = {}
    for question in questions_in(request.question):
        nearest = index.search(question_terms(question), request.top_k)
        good = [hit for hit in nearest if hit.score >= request.min_score]
        answers = best_sentences(question, question_terms(question), good, index)
        found |= {(item.sentence, item.passage): item for item in answers}
        hits = {hit.passage: hit for hit in nearest} | hits
        if not answers:
            about = "the question" if question == request.question else f"{question!r}"
            warnings.append(f"no passage covers {about}; the nearest ones are listed")
    shown = sorted(hits.values(), key=lambda hit: -hit.score)[: request.top_k]
    return Answer(result=_result(request.question, list(found.values()), shown), sources=sources, warnings=warnings)


def _read(documents: list[Document], context: Context) -> tuple[list[Page], list[Source], list[str]]:
    """Pages of all sources. One unreadable source among several is a warning; all of them are a refusal."""
    pages: list[Page] = []
    sources: list[Source] = []
    warnings: list[str] = []
    last: Refusal | None = None
    for number, document in enumerate(documents):
        context.progress(0.6 * number / len(documents), f"reading {document.name}")
        try:
            pages.extend(_pages(document, f"sources.{number}"))
        except Refusal as refusal:
            last = refusal
            warnings.append(f"{refusal.message}; it was left out")
            continue
        data = document.file if document.file is not None else (document.text or "").encode(errors="replace")
        sources.append(source_of(document.name, data))
    if last is not None and not sources:
        raise last
    return pages, sources, warnings


def _pages(document: Document, field: str) -> list[Page]:
    if document.file is not None:
        return read_file(
            document.name, check_size(document.file, field=f"{field}.file"), document.media_type, f"{field}.file"
        )
    text = document.text or ""
    if len(text) > MAX_TEXT_CHARACTERS:
        raise Refusal(f"{document.name} is too long", next_step="send it in parts", field=f"{field}.text")
    return read_text(document.name, text)


def _result(question: str, found: list[Found], hits: list[Hit]) -> Knowledge:
    return Knowledge(
        question=question,
        answer=" ".join(item.sentence for item in found) or None,
        found=bool(found),
        citations=[
            Citation(sentence=item.sentence, source=item.passage.source, page=item.passage.page) for item in found
        ],
        passages=[
            PassageAnswer(
                source=hit.passage.source, page=hit.passage.page, text=hit.passage.text, score=round(hit.score, 4)
            )
            for hit in hits
        ],
    )
