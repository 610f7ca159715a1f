"""Words of a task: clauses, stems, and the concepts they name by what lies beside them. English; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from agentnexus.hiring.text import stem
from agentnexus.workflows.planner.vocabulary import (
    ANALYZE,
    ARROW,
    CONCEPTS,
    EXTRACT,
    FACT,
    FIGURES,
    FOREIGN,
    FOREIGN_OR_NOUN,
    IMPERATIVES,
    INDIRECT,
    JOINT,
    LETTERS,
    LONG_WAYS,
    MAKING,
    NO_TYPOS,
    OBJECTS,
    PARTED,
    PERIODICAL,
    POINTING,
    POLITE,
    QUESTION,
    QUESTION_MARKS,
    QUESTION_WORDS,
    RELATIVE,
    REMARK,
    SEEING,
    SEEKING,
    SENTENCE,
    SENTENCES,
    STATING,
    SUMMARIZE,
    TABULAR,
    TAKING,
    TYPO_MAX,
    TYPO_MIN,
    WISHED,
    WORD,
    Concept,
)


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing asked for. `concepts` it names; `actions`: the stems of its words that are not mere objects."""

    text: str
    concepts: frozenset[Concept]
    actions: frozenset[str]
    question: bool


def stems(text: str) -> list[str]:
    return [stem(word) for word in WORD.findall(text.lower())]


def strip_politeness(text: str) -> str:
    """Without leading courtesies: ``Please, could you summarise …`` → ``summarise …``."""
    before = None
    text = text.strip()
    while before != text:
        before = text
        text = POLITE.sub("", text).strip(" ,")
    return text


def is_question(text: str) -> bool:
    """By its mark or its first word."""
    first = WORD.match(strip_politeness(text).lower())
    return text.rstrip().endswith(QUESTION_MARKS) or (first is not None and first.group() in QUESTION_WORDS)


@dataclass(frozen=True, slots=True)
class Around:
    """What lies beside a text: the same words ask for arithmetic where there are tables, for reading where not."""

    tables: bool = False
    documents: bool = False


NOTHING = Around()


def concepts_in(text: str) -> frozenset[Concept]:
    """The actions that the text names, in whatever words; small slips of the pen are understood."""
    padded = " " + " ".join(map(_mended, re.findall(r"[a-z0-9;]+", _joined(text)))) + " "
    return frozenset(concept for concept in CONCEPTS if any(f" {way} " in padded for way in concept.ways))


def _joined(text: str) -> str:
    """``boil it down`` is ``boil down``."""
    return ARROW.sub(" to ", PARTED.sub(r"\1 \2", text.lower()))


@lru_cache(maxsize=10_000)
def _mended(word: str) -> str:
    """``sumarise`` → ``summarise``: a long word one slip away from a way to name an action, else the word itself."""
    if len(word) < TYPO_MIN or len(word) > TYPO_MAX or word in LONG_WAYS or word in NO_TYPOS:
        return word
    return next((way for way in LONG_WAYS if way[0] == word[0] and _one_slip(word, way)), word)


def _one_slip(one: str, other: str) -> bool:
    """Whether one letter more, less or different, or two neighbours exchanged, makes one word the other."""
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    left, right = one[start:], other[start:]
    slips = [left[1:] == right, left == right[1:], left[1:] == right[1:]]
    return any(slips) or (len(left) > 1 and left[:2] == right[1::-1] and left[2:] == right[2:])


def asks_figures(text: str) -> bool:
    """Whether a text asks for arithmetic over rows, in words that would mean nothing of the kind in prose."""
    said = WORD.findall(text.lower())
    if not said or said[0] in MAKING:
        return False
    return bool((TABULAR | PERIODICAL) & set(said)) or FIGURES.search(text) is not None


def clause_of(text: str, around: Around = NOTHING) -> Clause:
    question = is_question(text)
    named = concepts_in(text)
    if not named:
        named = frozenset(_implied(strip_politeness(text), question, around))
    words = frozenset(word for word in stems(text) if word not in OBJECTS and len(word) > 2)
    words |= frozenset(word for word in LETTERS.findall(text.lower()) if not word.isascii())  # other languages
    return Clause(strip_politeness(text).rstrip(" .;,"), named, words, question)


