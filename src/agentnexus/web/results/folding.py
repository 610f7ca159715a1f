"""Long parts of a result in two: what is read at once, and the rest, which a page keeps folded. Nothing is lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from agentnexus.web.results.blocks import Block
from agentnexus.web.results.markdown import Part
from agentnexus.web.views.text import plural

TEXT_SHOWN: Final = 1_600  # characters
TEXT_FOLDED: Final = 800  # fewer are not worth a fold
ROWS_SHOWN: Final = 15
ROWS_FOLDED: Final = 5
ITEMS_SHOWN: Final = 6
ITEMS_FOLDED: Final = 2


@dataclass(frozen=True, slots=True)
class Folded:
    """`rest` is of the same kind as `opening`; `label` says how much it is."""

    opening: Block
    rest: Block
    label: str


def fold(block: Block) -> Folded | None:
    """A long text, table or list in two; `None` for what is short, or cannot be cut."""
    match block.kind:
        case "text":
            return _text(block)
        case "markdown":
            return _markdown(block)
        case "table":
            cut = _cut(len(block.rows), ROWS_SHOWN, ROWS_FOLDED)
            more = plural(len(block.rows) - cut, "more row")
            return _halves(block, cut, more) if cut else None
        case "list":
            cut = _cut(len(block.children), ITEMS_SHOWN, ITEMS_FOLDED)
            return _halves(block, cut, f"{len(block.children) - cut} more") if cut else None
    return None


def _cut(length: int, shown: int, least: int) -> int:
    """Where to cut; 0 where so little would be left that it may as well be shown."""
    return shown if length - shown >= least else 0


def _halves(block: Block, cut: int, label: str) -> Folded:
    opening = replace(block, rows=block.rows[:cut], children=block.children[:cut], more=0)
    return Folded(opening, replace(block, rows=block.rows[cut:], children=block.children[cut:], first=cut + 1), label)


def _text(block: Block) -> Folded | None:
    if not _cut(len(block.text), TEXT_SHOWN, TEXT_FOLDED):
        return None
    cut = _end(block.text[:TEXT_SHOWN])
    rest = replace(block, text=block.text[cut:].lstrip("\n "))
    return Folded(replace(block, text=block.text[:cut], more=0), rest, _characters(len(rest.text)))


def _end(text: str) -> int:
    """Where its last line ends, else its last word, when that is not far from its end."""
    ends = (text.rfind(mark) for mark in ("\n", " "))
    return next((at for at in ends if at >= len(text) // 2), len(text))


def _markdown(block: Block) -> Folded | None:
    """Between two parts: a list or a program stays whole."""
    lengths = [_length(part) for part in block.parts]
    if not _cut(sum(lengths), TEXT_SHOWN, TEXT_FOLDED):
        return None
    cut, shown = 0, 0
    while cut < len(lengths) and (cut == 0 or shown + lengths[cut] <= TEXT_SHOWN):
        shown += lengths[cut]
        cut += 1
    if cut == len(lengths):
        return None
    rest = replace(block, parts=block.parts[cut:])
    return Folded(replace(block, parts=block.parts[:cut], more=0), rest, _characters(sum(lengths[cut:])))


def _length(part: Part) -> int:
    return sum(len(span.text) for line in part.lines for span in line)


def _characters(count: int) -> str:
    return f"The rest, {count:,} characters"
