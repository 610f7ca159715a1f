"""Words of a task: clauses, stems, the concepts people name in many ways. English; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from agentnexus.hiring.text import stem


def word_set(text: str) -> frozenset[str]:
    """A set written as one line of words."""
    return frozenset(text.split())


WORD = re.compile(r"[a-z][a-z0-9]*|[0-9]+")
LETTERS = re.compile(r"[^\W\d_]+")
QUESTION_MARKS = ("?", "\uff1f", "\u061f")  # ours, the full-width one, the Arabic one
URL = re.compile(r"https?://[^\s<>\"']{4,2000}")
PASTED = re.compile(r"(?::|\n)\s*(?=\S)")
QUESTION_WORDS = (
    "who", "what", "when", "where", "which", "why", "how", "whose", "does", "did", "is", "are", "was", "were",
    "can", "could", "has", "have", "do", "should", "will",
)  # fmt: skip
POLITE = re.compile(
    r"^(?:please|kindly|hi|hello|hey|ok|now|also|then|and|next|finally|first|after that|afterwards"
    r"|i need you to|i want you to"
    r"|i(?:'d| would) like you to|i(?:'d| would) like to know|i want to know|i need to know|i need|i want"
    r"|can you tell me|could you tell me|can you|could you|would you|will you|let me know|help me(?: to)?)[,\s]+",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Concept:
    """An action: `ways` people name it (several words match as a phrase), `stems` by which catalogues name it."""

    name: str
    ways: tuple[str, ...]
    stems: frozenset[str]


CONCEPTS = (
    Concept(
        "summarize",
        (
            "summarize", "summarise", "summary", "summaries", "summarized", "summarised", "sum up", "tl;dr", "tldr",
            "gist", "overview", "digest", "condense", "shorten", "boil down", "key points", "key takeaways",
            "takeaways", "highlights", "main points", "main ideas", "recap", "synopsis", "abstract of", "brief me",
            "briefing", "in short", "important points", "most important", "essence", "key sentences",
        ),
        frozenset({"summar", "digest", "abstract"}),
    ),
    Concept(
        "extract",
        (
            "extract", "extracting", "extraction", "extracted", "pull out", "pull the", "text of", "get the text",
            "to text", "to plain text", "read out", "all tables", "the tables", "metadata", "full text",
            "raw text", "tables from", "text from",
        ),
        frozenset({"extract", "read"}),
    ),
    Concept(
        "analyze",
        (
            "analyze", "analyse", "analysis", "analyzing", "analysing", "chart", "charts", "plot", "graph", "visualize",
            "visualise", "statistics", "stats", "outliers", "outlier", "correlation", "correlations", "correlate",
            "trend", "trends", "pivot", "distribution", "group by", "explore", "profile", "crunch", "describe the data",
            "anomalies", "histogram", "breakdown", "break down", "missing values", "duplicates",
        ),
        frozenset({"analyz", "analys", "analysi", "statist", "chart"}),
    ),
    Concept(
        "question",
        (
            "answer", "find out", "tell me", "look up", "according to", "check whether", "check if", "search for",
            "find where", "cite", "citations", "quote the passage", "i wonder",
        ),
        frozenset({"answ", "quest", "ask", "qa"}),
    ),
)  # fmt: skip
QUESTION = next(concept for concept in CONCEPTS if concept.name == "question")
SUMMARIZE = next(concept for concept in CONCEPTS if concept.name == "summarize")
EXTRACT = next(concept for concept in CONCEPTS if concept.name == "extract")
ANALYZE = next(concept for concept in CONCEPTS if concept.name == "analyze")
LONG_WAYS = tuple(way for concept in CONCEPTS for way in concept.ways if way.isalpha() and len(way) >= 7)
TYPO_MIN, TYPO_MAX = 6, 20
NO_TYPOS = word_set("analyst")
# Words that ask for arithmetic over rows: they point at tables when there are any.
TABULAR = word_set(
    "most least highest lowest average mean median total totals sum count per max min maximum minimum largest "
    "smallest biggest percentage growth grew monthly yearly quarterly"
)
# What a task works on says nothing about what to do with it.
OBJECTS = frozenset(
    stem(word)
    for word in word_set(
        "look looking process handle review inspect examine open go through have take attached here thing things "
        "what which who when where why how tell know about "
        "pdf pdfs csv xlsx xls excel html page pages web webpage website site file files document documents "
        "doc docs report reports spreadsheet spreadsheets sheet table data dataset text article articles "
        "paper papers attached attachment attachments upload uploaded content contents following below above "
        "one each every all both two three four five these those this that it them its their our my your "
        "material materials input inputs sentence sentences word words point points paragraph with without "
        "using use from into the of"
    )
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


def concepts_in(text: str) -> frozenset[Concept]:
    """The actions that the text names, in whatever words; small slips of the pen are understood."""
    padded = " " + " ".join(map(_mended, re.findall(r"[a-z0-9;]+", text.lower()))) + " "
    return frozenset(concept for concept in CONCEPTS if any(f" {way} " in padded for way in concept.ways))


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


def clause_of(text: str) -> Clause:
    question = is_question(text)
    named = concepts_in(text)
    if question and not named:
        named = frozenset({QUESTION})
    words = frozenset(word for word in stems(text) if word not in OBJECTS and len(word) > 2)
    words |= frozenset(word for word in LETTERS.findall(text.lower()) if not word.isascii())  # other languages
    return Clause(strip_politeness(text).rstrip(" .;,"), named, words, question)


IMPERATIVES = word_set(
    "give make write create produce draw show get list find prepare translate send compare tell read convert"
)
# What somebody else would have to do with a result: half the work is not what was asked for.
FOREIGN = word_set("translate send publish upload submit forward delete remove buy deploy install encrypt tweet sing")
FOREIGN_OR_NOUN = word_set("email mail post print book order sign call")  # ``email it``, not ``email list``
POINTING = word_set("it them this that these those the me him her us everything all my")
REMARK = re.compile(
    r"^(?:cite|quote|give citations|with citations|include (?:page|cit)|thank|be (?:brief|short|precise))", re.I
)
SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
JOINT = re.compile(r"\s*(?:,?\s+and then|,?\s+then|;|,?\s+and also|,?\s+plus|,\s+and|\s+and|,)\s+", re.IGNORECASE)


def clauses(text: str) -> list[Clause]:
    """The things a task asks for, in order: sentences, cut where a joint is followed by another action."""
    found: list[Clause] = []
    for sentence in SENTENCE.split(text):
        found.extend(clause_of(part) for part in _cut(sentence) if any(map(str.isalnum, part)))
    wishes = [clause for clause in found if not REMARK.match(clause.text)]
    return [_with_default(clause) for clause in wishes or found]


def _with_default(clause: Clause) -> Clause:
    """``What is this?`` and ``look at the attached file`` ask for a summary."""
    if clause.actions or not clause.concepts <= {QUESTION}:
        return clause
    return replace(clause, concepts=frozenset({SUMMARIZE}))


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


def _cut(sentence: str) -> list[str]:
    """``summarise X and answer Y`` is two things; ``summarise X and Y`` and ``who did X and what is Y`` are one."""
    parts: list[str] = []
    start = 0
    for joint in JOINT.finditer(sentence):
        left, right = sentence[start : joint.start()], sentence[joint.end() :]
        if left.count('"') % 2:
            continue  # inside a quotation
        if starts_action(right) and _meaning(left) and _meaning(left) != _meaning(right):
            parts.append(left)
            start = joint.end()
    parts.append(sentence[start:])
    return [part for part in parts if part.strip()]


def _meaning(text: str) -> frozenset[Concept]:
    opening = JOINT.split(text)[0]
    return clause_of(opening).concepts or clause_of(text).concepts


def starts_action(text: str) -> bool:
    """Whether a text begins with an action or a question of its own."""
    words = re.findall(r"[a-z0-9;]+", strip_politeness(text).lower())
    if not words:
        return False
    opening = " ".join(words[:4]) + " "
    named = any(opening.startswith(way + " ") for concept in CONCEPTS for way in concept.ways)
    return named or words[0] in QUESTION_WORDS or words[0] in IMPERATIVES or _starts_foreign(words)
