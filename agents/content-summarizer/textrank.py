"""TextRank on numpy: sentences vote for the sentences they share rare words with; a repeat of a chosen one loses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agentnexus.sdk.texts import BACK_REFERENCE, content_words

Vector = NDArray[np.float64]

DAMPING = 0.85
TOLERANCE = 1e-6
MAX_ITERATIONS = 100
MAX_TERMS = 4000
BLOCK_SENTENCES = 400
KEPT_PER_BLOCK = 40
# Weights of the choice: unlikeness to the chosen against score, cost of each sentence from the same part of the text.
DIVERSITY = 0.35
SAME_PART = 0.12
REPEAT = 0.9
# What a sentence is worth that begins with "It" or "They": out of its place it seems to speak of something else.
LEANING = 0.5


def term_matrix(sentences: Sequence[str]) -> Vector:
    """Rows of unit length: TF-IDF over the most frequent terms; a sentence without content words is a zero row."""
    counted = [Counter(content_words(sentence)) for sentence in sentences]
    frequency = Counter(term for counts in counted for term in counts)
    index = {term: column for column, (term, _) in enumerate(frequency.most_common(MAX_TERMS))}
    matrix = np.zeros((len(sentences), len(index)))
    for row, counts in enumerate(counted):
        for term, count in counts.items():
            if (column := index.get(term)) is not None:
                rarity = math.log(1 + len(sentences) / frequency[term])
                matrix[row, column] = (1 + math.log(count)) * rarity
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    lengths[lengths == 0] = 1.0
    unit: Vector = matrix / lengths
    return unit


def centrality(similarity: Vector) -> Vector:
    """The stationary scores of a random reader who follows similarity; they sum to 1."""
    count = len(similarity)
    links = similarity.copy()
    np.fill_diagonal(links, 0.0)
    outgoing = links.sum(axis=1, keepdims=True)
    # A sentence that shares no word with any other sends its vote to all alike.
    steps = np.where(outgoing > 0, links / np.where(outgoing > 0, outgoing, 1.0), 1 / count)
    scores = np.full(count, 1 / count)
    for _ in range(MAX_ITERATIONS):
        updated = (1 - DAMPING) / count + DAMPING * scores @ steps
        if np.abs(updated - scores).sum() < TOLERANCE:
            return updated
        scores = updated
    return scores


def rank(sentences: Sequence[str], wanted: int) -> list[tuple[int, float]]:
    """(index, score 0..1) of the best `wanted` sentences, best first, without near repeats and over the whole text.

    Long documents are ranked in blocks first, so that time and memory stay linear in their length.
    """
    candidates = list(range(len(sentences)))
    while len(candidates) > BLOCK_SENTENCES:
        kept: list[int] = []
        for start in range(0, len(candidates), BLOCK_SENTENCES):
            block = candidates[start : start + BLOCK_SENTENCES]
            scored = centrality(_similarity(term_matrix([sentences[i] for i in block])))
            kept.extend(block[i] for i in np.argsort(-scored, kind="stable")[:KEPT_PER_BLOCK])
        candidates = sorted(kept)
    if not candidates:
        return []
    similarity = _similarity(term_matrix([sentences[i] for i in candidates]))
    scores = centrality(similarity)
    leaning = np.array([LEANING if BACK_REFERENCE.match(sentences[i]) else 1.0 for i in candidates])
    scores = leaning * scores
    scores = scores / scores.max()
    parts = [index * wanted // len(sentences) for index in candidates]
    return [(candidates[i], float(scores[i])) for i in _spread(scores, similarity, parts, wanted)]


def _similarity(matrix: Vector) -> Vector:
    return np.clip(matrix @ matrix.T, 0.0, 1.0)


def _spread(scores: Vector, similarity: Vector, parts: Sequence[int], wanted: int) -> list[int]:
    """Maximal marginal relevance: score, minus likeness to what is chosen, minus how much its part already gave."""
    chosen: list[int] = []
    left = set(range(len(scores)))
    taken: Counter[int] = Counter()
    while left and len(chosen) < wanted:
        likeness = similarity[:, chosen].max(axis=1) if chosen else np.zeros(len(scores))
        worth = (1 - DIVERSITY) * scores - DIVERSITY * likeness
        best = max(sorted(left), key=lambda i: worth[i] - SAME_PART * taken[parts[i]])
        left.discard(best)
        if not chosen or likeness[best] < REPEAT:
            chosen.append(best)
            taken[parts[best]] += 1
    return chosen
