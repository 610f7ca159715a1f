"""Which capability a clause means, and which documents it is about. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from agentnexus.core.offers import Capability
from agentnexus.workflows.planner import words
from agentnexus.workflows.planner.fitting import Form, Kind, converts, form_of
from agentnexus.workflows.planner.words import Clause

if TYPE_CHECKING:
    from agentnexus.workflows.planner.offline import Material

NAMED, DESCRIBED, SAID = 3.0, 1.0, 2.0
CERTAIN = 2.0  # from this score on a capability is what a clause means
KIND_WORDS = (
    (words.word_set("pdf pdfs"), Kind.PDF),
    (words.word_set("csv xlsx xls excel spreadsheet spreadsheets sheet workbook dataset figures"), Kind.TABLE),
    (words.word_set("html webpage website page article articles"), Kind.HTML),
)
DOCUMENT_WORDS = words.word_set("report reports paper papers document documents contract contracts minutes letter")
DOCUMENTS = frozenset({Kind.PDF, Kind.HTML, Kind.TEXT})
PAIR = re.compile(r"(\w+),?\s+(?:and|plus|as well as)\s+(?:(?:the|my|this|that|our)\s+)?(\w+)")
BACK = words.word_set("it its them they these those this their")


@dataclass(frozen=True, slots=True)
class Known:
    """A capability with the stems of its name and title, and those of its description and tags."""

    capability: Capability
    form: Form
    name: frozenset[str]
    description: frozenset[str]


class Matcher:
    """Scores capabilities against clauses and deals documents out to them."""

    def __init__(self, offered: Iterable[Capability]) -> None:
        self._known = [
            Known(
                capability,
                form_of(capability),
                frozenset(words.stems(f"{capability.name} {capability.title}")),
                frozenset(words.stems(" ".join((capability.description, *capability.tags)))),
            )
            for capability in offered
        ]

    def listing(self) -> str:
        return ", ".join(known.capability.title or known.capability.name for known in self._known[:20])

    def names(self, stem: str) -> bool:
        """Whether any capability is called by a word."""
        return any(stem in known.name for known in self._known)

    def score(self, known: Known, clause: Clause) -> float:
        """Concepts weigh more than words, names more than descriptions; what a task works on weighs nothing."""
        total = 0.0
        for concept in clause.concepts:
            if concept.stems & known.name:
                total += NAMED
            elif concept.stems & known.description or (concept is words.QUESTION and known.form.question is not None):
                total += DESCRIBED
        plain = clause.actions - {word for concept in words.CONCEPTS for word in concept.stems}
        total += SAID * len((plain & known.name) - words.OBJECTS)
        return total + 0.1 * len(plain & known.description)

    def ranked(self, clause: Clause) -> list[Capability]:
        """Capabilities that the clause may mean, likeliest first."""
        scored = [(self.score(known, clause), known.capability) for known in self._known]
        return [c for score, c in sorted(scored, key=lambda pair: (-pair[0], pair[1].name)) if score >= CERTAIN]

    def best(self, clause: Clause) -> Capability | None:
        ranked = self.ranked(clause)
        return ranked[0] if ranked else None

    def assign(
        self, clause: Clause, materials: Sequence[Material], *, thrifty: bool
    ) -> Iterator[tuple[Capability, list[Material]]]:
        """Documents grouped by the capability that serves the clause for them; the unserved are left out."""
        groups: dict[str, tuple[Capability, list[Material]]] = {}
        for material in materials:
            found = self._for(clause, material)
            if found is not None:
                groups.setdefault(found.name, (found, []))[1].append(material)
        yield from groups.values()

    def _for(self, clause: Clause, material: Material) -> Capability | None:
        usable = [known for known in self._known if self.reaches(known, material)]
        scored = sorted(
            ((self._with_kind(known, clause, material), known) for known in usable),
            key=lambda pair: (-pair[0], pair[1].capability.name),
        )
        if scored and scored[0][0] >= CERTAIN:
            return scored[0][1].capability
        if words.ANALYZE in clause.concepts and material.kind is not Kind.TABLE:
            return self._for(replace(clause, concepts=frozenset({words.SUMMARIZE})), material)
        if words.EXTRACT in clause.concepts or not self._understood(clause):
            return None
        direct = [known for _, known in scored if self._takes(known.form, material)]
        return direct[0].capability if direct else None

    def _understood(self, clause: Clause) -> bool:
        """A clause in known words may fall back on whatever takes the document; a foreign wish may not."""
        return bool(clause.concepts) or not clause.actions

    def _with_kind(self, known: Known, clause: Clause, material: Material) -> float:
        """Asking figures of a table is the table reader's business, asking a text is not."""
        score = self.score(known, clause)
        if material.kind is Kind.TABLE and self._takes(known.form, material):
            score += 4.0 if score > 0 or (clause.concepts and known.form.question) else 0.0
        return score

    def reaches(self, known: Known, material: Material) -> bool:
        """Whether a document can be brought into the capability, if need be through a conversion."""
        form = known.form
        item = form.sources.item if form.sources else form
        if self._takes(form, material) or self._takes(item, material):
            return True
        if item.text is None or material.file is None:
            return False
        others = (other.capability for other in self._known if other is not known)
        return any(converts(other, material.file) is not None for other in others)

    def _takes(self, form: Form, material: Material) -> bool:
        if material.file is None or material.kind is Kind.TEXT:
            return form.text is not None or (material.file is not None and _file_fits(form, material))
        if material.kind is Kind.HTML and form.html is not None:
            return True
        return _file_fits(form, material)


def _file_fits(form: Form, material: Material) -> bool:
    return form.file is not None and material.file is not None and form.file.takes(material.file)


def mentioned(clause: Clause, materials: Sequence[Material], before: Sequence[Material]) -> Sequence[Material]:
    """The documents a clause is about: named, else of the kind it names, else those of the clause before, else all."""
    text = clause.text.lower()
    named = [m for m in materials if m.file is not None and names_file(text, m.file.name)]
    if named:
        others = _kinds_said(_paired(text), {m.kind for m in materials}) - {m.kind for m in named}
        return [m for m in materials if m in named or m.kind in others]
    said = set(re.findall(r"[a-z]+", text))
    kinds = _kinds_said(said, {m.kind for m in materials})
    if kinds:
        return [m for m in materials if m.kind in kinds]
    if clause.question or said & words.TABULAR:
        tables = [m for m in materials if m.kind is Kind.TABLE]
        documents = [m for m in materials if m.kind is not Kind.TABLE]
        if tables and documents:
            return tables if said & words.TABULAR else documents
    return before if said & BACK else materials


def _paired(text: str) -> set[str]:
    """The nouns on both sides of an *and*: ``the sheet and the report``."""
    return {noun for pair in PAIR.findall(text) for noun in pair}


def _kinds_said(said: set[str], there: set[Kind]) -> set[Kind]:
    """Kinds of documents that words name: ``the PDF report`` is a PDF, ``the sheet and the report`` are two kinds."""
    kinds = {kind for nouns, kind in KIND_WORDS if nouns & said} & there
    if DOCUMENT_WORDS & said and kinds <= {Kind.TABLE}:
        kinds |= DOCUMENTS & there
    return kinds


def names_file(text: str, name: str) -> bool:
    """Whether a text names a file, with or without its ending, spaces or not."""
    whole = name.lower()
    stem = PurePosixPath(whole).stem
    spoken = re.sub(r"[-_\s]+", " ", stem)
    if whole in text:
        return True
    return len(spoken) >= 4 and re.search(rf"\b{re.escape(spoken)}\b", re.sub(r"[-_\s]+", " ", text)) is not None
