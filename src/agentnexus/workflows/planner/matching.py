"""Which capability a clause means, and which documents it is about. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from agentnexus.core.offers import Capability
from agentnexus.workflows.planner import vocabulary, words
from agentnexus.workflows.planner.fitting import Form, Kind, converts, form_of
from agentnexus.workflows.planner.memo import ByCapability
from agentnexus.workflows.planner.vocabulary import QUESTION
from agentnexus.workflows.planner.words import Clause

if TYPE_CHECKING:
    from agentnexus.workflows.planner.offline import Material

NAMED, DESCRIBED, SAID = 3.0, 1.0, 2.0
CERTAIN = 2.0  # from this score on a capability is what a clause means
KIND_WORDS = (
    (vocabulary.word_set("pdf pdfs"), Kind.PDF),
    (vocabulary.word_set("csv xlsx xls excel spreadsheet spreadsheets sheet workbook dataset figures"), Kind.TABLE),
    (vocabulary.word_set("html webpage website page article articles"), Kind.HTML),
)
DOCUMENT_WORDS = vocabulary.word_set("report reports paper papers document documents contract contracts minutes letter")
GENERIC = DOCUMENT_WORDS.union(*(nouns for nouns, _ in KIND_WORDS)) | vocabulary.word_set(
    "file files data notes table text"
)
PART_MIN = 4
EXCEPT = re.compile(
    r",?\s*\b(?:except|excluding|besides|apart from|other than|but not|ignore|disregard|skip|leave out|without)"
    r"(?: for)?\s+(?:the |my |our |this |that )?([^\s,;.!?]+(?:\.\w{2,5}|(?: (?:file|document|sheet|report))?))",
    re.IGNORECASE,
)
WORDS = re.compile(r"[^\W\d_]+")
DOCUMENTS = frozenset({Kind.PDF, Kind.HTML, Kind.TEXT})
PAIR = re.compile(r"(\w+),?\s+(?:and|plus|as well as)\s+(?:(?:the|my|this|that|our)\s+)?(\w+)")
BACK = vocabulary.word_set("it its them they these those this their")


@dataclass(frozen=True, slots=True)
class Known:
    """A capability with the stems of its name and title, and those of its description and tags."""

    capability: Capability
    form: Form
    name: frozenset[str]
    description: frozenset[str]


@ByCapability
def _known(capability: Capability) -> Known:
    return Known(
        capability,
        form_of(capability),
        frozenset(words.stems(f"{capability.name} {capability.title}")),
        frozenset(words.stems(" ".join((capability.description, *capability.tags)))),
    )


class Matcher:
    """Scores capabilities against clauses and deals documents out to them."""

    def __init__(self, offered: Iterable[Capability]) -> None:
        self._known = [_known(capability) for capability in offered]

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
            elif concept.stems & known.description or (concept is QUESTION and known.form.question is not None):
                total += DESCRIBED
        plain = clause.actions - {word for concept in vocabulary.CONCEPTS for word in concept.stems}
        total += SAID * len((plain & known.name) - vocabulary.OBJECTS)
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
        if vocabulary.ANALYZE in clause.concepts and material.kind is not Kind.TABLE:
            return self._for(replace(clause, concepts=frozenset({vocabulary.SUMMARIZE})), material)
        if vocabulary.EXTRACT in clause.concepts or not self._understood(clause):
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
    said = set(re.findall(r"[a-z]+", text))
    there = {material.kind for material in materials}
    paired = _paired(text)
    named = [m for m in materials if m.file is not None and (names_file(text, m.file.name) or _stem(m) in paired)]
    if named:
        others = _kinds_said(paired, there) - {m.kind for m in named}
        return [m for m in materials if m in named or m.kind in others]
    kinds = _kinds_said(said, there)
    # ``from the reports: … the power station`` is no word for power-stations.csv: the kind that is named goes first.
    of_kind = [m for m in materials if m.kind in kinds] if kinds else materials
    if partly := _partly_named(text, of_kind):
        return partly
    if kinds:
        return of_kind
    if tables_or_documents := _by_figures(clause, said, materials):
        return tables_or_documents
    return before if said & BACK else materials


def split_off(text: str, materials: Sequence[Material]) -> tuple[str, list[Material]]:
    """The text without ``except the spreadsheet`` and the like, and the documents that are to be left out."""
    unwanted: list[Material] = []
    for match in EXCEPT.finditer(text):
        said = match.group(1)
        kinds = _kinds_said(set(re.findall(r"[a-z]+", said.lower())), {m.kind for m in materials})
        found = [m for m in materials if m.file is not None and names_file(said.lower(), m.file.name)]
        found = found or _partly_named(said.lower(), materials) or [m for m in materials if m.kind in kinds]
        if found and len(found) < len(materials):
            unwanted += found
            text = text.replace(match.group(), "", 1)
    return text, unwanted


def _by_figures(clause: Clause, said: set[str], materials: Sequence[Material]) -> list[Material]:
    """Where there are tables and documents: figures are asked of tables, everything else of documents."""
    tables = [material for material in materials if material.kind is Kind.TABLE]
    documents = [material for material in materials if material.kind is not Kind.TABLE]
    if not tables or not documents:
        return []
    reading = clause.concepts & {vocabulary.SUMMARIZE, vocabulary.EXTRACT}
    if said & vocabulary.TABULAR or (not reading and words.asks_figures(clause.text)):
        return tables
    if vocabulary.ANALYZE in clause.concepts and not reading:
        return tables
    return documents if clause.question or clause.concepts == {QUESTION} else []


def _partly_named(text: str, materials: Sequence[Material]) -> list[Material]:
    """``the contract`` is ``employment-contract.pdf`` where some other file is not called so, too."""
    said = WORDS.findall(text)
    heads = {word for word, following in zip(said, [*said[1:], ""], strict=False) if following not in GENERIC}
    found = [m for m in materials if m.file is not None and _parts(m) & heads]
    return found if len(found) < len(materials) else []


def _stem(material: Material) -> str:
    return "" if material.file is None else PurePosixPath(material.file.name.lower()).stem


def _parts(material: Material) -> set[str]:
    return {part for part in WORDS.findall(_stem(material)) if len(part) >= PART_MIN} - GENERIC - vocabulary.TABULAR


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
