"""A result value (and its JSON Schema, where there is one) → blocks to draw: text, tables, pictures, files, trees."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agentnexus.web.forms.model import join_pointer
from agentnexus.web.forms.schema import Reader, Schema, as_text
from agentnexus.web.results.files import FoundFile, file_of
from agentnexus.web.results.markdown import Part, looks_like_markdown, parse_markdown, web_url

MAX_BLOCKS: Final = 400
MAX_DEPTH: Final = 6
MAX_ROWS: Final = 200
MAX_COLUMNS: Final = 24
MAX_TEXT: Final = 20_000
MAX_CELL: Final = 300
MAX_WORD: Final = 32
CELL_DEPTH: Final = 3
QUIET: Final = ("engine", "cost")  # said small, under the result
LEADING: Final = ("answer", "summary", "title", "query_result", "charts", "findings")  # what most people came for
TRAILING: Final = ("query", "spec")  # how it was found out
SMALL: Final = frozenset({"fact", "link", "empty"})


@dataclass(frozen=True, slots=True)
class Block:
    """One thing to draw. `kind`: ``text markdown fact facts link table picture file list words group tree empty note``.

    `pointer` is where it is in the result, for downloads. `more` counts what was left out of a table or a list.
    `first` is the number of a list's first item.
    """

    kind: str
    label: str = ""
    pointer: str = ""
    text: str = ""
    parts: tuple[Part, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    numeric: tuple[bool, ...] = ()
    file: FoundFile | None = None
    children: tuple[Block, ...] = ()
    more: int = 0
    first: int = 1


def blocks_of(value: object, schema: Schema | None = None) -> tuple[Block, ...]:
    """Blocks in reading order, bounded in number, depth and size. Any JSON value is fine."""
    drawer = _Drawer(schema or {})
    if isinstance(value, Mapping) and "result" in value:
        return _gathered(drawer.envelope(value, "", drawer.root, 0))
    return _gathered(drawer.flattened(value, "", drawer.root))


def _gathered(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """All short answers as one list of facts, where the first of them is."""
    small = [block for block in blocks if block.kind in SMALL and block.label]
    facts = Block("facts", children=tuple(small))
    found: list[Block] = []
    for block in blocks:
        if block not in small:
            found.append(block)
        elif facts not in found:
            found.append(facts)
    return tuple(found)


class _Drawer:
    def __init__(self, schema: Schema) -> None:
        self._reader = Reader(schema)
        self.root = self._reader.read(schema)
        self._left = MAX_BLOCKS

    def envelope(self, value: Mapping[str, object], pointer: str, schema: Schema, depth: int) -> list[Block]:
        """``{result, engine, sources, warnings, cost}``: warnings first, the result large, the rest after it."""
        found: list[Block] = []
        warnings = value.get("warnings")
        if isinstance(warnings, list):
            found += [Block("note", text=_plain(item)[:600]) for item in warnings[:20] if item]
        found += self.flattened(value["result"], f"{pointer}/result", self._inside(schema, "result"), depth)
        for key, part in value.items():
            if key not in ("result", "warnings", *QUIET) and part not in (None, "", [], {}):
                found.append(
                    self.block(part, join_pointer(pointer, key), _words(key), self._inside(schema, key), depth + 1)
                )
        if isinstance(value.get("engine"), str):
            found.append(Block("fact", label="Engine", text=_plain(value["engine"])[:80]))
        return found

    def flattened(self, value: object, pointer: str, schema: Schema, depth: int = 0) -> list[Block]:
        """The blocks of an object without a box around them."""
        if isinstance(value, Mapping) and value and file_of(value) is None:
            return self._members(value, pointer, schema, depth)
        return [self.block(value, pointer, "", schema, depth)]

    def block(self, value: object, pointer: str, label: str, schema: Schema, depth: int) -> Block:
        """The one block for `value`."""
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            return Block("tree", label, pointer, text=_json(value))
        found = file_of(value, label or "file", encoded=schema.get("contentEncoding") == "base64")
        if found is not None:
            return Block("picture" if found.picture else "file", label, pointer, file=found)
        if isinstance(value, str):
            return _text_block(value, pointer, label)
        if isinstance(value, Mapping):
            inner = self.envelope if "result" in value and "engine" in value else self._members
            children = _gathered(inner(value, pointer, schema, depth + 1))
            return Block("group" if children else "empty", label, pointer, children=children)
        if isinstance(value, list | tuple):
            return self._sequence(value, pointer, label, schema, depth)
        return Block("empty" if value is None else "fact", label, pointer, text=_plain(value))

    def _members(self, value: Mapping[str, object], pointer: str, schema: Schema, depth: int) -> list[Block]:
        members = []
        said = [(str(name), part) for name, part in list(value.items())[:100] if part not in (None, "", [], {})]
        head = _column_names(value.get("columns"))
        rows = [name for name, part in said if name != "columns" and _has_width(part, len(head))]
        for name, part in sorted(said, key=lambda item: _rank(item[0])):
            inner = self._inside(schema, name)
            label = as_text(inner.get("title"))[:80] or _words(name)[:80]
            place = join_pointer(pointer, name)
            if isinstance(part, list) and name in rows:
                members.append(_grid(part, place, label, head))
            elif name != "columns" or not rows or part != head:  # else they are said above the rows
                members.append(self.block(part, place, label, inner, depth))
        return members

    def _sequence(self, value: Sequence[object], pointer: str, label: str, schema: Schema, depth: int) -> Block:
        if not value or all(isinstance(row, list | tuple) and not row for row in value):
            return Block("empty", label, pointer)
        if _is_table(value):
            return _table(value, pointer, label)
        if all(isinstance(row, list | tuple) and _is_flat(row) for row in value):
            return _grid(value, pointer, label)
        if len(value) > 1 and all(isinstance(item, str) and len(item) <= MAX_WORD for item in value):
            return Block("words", label, pointer, columns=tuple(map(str, value[:100])), more=max(0, len(value) - 100))
        items = self._reader.read(schema.get("items"))
        shown = value[:50]
        children = tuple(
            self.block(item, join_pointer(pointer, at), "", items, depth + 1) for at, item in enumerate(shown)
        )
        return Block("list", label, pointer, children=children, more=len(value) - len(shown))

    def _inside(self, schema: Schema, name: str) -> Schema:
        return self._reader.read(self._reader.properties(schema).get(name))


def _rank(name: str) -> int:
    """Where a member of a result stands: answers first, in the order people read them, how they came about last."""
    if name in LEADING:
        return LEADING.index(name)
    return len(LEADING) + (name in TRAILING)


def _text_block(text: str, pointer: str, label: str) -> Block:
    if web_url(text):
        return Block("link", label, pointer, text=text[:2000])
    more = max(0, len(text) - MAX_TEXT)
    if looks_like_markdown(text):
        return Block(
            "markdown", label, pointer, parts=parse_markdown(text[:MAX_TEXT]), more=max(0, len(text) - MAX_TEXT)
        )
    kind = "fact" if len(text) <= 80 and "\n" not in text else "text"
    return Block(kind if text else "empty", label, pointer, text=text[:MAX_TEXT], more=more)


def _is_flat(values: Sequence[object]) -> bool:
    return all(not isinstance(item, Mapping | list | tuple) for item in values)


def _is_table(value: Sequence[object]) -> bool:
    """Rows of one shape with at least two columns and small cells; long prose and deep parts are better as a list."""
    rows = [row for row in value[:MAX_ROWS] if isinstance(row, Mapping)]
    if len(rows) != len(value[:MAX_ROWS]) or any(file_of(row) for row in rows[:5]):
        return False
    columns = {str(key) for row in rows for key in row}
    cells = [cell for row in rows for cell in row.values()]
    long = any(isinstance(cell, str) and len(cell) > MAX_CELL for cell in cells)
    deep = any(_depth(cell) > CELL_DEPTH or _holds_rows(cell) for cell in cells)
    return 2 <= len(columns) <= MAX_COLUMNS and not long and not deep


def _holds_rows(cell: object) -> bool:
    """Whether it is a list of lists: a table of its own, which no cell can show."""
    return isinstance(cell, list) and any(isinstance(part, list) and part for part in cell)


def _depth(value: object) -> int:
    """How many lists and objects are inside each other, counted as far as it matters."""
    level, depth = [value], 0
    while depth <= CELL_DEPTH:
        level = [
            child
            for part in level
            if isinstance(part, Mapping | list)
            for child in (part.values() if isinstance(part, Mapping) else part)
        ]
        if not level:
            break
        depth += 1
    return depth


def _table(value: Sequence[object], pointer: str, label: str) -> Block:
    rows = [row for row in value[:MAX_ROWS] if isinstance(row, Mapping)]
    known = dict.fromkeys(str(key) for row in rows for key in row)
    names = [name for name in known if any(row.get(name) not in (None, "", [], {}) for row in rows)][:MAX_COLUMNS]
    cells = [[row.get(name) for name in names] for row in rows]
    return _rows_block(cells, [_words(name)[:60] for name in names], pointer, label, len(value) - len(rows))


def _grid(value: Sequence[object], pointer: str, label: str, names: Sequence[str] = ()) -> Block:
    """Rows under the given `names`, else under their own first row if that names columns, else under numbers."""
    rows = [list(row)[:MAX_COLUMNS] for row in value[: MAX_ROWS + 1] if isinstance(row, list | tuple)]
    is_headed = len(rows) > 1 and _names_columns(rows[0])
    width = max(len(row) for row in rows)
    rows = [row + [None] * (width - len(row)) for row in rows]
    more = max(0, len(value) - len(rows))
    if names:
        return _rows_block(rows, [_words(name)[:60] for name in names[:width]], pointer, label, more)
    if is_headed:
        return _rows_block(rows[1:], [_plain(cell)[:60] for cell in rows[0]], pointer, label, more)
    return _rows_block(rows, [f"Column {at + 1}" for at in range(width)], pointer, label, more)


def _names_columns(row: Sequence[object]) -> bool:
    """Whether a first row is a heading: words, each of its own; a figure or a gap is data."""
    texts = [cell.strip() for cell in row if isinstance(cell, str)]
    words = [text for text in texts if text and not re.fullmatch(r"[\d\s.,:%+/$€£-]*", text)]
    return len(words) == len(row) == len(set(words))


def _column_names(value: object) -> list[str]:
    """Names of the columns that some rows beside them have: texts, or descriptions with a ``name``; else empty."""
    names = (
        [part.get("name") if isinstance(part, Mapping) else part for part in value] if isinstance(value, list) else []
    )
    return [name for name in names if isinstance(name, str)] if all(isinstance(name, str) for name in names) else []


def _has_width(value: object, width: int) -> bool:
    """Whether it is a list of flat rows that are all so wide."""
    if not isinstance(value, list) or not width:
        return False
    return all(isinstance(row, list | tuple) and len(row) == width and _is_flat(row) for row in value)


def _rows_block(cells: list[list[object]], columns: list[str], pointer: str, label: str, more: int) -> Block:
    numeric = tuple(
        any(row[at] is not None for row in cells)
        and all(isinstance(row[at], int | float | None) and not isinstance(row[at], bool) for row in cells)
        for at in range(len(columns))
    )
    rows = tuple(tuple(_cell(cell)[:MAX_CELL] for cell in row) for row in cells)
    return Block("table", label, pointer, columns=tuple(columns), rows=rows, numeric=numeric, more=more)


def _plain(value: object) -> str:
    match value:
        case bool():
            text = "yes" if value else "no"
        case float():
            large = 1e5 <= abs(value) < 1e15
            text = f"{value:,.2f}".rstrip("0").rstrip(".") if large else f"{value:,.6g}"
        case int():
            text = f"{value:,}" if value.bit_length() < 128 else f"a number of {value.bit_length()} bits"
        case str():
            text = value
        case None:
            text = ""
        case _:
            text = _json(value)[:MAX_CELL]
    return text


def _cell(value: object) -> str:
    """A small part as one line: ``mean: 3, max: 9`` or ``North, South``."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(str(key))}: {_cell(part)}" for key, part in value.items() if part is not None)
    if isinstance(value, list):
        return ", ".join(
            _cell(part.get("value", next(iter(part.values()), ""))) if isinstance(part, Mapping) else _cell(part)
            for part in value
        )
    return _plain(value)


def _json(value: object) -> str:
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return "(nested too deeply to show: download it instead)"
    return text[:MAX_TEXT]


def _words(name: str) -> str:
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:]
