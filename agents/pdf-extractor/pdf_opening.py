"""Opens a PDF that a stranger sent: wrong types, broken files and locked ones end in a refusal that says what to do."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pypdf
from pypdf.errors import DependencyError, LimitReachedError, PyPdfError

from agentnexus.sdk import Refusal

MAX_PAGES = 2000
PDF_MARK = b"%PDF-"
FOREIGN_MARKS = {
    b"PK\x03\x04": "a ZIP or Office file",
    b"\xd0\xcf\x11\xe0": "an old Office file",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"{\\rtf": "an RTF file",
    b"\x1f\x8b": "a gzip file",
}

# What a damaged file can raise from inside the parser besides the parser's own errors.
PARSER_FAULTS = (PyPdfError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)

# The parser reports every repaired byte; the reader hears of it once, in the warnings of the answer.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)
logging.getLogger("pdfminer").setLevel(logging.CRITICAL)


def open_pdf(data: bytes, password: str | None) -> pypdf.PdfReader:
    """A readable document. Raises `Refusal` for what is no PDF, is locked, damaged or too long."""
    # Viewers accept some bytes before the mark, so this does too.
    if PDF_MARK not in data[:1024]:
        raise Refusal(f"this is not a PDF ({_kind(data)})", next_step="send a PDF file, base64-encoded", field="file")
    with refusing_damage():
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted:
            _unlock(reader, password)
        page_count = len(reader.pages)
    if page_count == 0:
        raise Refusal("the PDF has no pages", next_step="send a PDF with at least one page", field="file")
    if page_count > MAX_PAGES:
        raise Refusal(
            f"the PDF has {page_count} pages, this agent reads at most {MAX_PAGES}",
            next_step="split the document and send the parts",
            field="file",
        )
    return reader


@contextmanager
def refusing_damage() -> Iterator[None]:
    """Turns parser faults into a refusal; decompression bombs get their own words."""
    try:
        yield
    except LimitReachedError as error:
        raise Refusal(
            "the PDF unpacks to far more data than a document needs, so it was not read",
            next_step="re-export it from its source, or send only the pages you need",
            field="file",
        ) from error
    except PARSER_FAULTS as error:
        raise Refusal(
            f"the PDF is damaged and cannot be read ({type(error).__name__})",
            next_step="open it in a viewer, save it again as PDF and send the new file",
            field="file",
        ) from error


def _unlock(reader: pypdf.PdfReader, password: str | None) -> None:
    try:
        opened = reader.decrypt(password or "")
    except (DependencyError, NotImplementedError) as error:
        raise Refusal(
            "the PDF is encrypted in a way this agent cannot open",
            next_step="remove the protection and send it again",
            field="file",
        ) from error
    if opened:
        return
    if password:
        raise Refusal("the password does not open this PDF", next_step="check the password", field="password")
    raise Refusal(
        "the PDF is encrypted and needs a password",
        next_step="send its password in `password`, or remove the protection and send it again",
        field="file",
    )


def selected_pages(selection: str | None, page_count: int) -> list[int]:
    """Page numbers (from 1) of a selection such as ``1-3,7``; all pages without one. Raises `Refusal`."""
    if not selection or not selection.strip():
        return list(range(1, page_count + 1))
    chosen: set[int] = set()
    for part in selection.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})\s*(?:-\s*(\d{0,5})\s*)?", part)
        if match is None:
            raise Refusal(
                f"cannot read the page selection {part.strip()!r}", next_step="write it like 1-3,7", field="pages"
            )
        first = int(match[1])
        last = first if match[2] is None else int(match[2] or page_count)
        if first < 1 or last < first or first > page_count:
            raise Refusal(
                f"the pages {part.strip()} do not exist, the document has {page_count}",
                next_step=f"choose pages between 1 and {page_count}",
                field="pages",
            )
        chosen.update(range(first, min(last, page_count) + 1))
    return sorted(chosen)


def _kind(data: bytes) -> str:
    for mark, name in FOREIGN_MARKS.items():
        if data.startswith(mark):
            return name
    is_page = re.match(rb"\s*<(!doctype|html)", data[:200], re.IGNORECASE)
    return "an HTML page" if is_page else "no PDF mark at its start"
