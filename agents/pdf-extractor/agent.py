"""PDF extractor: what a PDF says, page by page, and an honest no when it says nothing a program can read."""

from __future__ import annotations

from typing import Literal

import pypdf
from field_search import FieldValue, find_fields
from pdf_details import read_forms, read_metadata, read_outline
from pdf_opening import open_pdf, refusing_damage, selected_pages
from pdf_pages import PageText, read_page
from pdf_tables import Table, read_tables
from pydantic import Field

from agentnexus.sdk import Context, File, Refusal, agent, ui
from agentnexus.sdk.answers import Envelope, Part, check_size, source_of

TABLE_SECONDS = 60.0
PAGE_BREAK = "\f"


class Request(Part):
    """A PDF and what to read from it."""

    file: File = Field(
        title="PDF file",
        json_schema_extra={"contentMediaType": "application/pdf", **ui("file", order=1, accept="application/pdf")},
    )
    pages: str | None = Field(default=None, title="Pages", description="like 1-3,7; all when empty", max_length=500)
    want: list[Literal["text", "tables", "forms", "meta"]] = Field(
        default=["text", "tables", "forms", "meta"], title="What to read", min_length=1
    )
    password: str | None = Field(
        default=None, title="Password", description="of an encrypted PDF", json_schema_extra=ui("text", secret=True)
    )
    field_schema: dict[str, object] | None = Field(
        default=None,
        alias="schema",
        title="Fields to find",
        description="JSON Schema object; each property is searched as a labelled value",
    )


class PageAnswer(Part):
    """One page. `scanned` pages are pictures: their text needs OCR, which this agent does not do."""

    n: int = Field(ge=1, description="page number from 1")
    text: str
    tables: list[Table] = Field(default_factory=list, description="rows of cells, first row usually the header")
    images: int = Field(default=0, ge=0)
    scanned: bool = False


class OutlineEntry(Part):
    level: int = Field(ge=1)
    title: str
    page: int | None = None


class Extract(Part):
    """`text` is the whole document; pages are separated by a form feed."""

    page_count: int = Field(ge=1)
    text: str
    pages: list[PageAnswer]
    scanned_pages: list[int] = Field(default_factory=list)
    metadata: dict[str, str] = Field(default_factory=dict)
    outline: list[OutlineEntry] = Field(default_factory=list)
    forms: dict[str, str | bool | None] = Field(default_factory=dict)
    fields: dict[str, FieldValue] | None = None


class Answer(Envelope[Extract]):
    """What was read, and what could not be."""


@agent
def extract(request: Request, context: Context) -> Answer:
    """Read a PDF: text, tables, metadata, outline and forms."""
    data = check_size(request.file)
    reader = open_pdf(data, request.password)
    numbers = selected_pages(request.pages, len(reader.pages))
    texts = _read_texts(reader, numbers, context)
    warnings = _page_warnings(texts)
    if "text" in request.want:
        _refuse_unreadable(texts)
    tables: dict[int, list[Table]] = {}
    if "tables" in request.want:
        # Scans have nothing to find, and damaged pages would only fail a second time.
        readable = [page.number for page in texts if not page.scanned and not page.problem]
        tables, skipped = read_tables(
            data,
            readable,
            password=request.password,
            budget_seconds=TABLE_SECONDS,
            on_page=lambda number: context.progress(
                0.5 + 0.5 * readable.index(number) / len(readable), f"tables on page {number}"
            ),
        )
        if skipped:
            warnings.append(f"tables were not searched on pages {_listed(skipped)}: too dense, damaged or out of time")
    context.log(f"read {len(texts)} of {len(reader.pages)} pages, {sum(map(len, tables.values()))} tables")
    result = _result(request, reader, texts, tables)
    return Answer(result=result, sources=[source_of("file", data)], warnings=warnings)


def _read_texts(reader: pypdf.PdfReader, numbers: list[int], context: Context) -> list[PageText]:
    texts = []
    for done, number in enumerate(numbers):
        context.progress(0.5 * done / len(numbers), f"page {number} of {len(reader.pages)}")
        with refusing_damage():
            texts.append(read_page(reader, number))
    return texts


def _refuse_unreadable(texts: list[PageText]) -> None:
    if any(page.text for page in texts):
        return
    if any(page.scanned for page in texts):
        raise Refusal(
            "every page is a scan: the PDF holds pictures of text and no text to read",
            next_step="run it through OCR first (for example ocrmypdf) and send the result",
            field="file",
        )
    raise Refusal("there is no text on these pages", next_step="choose other pages or send another file", field="file")


def _page_warnings(texts: list[PageText]) -> list[str]:
    warnings = []
    if scanned := [page.number for page in texts if page.scanned]:
        warnings.append(f"pages {_listed(scanned)} are scans; their text needs OCR and is missing here")
    if damaged := [page.number for page in texts if page.problem]:
        warnings.append(f"pages {_listed(damaged)} are damaged and could not be read")
    return warnings


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:20]))
    return shown if len(numbers) <= 20 else f"{shown} and {len(numbers) - 20} more"


def _result(
    request: Request, reader: pypdf.PdfReader, texts: list[PageText], tables: dict[int, list[Table]]
) -> Extract:
    with_text = "text" in request.want
    whole = PAGE_BREAK.join(page.text for page in texts)
    rows = (row for found in tables.values() for table in found for row in table)
    return Extract(
        page_count=len(reader.pages),
        text=whole if with_text else "",
        pages=[
            PageAnswer(
                n=page.number,
                text=page.text if with_text else "",
                tables=tables.get(page.number, []),
                images=page.images,
                scanned=page.scanned,
            )
            for page in texts
        ],
        scanned_pages=[page.number for page in texts if page.scanned],
        metadata=read_metadata(reader) if "meta" in request.want else {},
        outline=[
            OutlineEntry(level=level, title=title, page=page)
            for level, title, page in (read_outline(reader) if "meta" in request.want else [])
        ],
        forms=read_forms(reader) if "forms" in request.want else {},
        fields=find_fields(request.field_schema, whole, rows) if request.field_schema is not None else None,
    )
