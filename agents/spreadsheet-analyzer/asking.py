"""Turns a question into a query plan by rules: which columns, values, amounts and order its words name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from plan import Aggregate, Cell, Comparison, Filter, Group, Measure, Order, Period, Plan
from profiling import kind_of

from agentnexus.sdk.texts import stem, words

AGGREGATES: tuple[tuple[str, Aggregate], ...] = (
    (r"\b(average|mean|avg|typical)\b", "mean"),
    (r"\bmedian\b", "median"),
    (r"\b(total|sum|overall|altogether|combined)\b", "sum"),
    (r"\b(different|distinct|unique)\b", "unique"),
    (r"\b(how many|number of|count)\b", "count"),
    (r"\b(highest|largest|biggest|maximum|max|greatest|longest|tallest|latest|newest)\b", "max"),
    (r"\b(lowest|smallest|minimum|min|shortest|earliest|oldest|cheapest)\b", "min"),
)
MOST = r"\b(most|highest|largest|biggest|greatest|best|strongest|busiest|top|maximum|max|longest|tallest|expensive)\b"
LEAST = r"\b(least|fewest|lowest|smallest|worst|weakest|quietest|slowest|bottom|minimum|min|shortest|cheapest)\b"
# What makes a stretch of time a group: "by month", "by region and month", "our best month".
WHEN = (
    r"\b(?:by|per|each|every|which|what|(?:by|per) \w+ and|"
    r"(?:best|worst|strongest|weakest|busiest|quietest|slowest)(?: \w+)?)"
)
PERIODS: tuple[tuple[str, Period], ...] = (
    (rf"{WHEN} years?\b|\b(yearly|annual|annually)\b", "year"),
    (rf"{WHEN} quarters?\b|\bquarterly\b", "quarter"),
    (rf"{WHEN} months?\b|\bmonthly\b|\bover time\b|\btrend\b", "month"),
    (rf"{WHEN} weeks?\b|\bweekly\b", "week"),
    (rf"{WHEN} days?\b|\bdaily\b", "day"),
)
COMPARISONS: tuple[tuple[str, Comparison], ...] = (
    (r"at least|not? (?:less|fewer|smaller|lower) than|not (?:under|below|before)|from|since", ">="),
    (r"at most|not? (?:more|greater|larger|higher) than|not (?:over|above|after)|up to", "<="),
    (r"(?<!\bno )(?<!\bnot )(?:over|above|(?:more|greater|larger|higher) than|exceeding|after)", ">"),
    (r"(?<!\bno )(?<!\bnot )(?:under|below|(?:less|fewer|smaller|lower) than|before)", "<"),
)
# Words that name a column without using its name.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "sold": ("sales", "sold", "quantity", "units", "revenue", "amount"),
    "sell": ("sales", "quantity", "units", "revenue", "amount"),
    "earned": ("revenue", "income", "profit", "earnings", "sales"),
    "cost": ("cost", "price", "amount"),
    "expensive": ("price", "cost"),
    "cheapest": ("price", "cost"),
    "populous": ("population",),
    "people": ("population",),
    "heavy": ("mass", "weight"),
    "power": ("capacity", "power"),
    "big": ("area", "size", "capacity"),
    "opened": ("year", "opened"),
    "built": ("year", "built"),
    "started": ("year", "started"),
}
_UNITS = "mw gw kw kwh mwh twh usd eur gbp pct percent km km2 m kg t c f s ms mib gib no id"
UNIT_WORDS = frozenset(_UNITS.split())
FILTER_VALUES_MAX = 5000
GROUP_PHRASE = r"\b(?:by|per|for each|for every|each|every|which|what|(?:top|bottom) \d+) ((?:\w+[ _-]?){1,4})"
IN_TIME = r"\b(?:latest|newest|earliest|oldest)\b"
NOT = r"(?:not|outside|except|excluding|without|besides|other than|apart from)"
_CALENDAR = """january february march april may june july august september october november december monday tuesday
    wednesday thursday friday saturday sunday i mw gw kwh mwh twh usd eur gbp"""
CALENDAR = frozenset(_CALENDAR.split())
WHICH_ONE = r"\b(which|what) (?!is\b|was\b|are\b|were\b)\w+|\bwho\b"
TOP_PHRASE = r"\b(?:top|first|bottom) (\d{1,3})\b|\b(\d{1,3}) (?:most|largest|highest|biggest|smallest|lowest)\b"


@dataclass(frozen=True, slots=True)
class Named:
    """A column the question names: with how many words, and where the last of them stands."""

    column: str
    words: int
    at: int


def plan_for(question: str, frame: pl.DataFrame) -> Plan | None:
    """A plan, or None when the question does not name enough of the table to be sure."""
    text = " ".join(question.split())
    if _names_a_stranger(text, frame):
        return None
    bounds = number_filters(text, frame)
    filters = [*value_filters(text, frame), *bounds]
    named = named_columns(text, frame)
    groups = _groups(text, frame, named)
    grouped = {group.column for group in groups}
    candidates = [item.column for item in named if item.column not in grouped]
    # "Total units where the price is over 2" is about units, although more of it is said of the price.
    unbound = [name for name in candidates if name not in {bound.column for bound in bounds}]
    about = unbound if any(frame[name].dtype.is_numeric() for name in unbound) else candidates
    measure = _measure(text, frame, about, bool(groups))
    # Better no answer than one to another question: something of the table must have been named.
    if measure is None or (not groups and not filters and not _asks_for_aggregate(text)):
        return None
    order, limit = _order(text, bool(groups))
    return Plan(filters=filters, group_by=groups, measure=measure, order=order, limit=limit, pivot=False)


def column_words(name: str) -> list[str]:
    """Stems of a column's name; units do not have to be said."""
    parted = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    stems = [stem(word) for word in words(re.sub(r"[_\W]+", " ", parted))]
    return [part for part in stems if part not in UNIT_WORDS] or stems


