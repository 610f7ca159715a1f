"""Turns sources of any kind into pages of text."""

from __future__ import annotations

import io
import logging
import re
from dataclasses import dataclass

import pypdf
import trafilatura
from pypdf.errors import PyPdfError

from agentnexus.sdk import Refusal
from agentnexus.sdk.texts import decode_text, looks_binary

logging.getLogger("pypdf").setLevel(logging.CRITICAL)
logging.getLogger("trafilatura").setLevel(logging.CRITICAL)

MAX_PAGES = 3000
FAULTS = (PyPdfError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Page:
    """`number` from 1; None when the source has no pages."""

    source: str
    number: int | None
    text: str


def read_text(name: str, text: str) -> list[Page]:
    """Pages of a text; form feeds part them, which is how the PDF extractor's whole text keeps its pages."""
    parts = text.split("\f")
    if len(parts) == 1:
        return [Page(name, None, text)]
    return [Page(name, number, part) for number, part in enumerate(parts, start=1)]


def read_file(name: str, data: bytes, media_type: str | None, field: str) -> list[Page]:
    """Pages of a PDF, a web page or a text file. Raises `Refusal` for anything else and for what cannot be read."""
    if data[:1024].find(b"%PDF-") >= 0:
        return _read_pdf(name, data, field)
    if data.startswith(b"PK\x03\x04") or looks_binary(data):
        raise Refusal(
            f"{name} is neither a PDF, a web page nor a text file",
            next_step="export it as PDF or plain text and send that",
            field=field,
        )
    text, _ = decode_text(data)
    if media_type == "text/html" or re.match(r"\s*(<!doctype html|<html)", text, re.IGNORECASE):
        return [Page(name, None, _main_text(name, text, field))]
    return read_text(name, text)


def _main_text(name: str, html: str, field: str) -> str:
    document = trafilatura.load_html(html)
    text = None if document is None else trafilatura.extract(document, include_comments=False, favor_recall=True)
    if not text:
        raise Refusal(f"{name} is a web page without article text", next_step="send the text itself", field=field)
    return text


def _read_pdf(name: str, data: bytes, field: str) -> list[Page]:
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        locked = reader.is_encrypted and not reader.decrypt("")
        pages = [] if locked else [_pdf_page(name, reader, index) for index in range(min(len(reader.pages), MAX_PAGES))]
    except (*FAULTS, NotImplementedError) as error:
        raise Refusal(
            f"{name} is damaged and cannot be read ({type(error).__name__})",
            next_step="save it again as PDF and send the new file",
            field=field,
        ) from error
    if locked:
        raise Refusal(f"{name} is encrypted and needs a password", next_step="remove its protection first", field=field)
    if not any(page.text.strip() for page in pages):
        raise Refusal(
            f"{name} has no text to read, its pages are pictures",
            next_step="run it through OCR first (for example ocrmypdf) and send the result",
            field=field,
        )
    return pages


def _pdf_page(name: str, reader: pypdf.PdfReader, index: int) -> Page:
    return Page(name, index + 1, reader.pages[index].extract_text().replace("\x00", ""))
