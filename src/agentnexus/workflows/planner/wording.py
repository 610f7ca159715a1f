"""What the words of a clause put into a step: the question itself, settings, a text pasted behind the task. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentnexus.hiring.text import stem
from agentnexus.workflows.model import FileRef, PlanStep
from agentnexus.workflows.planner import vocabulary, words
from agentnexus.workflows.planner.fitting import Form
from agentnexus.workflows.planner.words import Clause
from agentnexus.workflows.references import FileReference, references

PASTED_MIN = 120
NOTES_MAX = 20
# Reading a request takes time that grows with the square of its length, and everybody's plans wait meanwhile.
HEAD_MAX = 4000
PREFACE_MAX = 80
ASKING = re.compile(
    r"^(?:answer|find out|tell me|tell us|look up|search for|check)"
    r"(?:(?:\s+(?:the|this|these|my|following)){1,2}\s+questions?)?\s*[:,]?\s*"
    r"(?:from (?:it|them|these|those)[:,]?\s*)?",
    re.IGNORECASE,
)
DRAWN = re.compile(
    r"[\s,]{0,4}(?:\b(?:and|then|also)\s+)*(?:\b(?:please|also)\s+)*"
    r"\b(?:plot|chart|graph|show|draw|visuali[sz]e|make|create|add|give me)\s+(?:me\s+)?"
    r"(?:it|them|this|that|(?:(?:a|the|some|bar|line|pie|nice)\s+)*(?:charts?|graphs?|plots?|diagrams?|pictures?|results?))"
    r"[\s.!]*$",
    re.IGNORECASE,
)
DOING = re.compile(
    r"^(?:.*\b(?:and|then)\s+)?(?:analy[sz]e|plot|chart|graph|show|draw|visuali[sz]e|explore|calculate|compute)\s+"
    r"(?:me\s+)?(?:(?:a|the|bar|line)\s+)*(?:(?:chart|graph|plot)\s+)?(?:of\s+)?(?:the\s+)?",
    re.IGNORECASE,
)
DRAWING = re.compile(
    r"\b(?:plot|plots|chart|charts|graph|graphs|diagrams?|histograms?|draw|drawn|visuali[sz]e)\b", re.IGNORECASE
)
AS_CHART = ", as a chart"


def unused_files(steps: Sequence[PlanStep], files: Sequence[FileRef]) -> list[str]:
    """A note for every file that no step reads; never more than `NOTES_MAX`."""
    used = {r.index for step in steps for r in references(step.input) if isinstance(r, FileReference)}
    left = [file.name for index, file in enumerate(files) if index not in used]
    notes = [f"{name} is not used: nothing in the task asks for it" for name in left[:NOTES_MAX]]
    if len(left) > NOTES_MAX:
        notes[-1] = f"{left[NOTES_MAX - 1]} and {len(left) - NOTES_MAX} more files are not used"
    return notes


def single_spaced(text: str) -> str:
    """One space between words, one line break between lines: long runs would take regular expressions for ever."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def split_pasted(text: str, *, has_files: bool) -> tuple[str, str]:
    """(the task, a text pasted behind it after a colon or line break), if there is one that long."""
    least = PASTED_MIN * 4 if has_files else PASTED_MIN
    for joint in vocabulary.PASTED.finditer(text):
        if joint.start() > HEAD_MAX:
            break
        head, rest = text[: joint.start()], text[joint.end() :]
        if len(rest) >= least and words.concepts_in(head[-2000:]) | ({vocabulary.QUESTION} if "?" in head else set()):
            return head, rest
    return text, ""


def asked(clause: Clause) -> str:
    """The question itself, without ``answer:`` and the like."""
    preface, colon, rest = clause.text.partition(": ")
    asking = rest if colon and len(preface) <= PREFACE_MAX and words.is_question(rest) else clause.text
    bare = ASKING.sub("", asking).strip()
    if clause.concepts == {vocabulary.QUESTION} and not words.is_question(asking):
        indirect = vocabulary.INDIRECT.search(bare)
        bare = bare if indirect is None else indirect.group(1).strip()
    if not clause.question:
        drawn = DRAWN.search(bare)
        tail = "" if drawn is None else drawn.group()  # kept: who reads the table wants to know that it is to be drawn
        rest = bare.removesuffix(tail)
        doing = DOING.match(rest)
        bare = rest[0 if doing is None else doing.end() :].strip() + tail
        bare = with_chart(bare, "" if doing is None else doing.group())
    return bare if len(bare) >= 2 else clause.text


def with_chart(question: str, said: str) -> str:
    """The question with the wish for a chart, where that was said beside it: agents draw only when asked."""
    drawn = question and DRAWING.search(said) and not DRAWING.search(question)
    return question.rstrip(" .,;:!?") + AS_CHART if drawn else question


def wants_detail(clause: Clause) -> bool:
    """``chart revenue by month`` says what about; ``analyse this`` does not."""
    said = {word for concept in vocabulary.CONCEPTS for way in concept.ways for word in words.stems(way)}
    return len(clause.actions - said) >= 2


NUMBERS = {
    name: n
    for n, name in enumerate(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], start=1)
}
COUNTED = re.compile(r"\b(\d{1,3}|" + "|".join(NUMBERS) + r")[\s-]+(?:most\s+)?([a-z]+)(?:\s+([a-z]+))?", re.IGNORECASE)


ORIGIN = re.compile(r"\b(?:out of|of|from|in|inside)\b", re.IGNORECASE)


def _chosen(values: Sequence[str], said: set[str]) -> list[str]:
    return [value for value in values if any(word.startswith(stem(value)) for word in said)]


def parameters(form: Form, clause: Clause) -> dict[str, object]:
    """Settings that the words name: ``in three sentences`` → ``sentences: 3``, ``the tables`` → ``want: [tables]``."""
    found: dict[str, object] = {}
    for match in COUNTED.finditer(clause.text):
        amount = NUMBERS.get(match.group(1).lower()) or int(match.group(1))
        for name, schema in form.numbers.items():
            least, most = schema.get("minimum", 1), schema.get("maximum", 1000)
            fits = isinstance(least, int) and isinstance(most, int) and least <= amount <= most
            counted = {stem(word.lower()) for word in match.groups()[1:] if word}
            if fits and stem(name) in counted:
                found[name] = amount
    whole, wanted = set(words.stems(clause.text)), set(words.stems(ORIGIN.split(clause.text)[0]))
    for name, values in form.choices.items():
        chosen = _chosen(values, wanted) or _chosen(values, whole)
        if chosen and len(chosen) < len(values):
            found[name] = chosen
    return found
