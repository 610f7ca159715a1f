"""A planner without a language model: what is asked, by similarity with what is sold; how to get there, by schemas.

Each clause of the task is matched with a capability; each file is brought into the shape that capability takes,
directly or through another capability that turns it into text. What fits nothing is refused with what is on offer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentnexus.core.errors import NoOffer
from agentnexus.core.offers import Capability
from agentnexus.workflows.model import STEPS_MAX, FileRef, Plan, PlanStep
from agentnexus.workflows.plan import Offered
from agentnexus.workflows.planner import vocabulary, words
from agentnexus.workflows.planner.fitting import Form, Kind, converts, form_of, kind_of, result_path, text_path
from agentnexus.workflows.planner.matching import DOCUMENTS, Matcher, mentioned, split_off
from agentnexus.workflows.planner.port import Task, capabilities
from agentnexus.workflows.planner.wording import (
    HEAD_MAX,
    NOTES_MAX,
    PASTED_MIN,
    asked,
    parameters,
    single_spaced,
    split_pasted,
    unused_files,
    wants_detail,
    with_chart,
)
from agentnexus.workflows.planner.words import Clause
from agentnexus.workflows.references import steps_used


@dataclass(frozen=True, slots=True)
class Material:
    """One document to work on: a file, or text that stands in the task itself."""

    label: str
    index: int | None = None
    file: FileRef | None = None
    text: str = ""

    @property
    def kind(self) -> Kind:
        return kind_of(self.file) if self.file is not None else Kind.TEXT


class OfflinePlanner:
    """Implements `Planner`. The same task and offers always give the same plan."""

    name = "offline"

    async def plan(self, task: Task, offered: Offered) -> Plan:
        return Drafting(task, offered).plan()


@dataclass(slots=True)
class Drafting:
    """One plan in the making."""

    task: Task
    offered: Offered
    steps: list[PlanStep] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    results: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    converted: dict[int, dict[str, object]] = field(default_factory=dict)
    done: set[tuple[str, str]] = field(default_factory=set)

    def plan(self) -> Plan:
        """Raises `NoOffer` when a clause fits nothing that is on offer."""
        if not self.offered.offers:
            raise NoOffer(
                "nobody sells anything right now",
                next_step="check that the registry is up and that agents are listed (`nexus agents list`)",
            )
        head, pasted = split_pasted(self.task.text, has_files=bool(self.task.files))
        if len(head) > HEAD_MAX:
            raise NoOffer(
                f"what is asked is {len(head):,} characters long, {HEAD_MAX:,} are the most",
                next_step="say in a few sentences what you want; put a text to work on after a colon, or into a file",
            )
        materials = [Material(file.name, index, file) for index, file in enumerate(self.task.files)]
        head, unwanted = split_off(single_spaced(head), materials)
        materials = [material for material in materials if material not in unwanted]
        if pasted:
            materials.append(Material("text of the task", text=pasted))
        matcher = Matcher(capabilities(self.offered))
        before: Sequence[Material] = materials
        around = words.Around(
            tables=any(material.kind is Kind.TABLE for material in materials),
            documents=any(material.kind in DOCUMENTS for material in materials),
        )
        wishes = words.clauses(head, around) or [words.clause_of(head, around)]
        plain = any(clause.concepts for clause in wishes)
        for clause in wishes:
            if plain and not clause.concepts and not words.starts_action(clause.text):
                self._leave(clause)
                continue
            chosen = mentioned(clause, materials, before)
            self._serve(clause, chosen, matcher, explicit=chosen is not materials)
            before = chosen
        if not self.steps:
            raise self._nothing(matcher, head)
        self._too_many()
        self.notes.extend(unused_files(self.steps, self.task.files))
        return Plan(planner="offline", steps=tuple(self.steps), output=self._output(), notes=tuple(self.notes))

    def _too_many(self) -> None:
        if len(self.steps) > STEPS_MAX:
            raise NoOffer(
                f"this task takes {len(self.steps)} steps, {STEPS_MAX} are the most",
                next_step="split it into several tasks with fewer files",
            )

    def _nothing(self, matcher: Matcher, head: str) -> NoOffer:
        return NoOffer(
            f"no capability on offer fits: {head.strip()[:200]}",
            next_step=f"on offer are: {matcher.listing()}; say the task in such words, or add the files it is about",
        )

    def _serve(self, clause: Clause, materials: Sequence[Material], matcher: Matcher, *, explicit: bool) -> None:
        """Plan one clause. Documents of different kinds may need different capabilities."""
        if not clause.actions and not clause.concepts and self.steps:
            return  # a courtesy, a remark
        if words.is_foreign(clause) and not matcher.names(words.opening(clause)):
            raise self._nothing(matcher, clause.text)
        if vocabulary.URL.search(clause.text) and not explicit and self._from_address(clause, matcher):
            return
        served = 0
        for capability, group in matcher.assign(clause, materials, thrifty=self.task.thrifty):
            served += self._use(capability, clause, group)
        if served == 0 and not materials:
            served += self._without_material(clause, matcher)
        if served == 0 and (clause.concepts or not self.steps or words.starts_action(clause.text)):
            raise self._unserved(clause, materials, matcher)

    def _leave(self, clause: Clause) -> None:
        """A remark beside what is asked for; what is no mere statement is told."""
        if clause.actions and not words.is_statement(clause) and len(self.notes) < NOTES_MAX:
            self.notes.append(f"left aside: {clause.text[:200]}")

    def _unserved(self, clause: Clause, materials: Sequence[Material], matcher: Matcher) -> NoOffer:
        wanted = matcher.best(clause)
        if wanted is not None and not materials:
            return NoOffer(
                f"{wanted.title or wanted.name} could do this, but there is nothing to work on",
                next_step=f"add a file, or put a text of {PASTED_MIN} characters or more into the task after a colon",
            )
        if wanted is not None:
            labels = ", ".join(material.label for material in materials)
            return NoOffer(
                f"{wanted.title or wanted.name} cannot take {labels}, and nobody sells a conversion",
                next_step="send the file as PDF, HTML, text, CSV or XLSX",
            )
        return self._nothing(matcher, clause.text)

    def _from_address(self, clause: Clause, matcher: Matcher) -> int:
        """What the clause asks for of the web page whose address stands in the task."""
        url = vocabulary.URL.search(clause.text) or vocabulary.URL.search(self.task.text)
        for capability in matcher.ranked(clause) if url else ():
            form = form_of(capability)
            if url and form.url is not None and not form.required - {form.url.name}:
                self._add(capability, {form.url.name: url.group().rstrip(".,)")}, clause, url.group())
                return 1
        return 0

    def _without_material(self, clause: Clause, matcher: Matcher) -> int:
        """A capability that needs nothing but words: a URL, a question."""
        if self._from_address(clause, matcher):
            return 1
        for capability in matcher.ranked(clause):
            form = form_of(capability)
            slot = form.question
            if slot is not None and not form.required - {slot.name} and form.sources is None and form.file is None:
                self._add(capability, {slot.name: asked(clause)}, clause, "")
                return 1
        return 0

    def _use(self, capability: Capability, clause: Clause, group: Sequence[Material]) -> int:
        form = form_of(capability)
        if form.sources is not None:
            items = [item for material in group if (item := self._item(form.sources.item, material)) is not None]
            base = {} if form.question is None else {form.question.name: asked(clause)}
            if items:
                names = ", ".join(material.label for material in group)
                self._add(capability, {**base, form.sources.name: items}, clause, names)
            return len(items)
        served = 0
        for material in group:
            given = self._input(form, material, capability)
            if given is None:
                continue
            detailed = clause.question or wants_detail(clause)
            if form.question is not None and detailed:
                given[form.question.name] = asked(clause)
            elif form.question is not None and self._looked_into(capability, given):
                self._drawn_too(capability, given, form.question.name, clause)
                served += 1
                continue
            self._add(capability, given, clause, material.label)
            served += 1
        return served

    def _looked_into(self, capability: Capability, given: dict[str, object]) -> bool:
        """Whether a step asks the same capability a question about the same document."""
        steps = (step for step in self.steps if step.capability == capability.name)
        return any(given.items() <= step.input.items() for step in steps)

    def _drawn_too(self, capability: Capability, given: dict[str, object], question: str, clause: Clause) -> None:
        """``… Make a chart, too``: the step that looks into the document draws what it finds."""
        for at, step in enumerate(self.steps):
            if step.capability == capability.name and given.items() <= step.input.items() and question in step.input:
                drawn = with_chart(str(step.input[question]), clause.text)
                self.steps[at] = step.model_copy(update={"input": {**step.input, question: drawn}})

    def _input(self, form: Form, material: Material, capability: Capability) -> dict[str, object] | None:
        """The fields that carry one document, or `None` when it cannot be brought into them."""
        if material.file is None:
            return {form.text.name: material.text} if form.text else None
        here = {"$file": material.index}
        if form.file is not None and form.file.takes(material.file):
            return {form.file.name: here}
        if material.kind is Kind.HTML and form.html is not None:
            return {form.html.name: {**here, "as": "text"}}
        if form.text is None:
            return None
        if material.kind is Kind.TEXT:
            return {form.text.name: {**here, "as": "text"}}
        text = self._converted(material, capability)
        return None if text is None else {form.text.name: text}

    def _item(self, form: Form, material: Material) -> dict[str, object] | None:
        """One entry of a list of sources."""
        named: dict[str, object] = {form.label.name: material.label} if form.label else {}
        if material.file is None:
            return {**named, form.text.name: material.text} if form.text else None
        here = {"$file": material.index}
        if form.text is not None and material.kind is Kind.TEXT:
            return {**named, form.text.name: {**here, "as": "text"}}
        if form.text is not None and material.kind is Kind.PDF and not self.task.thrifty:
            text = self._converted(material, None)
            if text is not None:
                return {**named, form.text.name: text}
        if form.file is not None and form.file.takes(material.file):
            media = {form.media_type.name: material.file.media_type} if form.media_type else {}
            return {**named, form.file.name: here, **media}
        text = self._converted(material, None)
        return None if text is None or form.text is None else {**named, form.text.name: text}

    def _converted(self, material: Material, target: Capability | None) -> dict[str, object] | None:
        """A reference to the text of a file, from a conversion step that all users of the file share."""
        assert material.file is not None
        assert material.index is not None
        known = self.converted.get(material.index)
        if known is not None:
            return known
        for capability in capabilities(self.offered):
            path = converts(capability, material.file)
            if path is None or (target is not None and capability.name == target.name):
                continue
            slot = form_of(capability).file
            assert slot is not None
            given: dict[str, object] = {slot.name: {"$file": material.index}}
            step = self._step(capability, given, f"{capability.title or capability.name}: {material.label}")
            self.converted[material.index] = {"$step": step.id, "path": path}
            return self.converted[material.index]
        return None

    def _add(self, capability: Capability, given: dict[str, object], clause: Clause, label: str) -> None:
        identity = (capability.name, json.dumps(given, sort_keys=True))
        if identity in self.done:
            return
        self.done.add(identity)
        reuse = self._reusable(capability, given)
        if reuse is None:
            given = {**given, **parameters(form_of(capability), clause)}
            title = f"{capability.title or capability.name}: {label}".rstrip(": ")
            reuse = self._step(capability, given, title[:300])
        path = result_path(capability)
        self.results.append((reuse.title, {"$step": reuse.id, "path": path} if path else {"$step": reuse.id}))

    def _reusable(self, capability: Capability, given: dict[str, object]) -> PlanStep | None:
        """A conversion that is asked for in its own right, too, is one step."""
        return next((s for s in self.steps if s.capability == capability.name and s.input == given), None)

    def _step(self, capability: Capability, given: dict[str, object], title: str) -> PlanStep:
        step = PlanStep(
            id=f"s{len(self.steps) + 1}", title=title[:300], capability=capability.name, input=given,
            depends_on=steps_used(given),
        )  # fmt: skip
        self.steps.append(step)
        self._remember(step, capability)
        return step

    def _remember(self, step: PlanStep, capability: Capability) -> None:
        """A step that gives the whole text of one file serves everybody who needs that text."""
        form, path = form_of(capability), text_path(capability)
        if form.file is None or path is None or form.file.name not in step.input:
            return
        others = {name: value for name, value in step.input.items() if name != form.file.name}
        leaf = path.rpartition(".")[2]
        whole = all(
            name in form.choices and isinstance(value, list) and leaf in value for name, value in others.items()
        )
        index = step.input[form.file.name]
        if whole and isinstance(index, dict) and isinstance(number := index.get("$file"), int):
            self.converted.setdefault(number, {"$step": step.id, "path": path})

    def _output(self) -> object:
        if len(self.results) == 1:
            return self.results[0][1]
        named: dict[str, object] = {}
        for title, reference in self.results:
            key, number = title, 2
            while key in named:
                key, number = f"{title} ({number})", number + 1
            named[key] = reference
        return named
