"""Passages of a few sentences, ranked by BM25 and judged by how much of the question they cover."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rank_bm25 import BM25Plus
from reading import Page

from agentnexus.sdk.texts import content_words, is_ended, sentences

PASSAGE_WORDS = 90
OVERLAP_SENTENCES = 1
MAX_PASSAGES = 50_000
NEXT_QUESTION = re.compile(
    r"(?i)(?<=\?)\s+|,?\s+and\s+(?=(?:what|when|who|whom|whose|where|which|why|how)\s)(?=.*\s.*\s)"
)
LEANING = re.compile(r"(?i)\b(it|its|they|them|their|theirs|he|him|his|she|hers?|this|that|these|those|there)\b")


@dataclass(frozen=True, slots=True)
class Passage:
    source: str
    page: int | None
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """Running text in one line; headings and table cells, which end without a stop, on lines of their own."""
        return "".join(f"{part} " if is_ended(part) else f"{part}\n" for part in self.sentences).strip()


@dataclass(frozen=True, slots=True)
class Hit:
    """`score` 0..1: the share of the question's meaning (by rarity of its words) that the passage covers."""

    passage: Passage
    score: float


def cut(pages: Sequence[Page]) -> list[Passage]:
    """Passages of about `PASSAGE_WORDS` words that never cross a page; neighbours share a sentence."""
    passages: list[Passage] = []
    for page in pages:
        current: list[str] = []
        fresh = 0
        for sentence in (piece for whole in sentences(page.text) for piece in _bounded(whole)):
            current.append(sentence)
            fresh += 1
            if sum(part.count(" ") + 1 for part in current) >= PASSAGE_WORDS:
                passages.append(Passage(page.source, page.number, tuple(current)))
                current, fresh = current[-OVERLAP_SENTENCES:], 0
        if fresh:
            passages.append(Passage(page.source, page.number, tuple(current)))
    return passages[:MAX_PASSAGES]


def _bounded(sentence: str) -> list[str]:
    """A table or a wall of text without stops, in pieces of passage length."""
    spoken = sentence.split(" ")
    return [" ".join(spoken[at : at + PASSAGE_WORDS]) for at in range(0, len(spoken), PASSAGE_WORDS)]


class Index:
    """Searches passages. Words that are rare in the sources weigh more; words they never use weigh most."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._terms = [Counter(content_words(passage.text)) for passage in passages]
        # The plus variant: with few passages, plain BM25 gives common words a negative weight.
        self._bm25 = BM25Plus([list(terms.elements()) or ["\0"] for terms in self._terms])
        self._frequency = Counter(term for terms in self._terms for term in terms)

    def weight(self, term: str) -> float:
        """How telling a word is: high for rare and unknown ones."""
        return math.log(1 + (len(self._passages) + 0.5) / (self._frequency[term] + 0.5))

    def coverage(self, question_terms: Sequence[str], text_terms: Counter[str] | set[str]) -> float:
        """0..1, by weight."""
        wanted = set(question_terms)
        total = sum(self.weight(term) for term in wanted)
        return sum(self.weight(term) for term in wanted if term in text_terms) / total if total else 0.0

    def search(self, question_terms: Sequence[str], top_k: int) -> list[Hit]:
        """The best passages, best first; those that share no word with the question are left out."""
        ranks = np.asarray(self._bm25.get_scores(list(question_terms)))
        hits = []
        for position in np.argsort(-ranks, kind="stable")[: max(top_k * 4, 20)]:
            score = self.coverage(question_terms, self._terms[position])
            if score > 0:
                hits.append((round(score, 2), float(ranks[position]), self._passages[position], score))
        # Coverage first, in steps of a hundredth: a passage with all the words beats one that repeats a few of them.
        hits.sort(key=lambda hit: (-hit[0], -hit[1]))
        return [Hit(passage, score) for _, _, passage, score in hits[:top_k]]


def question_terms(question: str) -> list[str]:
    """The stems that carry the question; question words are not among them."""
    return content_words(re.sub(r"(?i)\bhow (many|much|long|old|far|big|large|high)\b", " ", question))


def questions_in(text: str) -> list[str]:
    """``When is the fair and what does a stand cost?`` is two questions, if each can be understood alone."""
    parts = [part.strip() for part in NEXT_QUESTION.split(text) if part.strip()]
    alone = all(question_terms(part) and not LEANING.search(part) for part in parts[1:])
    return parts if alone and question_terms(parts[0]) else [text]
