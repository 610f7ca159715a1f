"""Text of single pages, and whether a page is only a picture of text."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pypdf
from pdf_opening import PARSER_FAULTS
from pypdf.errors import LimitReachedError

MIN_READABLE_CHARACTERS = 8
MAX_IMAGES_COUNTED = 500


@dataclass(frozen=True, slots=True)
class PageText:
    """`scanned` means: pictures but (nearly) no characters. `problem` says why a page could not be read."""

    number: int
    text: str
    images: int
    scanned: bool
    problem: str = ""


def read_page(reader: pypdf.PdfReader, number: int) -> PageText:
    """One page (from 1). A damaged page gives an empty text and its problem; bombs raise `LimitReachedError`."""
    try:
        page = reader.pages[number - 1]
        check_unpacks(page)
        text = tidy(page.extract_text())
        images = count_images(page)
    except LimitReachedError:
        raise
    except PARSER_FAULTS as error:
        return PageText(number, "", 0, scanned=False, problem=type(error).__name__)
    readable = sum(1 for character in text if character.isalnum())
    return PageText(number, text, images, scanned=images > 0 and readable < MIN_READABLE_CHARACTERS)


def check_unpacks(page: pypdf.PageObject) -> None:
    """Raises `LimitReachedError` when the page's drawing unpacks beyond the parser's limit.

    Reading the text would not tell: it takes a drawing that cannot be unpacked for an empty one.
    """
    drawing = page.get_contents()
    if drawing is not None:
        drawing.get_data()


def tidy(text: str) -> str:
    """Without NULs and trailing blanks; at most one empty line in a row."""
    lines = [line.rstrip() for line in text.replace("\x00", "").replace("\r\n", "\n").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def count_images(page: pypdf.PageObject) -> int:
    """Pictures drawn on a page, forms inside it included, without decoding any."""
    counted = 0
    waiting = [page.get("/Resources")]
    seen: set[int] = set()
    while waiting and counted < MAX_IMAGES_COUNTED:
        resources = _resolve(waiting.pop())
        if not isinstance(resources, dict) or id(resources) in seen:
            continue
        seen.add(id(resources))
        drawn = _resolve(resources.get("/XObject"))
        for entry in drawn.values() if isinstance(drawn, dict) else ():
            drawable = _resolve(entry)
            if not isinstance(drawable, dict):
                continue
            if drawable.get("/Subtype") == "/Image":
                counted += 1
            elif drawable.get("/Subtype") == "/Form":
                waiting.append(drawable.get("/Resources"))
    return counted


def _resolve(value: object) -> object:
    return value.get_object() if isinstance(value, pypdf.generic.PdfObject) else value
