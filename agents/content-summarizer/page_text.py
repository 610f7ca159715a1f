"""The main text of a web page and what the page says about itself."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

import trafilatura

from agentnexus.sdk import Refusal

logging.getLogger("trafilatura").setLevel(logging.CRITICAL)

MAX_HTML_CHARACTERS = 8_000_000
# What is copied out of a page, or out of an editor, has no <html> around it.
FRAGMENT = re.compile(r"\s*<(?:p|div|article|section|main|h[1-6])\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PageText:
    text: str
    title: str | None = None
    byline: str | None = None
    published_at: str | None = None


def read_html(html: str, url: str | None = None) -> PageText:
    """Main text, title, author and date of a page. Raises `Refusal` when there is no article in it."""
    if len(html) > MAX_HTML_CHARACTERS:
        raise Refusal(
            f"the page has {len(html):,} characters, this agent reads at most {MAX_HTML_CHARACTERS:,}",
            next_step="send the part you need",
            field="html",
        )
    # Parsed by lxml without network and without external entities; scripts in it never run.
    document = trafilatura.load_html(html) if html.strip() else None
    if document is None and FRAGMENT.match(html):
        document = trafilatura.load_html(f"<html><body>{html}</body></html>")
    found = None
    if document is not None:
        found = trafilatura.bare_extraction(
            document, url=url, include_comments=False, include_tables=False, with_metadata=True
        )
    text = (found.text or "").strip() if found is not None and not isinstance(found, dict) else ""
    if found is None or isinstance(found, dict) or not text:
        raise Refusal(
            "no article text was found in this page",
            next_step="check that this is the page itself and not a login or script shell, or send its text",
            field="html",
        )
    return PageText(text=text, title=found.title, byline=found.author, published_at=found.date)