def _implied(text: str, question: bool, around: Around) -> set[Concept]:
    """What a text without any named action asks for, by what there is to do it with."""
    if question:
        return {QUESTION}
    if around.documents and SENTENCES.search(text):
        return {SUMMARIZE}
    if around.documents and TAKING.match(text):
        return {EXTRACT}
    if around.tables and asks_figures(text):
        return {ANALYZE}
    if (around.tables or around.documents) and INDIRECT.search(text):
        return {QUESTION}
    seeking = SEEKING.match(text) or FACT.match(text)
    return {QUESTION} if around.documents and seeking else set()


def clauses(text: str, around: Around = NOTHING) -> list[Clause]:
    """The things a task asks for, in order: sentences, cut where a joint is followed by another action."""
    found: list[Clause] = []
    for sentence in SENTENCE.split(text):
        found.extend(clause_of(part, around) for part in _cut(sentence, around) if any(map(str.isalnum, part)))
    wishes = [clause for clause in found if not REMARK.match(clause.text)]
    kept = wishes or found
    if len(kept) < 2:
        return [_with_default(clause) for clause in kept]
    return [clause for clause in kept if clause.actions or clause.concepts - {QUESTION}] or [_with_default(kept[0])]


def _with_default(clause: Clause) -> Clause:
    """``What is this?`` and ``look at the attached file`` ask for a summary."""
    if clause.actions or not clause.concepts <= {QUESTION}:
        return clause
    return replace(clause, concepts=frozenset({SUMMARIZE}))


def is_statement(clause: Clause) -> bool:
    """Whether a clause tells something rather than asks for it: ``here's the script``."""
    first = WORD.search(clause.text.lower())
    return first is None or first.group() in STATING


def opening(clause: Clause) -> str:
    """The stem of a clause's first word."""
    return next(iter(stems(clause.text)), "")


def is_foreign(clause: Clause) -> bool:
    """Whether a clause begins with an action that none of the known ones is: ``translate the summary``."""
    return _starts_foreign(WORD.findall(clause.text.lower()))


def _starts_foreign(said: Sequence[str]) -> bool:
    if not said:
        return False
    return said[0] in FOREIGN or (said[0] in FOREIGN_OR_NOUN and len(said) > 1 and said[1] in POINTING)


def _cut(sentence: str, around: Around) -> list[str]:
    """``summarise X and answer Y`` is two things; ``summarise X and Y`` and ``who did X and what is Y`` are one."""
    parts: list[str] = []
    start = 0
    for joint in JOINT.finditer(sentence):
        left, right = sentence[start : joint.start()], sentence[joint.end() :]
        if left.count('"') % 2:
            continue  # inside a quotation
        if joint.group().strip() == "," and RELATIVE.match(right):
            continue  # ``for Anna, who was on holiday``
        meaning = _meaning(left, around)
        begins = starts_action(right) or (around.tables and not asks_figures(left) and _starts_figures(right))
        if begins and meaning and meaning != _meaning(right, around):
            parts.append(left)
            start = joint.end()
    parts.append(sentence[start:])
    return [part for part in parts if part.strip()]


def _starts_figures(text: str) -> bool:
    """Whether a text begins with an amount: ``the average price``, ``monthly revenue``."""
    said = WORD.findall(strip_politeness(text).lower())
    said = said[1:] if said[:1] in (["the"], ["a"], ["an"]) else said
    return bool(said) and said[0] in TABULAR | PERIODICAL


def _meaning(text: str, around: Around) -> frozenset[str]:
    """Names of the actions, and whether figures are asked for where there are also documents to ask."""
    opening = JOINT.split(text)[0]
    concepts = clause_of(opening, around).concepts or clause_of(text, around).concepts
    names = {concept.name for concept in concepts}
    if concepts == {QUESTION} and around.tables and around.documents and asks_figures(opening):
        names.add("figures")
    return frozenset(names)


def starts_action(text: str) -> bool:
    """Whether a text begins with an action or a question of its own."""
    words = re.findall(r"[a-z0-9;]+", _joined(WISHED.sub("", strip_politeness(text))))
    if not words:
        return False
    opening = " ".join(words[:4]) + " "
    named = any(opening.startswith(way + " ") for concept in CONCEPTS for way in concept.ways)
    named = named or FACT.match(text) is not None or (SEEING.match(text) and INDIRECT.search(text)) is not None
    return named or words[0] in QUESTION_WORDS or words[0] in IMPERATIVES or _starts_foreign(words)
