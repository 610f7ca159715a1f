"""Words to numbers: tokens with light stemming, and a BM25 index kept as arrays so that a query is a few additions."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"[a-z0-9]+")
TOKENS_PER_DOCUMENT_MAX = 400
TOKENS_PER_QUERY_MAX = 64
K1 = 1.2
B = 0.6
SUFFIXES = (
    "izations", "ization", "isation", "ations", "ation", "ators", "ator", "izing", "ising", "izers", "izer",
    "ments", "ment", "ings", "ing", "ions", "ion", "ized", "ised", "ize", "ise", "ies", "ers", "er", "ors", "or",
    "ed", "es", "s", "y", "e",
)  # fmt: skip
STOP_WORDS = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "by", "can", "could", "do", "does", "each", "every", "file", "files",
    "for", "from", "give", "i", "in", "into", "is", "it", "its", "me", "my", "need", "of", "on", "or", "our", "out",
    "please", "some", "something", "that", "the", "their", "them", "then", "these", "this", "those", "to", "us",
    "want", "we", "what", "which", "will", "with", "would", "you", "your",
})  # fmt: skip

Scores = NDArray[np.float64]


def stem(word: str) -> str:
    """The word without a common English ending; at least three letters stay."""
    if word.isdigit():
        return word
    for suffix in SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word


def tokens(text: str, limit: int = TOKENS_PER_DOCUMENT_MAX) -> list[str]:
    """Stems of the words of a text, in order, at most `limit`, without words that say nothing."""
    found: list[str] = []
    for match in WORD.finditer(text.lower()):
        word = match.group()
        if word not in STOP_WORDS:
            found.append(stem(word))
            if len(found) >= limit:
                break
    return found


class TextIndex:
    """BM25 over a fixed list of documents; each token keeps the numbers of its documents and its weight in each."""

    def __init__(self, documents: Sequence[Sequence[str]]) -> None:
        self.size = len(documents)
        self._postings: dict[str, tuple[NDArray[np.int32], Scores]] = {}
        self._idf: dict[str, float] = {}
        mean_length = max(1.0, sum(map(len, documents)) / max(1, self.size))
        gathered: dict[str, tuple[list[int], list[float]]] = {}
        for number, document in enumerate(documents):
            norm = K1 * (1 - B + B * len(document) / mean_length)
            for token, count in Counter(document).items():
                numbers, weights = gathered.setdefault(token, ([], []))
                numbers.append(number)
                weights.append(count * (K1 + 1) / (count + norm))
        for token, (numbers, weights) in gathered.items():
            idf = math.log(1 + (self.size - len(numbers) + 0.5) / (len(numbers) + 0.5))
            self._idf[token] = idf
            self._postings[token] = (np.array(numbers, np.int32), np.array(weights) * idf)

    def scores(self, query: Sequence[str]) -> Scores:
        """BM25 score of every document."""
        result = np.zeros(self.size)
        for token in dict.fromkeys(query[:TOKENS_PER_QUERY_MAX]):
            posting = self._postings.get(token)
            if posting is not None:
                result[posting[0]] += posting[1]
        return result

    def coverage(self, query: Sequence[str], document: int) -> float:
        """Share (0-1) of the query's meaning, weighed by rarity, whose words the document has."""
        rarest = math.log(1 + 2 * self.size + 1)
        total = found = 0.0
        for token in dict.fromkeys(query[:TOKENS_PER_QUERY_MAX]):
            weight = self._idf.get(token, rarest)
            total += weight
            posting = self._postings.get(token)
            if posting is not None:
                place = int(np.searchsorted(posting[0], document))
                if place < len(posting[0]) and posting[0][place] == document:
                    found += weight
        return found / total if total else 0.0