def named_columns(text: str, frame: pl.DataFrame) -> list[Named]:
    """Columns whose name, or a synonym, is said; best match first, and of equals the one said in more words."""
    said = {stem(word): position for position, word in enumerate(words(text))}
    found: list[tuple[float, Named]] = []
    for name in frame.columns:
        parts = column_words(name)
        places = [said[part] for part in parts if part in said]
        if len(places) * 2 >= len(parts) and places:
            found.append((len(places) / len(parts), Named(name, len(places), max(places))))
    if not any(frame[item.column].dtype.is_numeric() for _, item in found):
        found.extend(_by_synonym(text, frame))
    found.sort(key=lambda pair: (-pair[0], -pair[1].words, pair[1].at))
    return [item for _, item in found]


def _by_synonym(text: str, frame: pl.DataFrame) -> list[tuple[float, Named]]:
    found = []
    for position, word in enumerate(words(text)):
        for meant in SYNONYMS.get(word, ()):
            column = next((name for name in frame.columns if stem(meant) in column_words(name)), None)
            if column is not None:
                found.append((0.4, Named(column, 1, position)))
                break
    return found


def value_filters(text: str, frame: pl.DataFrame) -> list[Filter]:
    """Conditions for cell values that the question quotes; several of one column become `in`."""
    lower = f" {' '.join(words(text))} "
    filters: list[Filter] = []
    for name in frame.columns:
        if kind_of(frame[name]) != "text" or frame[name].n_unique() > FILTER_VALUES_MAX:
            continue
        values = frame[name].drop_nulls().unique(maintain_order=True).to_list()
        spoken = {value: " ".join(words(value)) for value in values}
        said = _said_values(spoken, lower)
        if not said or set(words(said[0])) <= set(words(name)):
            continue
        unwanted = [value for value in said if re.search(rf" {NOT}(?: \w+){{0,3}}? {re.escape(spoken[value])} ", lower)]
        filters.extend(Filter(column=name, op="!=", value=value) for value in unwanted)
        wanted = [value for value in said if value not in unwanted]
        if wanted:
            value: str | list[Cell] = wanted[0] if len(wanted) == 1 else list[Cell](wanted)
            filters.append(Filter(column=name, op="=" if len(wanted) == 1 else "in", value=value))
    return filters


