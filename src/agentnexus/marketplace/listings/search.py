"""The SQL of a search: whole words and beginnings by index first, likeness of spelling when that finds nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from agentnexus.marketplace.listings.model import PRIOR_MEAN, PRIOR_RATINGS, ListingQuery, Position, Sort, trigrams

# Higher is earlier in the list, for every order: prices count downwards.
VALUE = {
    Sort.PRICE: "-price_atomic / power(10::numeric, asset_decimals)",
    Sort.POPULARITY: "runs::numeric",
    Sort.RATING: f"(rating_sum + {PRIOR_RATINGS * PRIOR_MEAN}) / (rating_count + {PRIOR_RATINGS})",
    Sort.NEWEST: "extract(epoch from created_at)",
}
PRICE = "price_atomic / power(10::numeric, asset_decimals)"
SHARED = "(select count(*) from unnest({}::text[]) piece where piece = any(trigrams))"
# How much of the searched letters has to be there for mistyped words to count as found; two letters swapped in a single
# word leave a third of its pieces.
LIKENESS_OF_ONE = 0.33
LIKENESS_OF_MANY = 0.45
WORDS_MAX = 20


class Matching(StrEnum):
    """How a text is looked for. A cursor goes on with the way its first page was found."""

    ALL = "a"
    WORDS = "w"
    LIKENESS = "l"


@dataclass(frozen=True, slots=True)
class Search:
    """A statement and its values, in order."""

    sql: str
    values: Sequence[object]


def matchings(query: ListingQuery) -> list[Matching]:
    """The ways to try, in order, until one finds something."""
    if query.cursor:
        return [Matching(Position.decode(query.cursor).matching)]
    return [Matching.WORDS, Matching.LIKENESS] if query.text.strip() else [Matching.ALL]


def statement(query: ListingQuery, matching: Matching) -> Search:
    """Selects one row more than the page, each with its `value` and the `total` of all pages."""
    values: list[object] = []

    def bound(value: object) -> str:
        values.append(value)
        return f"${len(values)}"

    clauses = ["status = 'active'"]
    relevance = VALUE[Sort.POPULARITY]
    if matching is Matching.WORDS:
        asked = f"to_tsquery('english', {bound(prefix_query(query.text))})"
        clauses.append(f"words @@ {asked}")
        relevance = f"ts_rank(words, {asked})"
    elif matching is Matching.LIKENESS:
        pieces = trigrams(query.text)
        letters = bound(pieces)
        relevance = f"{SHARED.format(letters)} / {max(1, len(pieces))}::numeric"
        enough = LIKENESS_OF_ONE if len(query.text.split()) == 1 else LIKENESS_OF_MANY
        clauses += [f"trigrams && {letters}::text[]", f"{relevance} >= {enough}"]
    clauses += [
        clause.format(bound(given))
        for clause, given in (
            ("{} = any(categories)", query.category),
            ("capability = {}", query.capability),
            (f"{PRICE} >= {{}}", query.min_price),
            (f"{PRICE} <= {{}}", query.max_price),
        )
        if given is not None and given != ""
    ]
    # Position, not offset: a page stays where it was when agents are added in front of it.
    after = ""
    if query.cursor:
        position = Position.decode(query.cursor)
        value, identifier = bound(position.value), bound(position.id)
        after = f"where value < {value} or (value = {value} and id > {identifier})"
    order = VALUE.get(query.sort, relevance)
    # The rows themselves are wide: only those of the page are read, the rest is sorted by value and id alone.
    sql = f"""with found as materialized (
            select id, round(({order})::numeric, 9) as value from marketplace.listing where {" and ".join(clauses)}),
        page as (select * from found {after} order by value desc, id limit {query.limit + 1})
        select listing.*, page.value, (select count(*) from found) as total
        from page join marketplace.listing using (id) order by page.value desc, id"""  # noqa: S608 - built from fixed parts, every value is bound
    return Search(sql, values)


def prefix_query(text: str) -> str:
    """All words of the text, the last one as a beginning, in PostgreSQL's own notation; empty matches nothing."""
    spoken = re.findall(r"\w+", text.replace("_", " ").lower())[:WORDS_MAX]
    quoted = [f"'{word}'" for word in spoken]
    return " & ".join(quoted) + ":*" if quoted else ""
