"""A small, safe part of Markdown as a tree of plain text pieces: no HTML passes through, only http(s) links live."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

MAX_CHARACTERS: Final = 200_000
INLINE: Final = re.compile(
    r"`(?P<code>[^`\n]{1,500})`|\*\*(?P<strong>[^*\n]{1,500})\*\*|\*(?P<em>[^*\s][^*\n]{0,500})\*"
    r"|\[(?P<label>[^\]\n]{1,300})\]\((?P<url>[^)\s]{1,2000})\)"
)
BULLET: Final = re.compile(r"^\s{0,6}[-*+]\s+(.*)$")
NUMBER: Final = re.compile(r"^\s{0,6}\d{1,4}[.)]\s+(.*)$")
HEADING: Final = re.compile(r"^(#{1,6})\s+(.*)$")
MARKS: Final = re.compile(r"(^|\n)(#{1,6} |[-*+] |\d{1,3}[.)] |```)|\*\*[^*\n]+\*\*|\[[^\]\n]+\]\(https?://")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a line: `kind` is ``text``, ``code``, ``strong``, ``em`` or ``link`` (then `url` is http or https)."""

    kind: str
    text: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A paragraph-level piece: ``paragraph``, ``heading`` (with `level`), ``code``, ``bullets`` or ``numbers``.

    Numbers go on from `first`: lists with prose between them keep the numbers they were written with.
    """

    kind: str
    lines: tuple[tuple[Span, ...], ...]
    level: int = 0
    first: int = 1


def looks_like_markdown(text: str) -> bool:
    return MARKS.search(text[:20_000]) is not None


def parse_markdown(text: str) -> tuple[Part, ...]:
    """Parts in order. Text beyond the bound is cut: the whole of it can be downloaded."""
    parts: list[Part] = []
    lines = text[:MAX_CHARACTERS].replace("\r\n", "\n").split("\n")
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        part, at = _part(lines, at)
        parts.append(part)
    return tuple(parts)


def _part(lines: list[str], at: int) -> tuple[Part, int]:
    if lines[at].startswith("```"):
        end = next((i for i in range(at + 1, len(lines)) if lines[i].startswith("```")), len(lines))
        code = "\n".join(lines[at + 1 : end])
        return Part("code", ((Span("text", code),),)), end + 1
    heading = HEADING.match(lines[at])
    if heading:
        return Part("heading", (spans(heading[2].strip("# ")),), level=len(heading[1])), at + 1
    for kind, mark in (("bullets", BULLET), ("numbers", NUMBER)):
        if mark.match(lines[at]):
            return _items(lines, at, kind, mark)
    end = at + 1
    while end < len(lines) and lines[end].strip() and not _starts_something(lines[end]):
        end += 1
    return Part("paragraph", tuple(spans(line) for line in lines[at:end])), end


def _items(lines: list[str], at: int, kind: str, mark: re.Pattern[str]) -> tuple[Part, int]:
    found: list[tuple[Span, ...]] = []
    first = re.match(r"\s*(\d+)", lines[at])
    while at < len(lines) and (match := mark.match(lines[at])):
        found.append(spans(match[1]))
        at += 1
    return Part(kind, tuple(found), first=int(first[1]) if first else 1), at


def _starts_something(line: str) -> bool:
    return line.startswith("```") or any(mark.match(line) for mark in (HEADING, BULLET, NUMBER))


def spans(line: str) -> tuple[Span, ...]:
    """One line's pieces; a link to anything but http(s) stays the text that was written."""
    found: list[Span] = []
    end = 0
    for match in INLINE.finditer(line):
        if match.start() > end:
            found.append(Span("text", line[end : match.start()]))
        found.append(_span(match))
        end = match.end()
    if end < len(line):
        found.append(Span("text", line[end:]))
    return tuple(found)


def _span(match: re.Match[str]) -> Span:
    if match["url"] is not None:
        url = web_url(match["url"])
        return Span("link", match["label"], url) if url else Span("text", match[0])
    kind = next(name for name in ("code", "strong", "em") if match[name] is not None)
    return Span(kind, match[kind])


def web_url(text: str) -> str:
    """`text` when it is a plain http(s) address without credentials in it, else an empty string."""
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        return ""
    return text if known and not re.search(r"[\s\x00-\x1f]", text) else ""