def _names_a_stranger(text: str, frame: pl.DataFrame) -> bool:
    """Whether a name is said that the table does not have: an answer about all rows would be one about others."""
    spoken = text.split(" ")
    names = [word for word in spoken[1:] if word[:1].isupper() and word[1:2].islower()]
    if not names or len(names) * 2 > len(spoken):
        return False
    known = set(CALENDAR)
    for name in frame.columns:
        known.update(words(name), column_words(name))
        if kind_of(frame[name]) == "text":
            for value in frame[name].drop_nulls().unique().head(FILTER_VALUES_MAX).to_list():
                known.update(words(value))
    said = {part for name in names for part in words(name)}
    return any(part not in known and stem(part) not in known for part in said)


def _said_values(spoken: dict[str, str], lower: str) -> list[str]:
    """Values that appear as whole words; "York" inside a said "New York" does not count."""
    said = [value for value, phrase in spoken.items() if len(phrase) > 1 and f" {phrase} " in lower]
    return [
        value
        for value in said
        if not any(other != value and f" {spoken[value]} " in f" {spoken[other]} " for other in said)
    ]


def number_filters(text: str, frame: pl.DataFrame) -> list[Filter]:
    """Conditions such as ``capacity over 1000``, ``since 2015``, ``in 2020``, ``between 10 and 20``."""
    filters: list[Filter] = []
    between = re.search(r"\bbetween (-?[\d.,]+) and (-?[\d.,]+)", text, re.IGNORECASE)
    if between:
        low, high = _number(between[1]), _number(between[2])
        return [
            *_number_filter(text, frame, ">=", low, between.start()),
            *_number_filter(text, frame, "<=", high, between.start()),
        ]
    for pattern, op in COMPARISONS:
        for match in re.finditer(rf"\b(?:{pattern})\s+(-?\d[\d.,]*)", text, re.IGNORECASE):
            filters.extend(_number_filter(text, frame, op, _number(match[1]), match.start()))
    for match in re.finditer(r"\b(?:in|during|for|of) ((?:1[5-9]|20)\d\d)\b", text, re.IGNORECASE):
        filters.extend(_number_filter(text, frame, "=", float(match[1]), match.start()))
    return filters


def _number(text: str) -> float:
    return float(text.replace(",", "").rstrip(".") or 0)


def _number_filter(text: str, frame: pl.DataFrame, op: Comparison, value: float, at: int) -> list[Filter]:
    """On the numeric column said last before the number, or on the year of a date for numbers that look like one."""
    is_year = 1500 <= value <= 2100 and value == int(value)
    before = [item for item in named_columns(text[:at], frame) if frame[item.column].dtype.is_numeric()]
    years = [name for name in frame.columns if "year" in column_words(name) and frame[name].dtype.is_numeric()]
    dates = [name for name in frame.columns if kind_of(frame[name]) in ("date", "datetime")]
    if is_year and years:
        return [Filter(column=years[0], op=op, value=value)]
    if is_year and dates:
        return [Filter(column=dates[0], op=op, value=value, period="year")]
    if before:
        return [Filter(column=max(before, key=lambda item: item.at).column, op=op, value=value)]
    return []


def _groups(text: str, frame: pl.DataFrame, named: Sequence[Named]) -> list[Group]:
    dates = [name for name in frame.columns if kind_of(frame[name]) in ("date", "datetime")]
    groups: list[Group] = []
    for pattern, period in PERIODS:
        if dates and re.search(pattern, text, re.IGNORECASE):
            groups.append(Group(column=dates[0], period=period))
            break
    phrases = [
        part
        for match in re.finditer(GROUP_PHRASE, text, re.IGNORECASE)
        for part in re.split(r" and (?:by |per )?", match[1])
    ]
    for phrase in phrases:
        column = _leading_column(phrase, frame)
        taken = {group.column for group in groups}
        if column is not None and column not in taken and len(groups) < 2 and not _is_amount(column, frame, text):
            groups.append(Group(column=column))
    if not groups and re.search(r"\btop \d+|\bmost\b|\bleast\b", text, re.IGNORECASE):
        texts = [item.column for item in named if kind_of(frame[item.column]) == "text"]
        groups = [Group(column=texts[0])] if texts else []
    if not groups and re.search(WHICH_ONE, text, re.IGNORECASE) and _is_ranking(text):
        key = _naming_column(frame)
        groups = [Group(column=key)] if key is not None else []
    return groups


