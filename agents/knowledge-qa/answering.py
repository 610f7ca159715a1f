"""Picks the sentences that answer, by what the question asks for: a time, a number, a name or a fact."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from retrieval import Hit, Index, Passage

from agentnexus.sdk.texts import BACK_REFERENCE, content_words

MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
KINDS: tuple[tuple[str, str], ...] = (
    (
        r"\b(when|what year|which year|what date|since when|wann|quand)\b",
        rf"\b(1[0-9]{{3}}|20[0-9]{{2}})\b|\b({MONTHS})\b",
    ),
    (r"\bhow (many|much|long|old|far|big|large|high|tall)\b|\b(capacity|percentage|share|price|cost)\b", r"\d"),
    (r"\b(who|whom|whose|wer|qui)\b", r"\b[A-Z][a-z]+ [A-Z][a-z]+"),
    (r"\b(where|which (country|city|place)|wo)\b", r"\b(?:in|at|near|off|of|on) (?:the )?[A-Z]"),
)
KIND_BONUS = 0.25
EARLY_BONUS = 0.02
SECOND_SENTENCE_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class Found:
    """An answering sentence and the passage it stands in. `score` 0..1 without the bonuses."""

    sentence: str
    passage: Passage
    score: float


def best_sentences(question: str, terms: Sequence[str], hits: Sequence[Hit], index: Index) -> list[Found]:
    """One sentence, or two when the second adds words of the question that the first lacks."""
    wanted = expected_form(question)
    scored: list[tuple[float, Found]] = []
    seen: set[str] = set()
    for order, hit in enumerate(hits):
        for sentence in hit.passage.sentences:
            if sentence in seen:
                continue
            seen.add(sentence)
            score = index.coverage(terms, set(content_words(sentence)))
            fits = KIND_BONUS if score > 0 and wanted and re.search(wanted, _without(sentence, question)) else 0.0
            scored.append((score + fits - EARLY_BONUS * order, Found(sentence, hit.passage, score)))
    # The bonuses order sentences; whether there is an answer at all is decided by the plain score.
    scored.sort(key=lambda pair: -pair[0])
    if not scored or scored[0][1].score <= 0:
        return []
    first_rank, first = scored[0]
    if joined := _with_neighbour(first, terms):
        return joined
    covered = set(content_words(first.sentence))
    for rank, other in scored[1:6]:
        adds = (set(content_words(other.sentence)) & set(terms)) - covered
        if adds and rank >= first_rank * SECOND_SENTENCE_SHARE:
            return [first, other]
    return [first]


def _with_neighbour(found: Found, terms: Sequence[str]) -> list[Found] | None:
    """The sentence with the one before it when it begins with a pronoun, or the one after it when that one does."""
    around = found.passage.sentences
    at = around.index(found.sentence)
    if at > 0 and BACK_REFERENCE.match(found.sentence):
        return [replace(found, sentence=around[at - 1]), found]
    is_partial = not set(terms) <= set(content_words(found.sentence))
    if is_partial and at + 1 < len(around) and BACK_REFERENCE.match(around[at + 1]):
        return [found, replace(found, sentence=around[at + 1])]
    return None


def expected_form(question: str) -> str | None:
    """A pattern that an answer of the asked kind matches; None when any sentence may do."""
    for asked, answered in KINDS:
        if re.search(asked, question, re.IGNORECASE):
            return f"(?i:{answered})" if "january" in answered else answered
    return None


def _without(sentence: str, question: str) -> str:
    """The sentence without the question's own words: repeating a number of the question answers nothing."""
    spoken = {word.strip("?.,!\"'").lower() for word in question.split()}
    return " ".join(word for word in sentence.split() if word.strip("?.,!\"'()").lower() not in spoken)