def _is_amount(column: str, frame: pl.DataFrame, text: str) -> bool:
    """Numbers are measured, not grouped by: decimals never, whole ones not when the question ranks by them."""
    dtype = frame[column].dtype
    return dtype.is_float() or (dtype.is_numeric() and _is_ranking(text) and "year" not in column_words(column))


def _is_ranking(text: str) -> bool:
    return bool(re.search(f"{MOST}|{LEAST}", text, re.IGNORECASE))


def _naming_column(frame: pl.DataFrame) -> str | None:
    """The first text column that tells every row apart: what the rows are called."""
    texts = [name for name in frame.columns if kind_of(frame[name]) == "text"]
    return next((name for name in texts if frame[name].null_count() == 0 and frame[name].is_unique().all()), None)


def _leading_column(said: str, frame: pl.DataFrame) -> str | None:
    """The column that the first words after "by" or "which" name."""
    stems = [stem(word) for word in words(said)]
    for length in (3, 2, 1):
        head = stems[:length]
        for name in frame.columns:
            parts = column_words(name)
            if head == parts or (len(head) == 1 and head[0] in parts and stems[0] == head[0]):
                return name
    return None


def _asks_for_aggregate(text: str) -> bool:
    return any(re.search(pattern, text, re.IGNORECASE) for pattern, _ in AGGREGATES)


def _measure(text: str, frame: pl.DataFrame, candidates: Sequence[str], is_grouped: bool) -> Measure | None:
    numeric = [name for name in candidates if frame[name].dtype.is_numeric()]
    aggregate = next((kind for pattern, kind in AGGREGATES if re.search(pattern, text, re.IGNORECASE)), None)
    if aggregate == "count":
        return _count(text, frame, candidates)
    if aggregate == "unique":
        return Measure(aggregate="unique", column=candidates[0]) if candidates else None
    dated = [name for name in candidates if kind_of(frame[name]) in ("date", "datetime")]
    if aggregate in ("min", "max") and dated and (not numeric or re.search(IN_TIME, text, re.IGNORECASE)):
        return Measure(aggregate=aggregate, column=dated[0])
    if not numeric:
        only = [name for name in frame.columns if frame[name].dtype.is_numeric()]
        if len(only) == 1:
            numeric = only
        else:
            return Measure(aggregate="count") if is_grouped and aggregate is None else None
    if aggregate is None and "year" in column_words(numeric[0]):
        return Measure(aggregate="count")
    return Measure(aggregate=aggregate or "sum", column=numeric[0])


def _count(text: str, frame: pl.DataFrame, candidates: Sequence[str]) -> Measure:
    """Of rows, of different names, or of what a column has counted already."""
    counted = re.search(r"\bhow many ((?:\w+[ _-]?){1,3})", text, re.IGNORECASE)
    column = _leading_column(counted[1], frame) if counted else None
    if column is None:
        return Measure(aggregate="count")
    # "How many units" adds them up where a column of that very name says how many.
    if frame[column].dtype.is_numeric() and re.search(rf"\bhow many {re.escape(column)}\b", text, re.IGNORECASE):
        return Measure(aggregate="sum", column=column)
    # "How many regions" asks for names, of which each counts once; what names the rows counts them.
    is_label = kind_of(frame[column]) == "text" and column in candidates
    return Measure(aggregate="unique", column=column) if is_label else Measure(aggregate="count")


def _order(text: str, is_grouped: bool) -> tuple[Order | None, int | None]:
    if not is_grouped:
        return None, None
    top = re.search(TOP_PHRASE, text, re.IGNORECASE)
    limit = int(top[1] or top[2]) if top else None
    limit = max(limit, 1) if limit is not None else None
    if re.search(LEAST, text, re.IGNORECASE):
        return "ascending", limit
    if re.search(MOST, text, re.IGNORECASE):
        return "descending", limit
    return None, limit
