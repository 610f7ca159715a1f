"""What a capability's input schema can take: files, texts, questions, lists of sources. Pure, from schemas alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath

from agentnexus.core.offers import Capability, Schema
from agentnexus.workflows.model import FileRef
from agentnexus.workflows.planner.memo import ByCapability
from agentnexus.workflows.schemas import as_schema, branches, types_of

TEXT_NAMES = ("text", "content", "document", "body", "passage", "markdown", "input")
HTML_NAMES = ("html", "page_html")
URL_NAMES = ("url", "link", "address", "uri")
QUESTION_NAMES = ("question", "query", "q", "prompt", "instruction", "instructions", "ask")
NAME_NAMES = ("name", "title", "filename", "source")
EXTENSIONS = {
    ".pdf": "pdf", ".csv": "table", ".tsv": "table", ".xlsx": "table", ".xls": "table", ".parquet": "table",
    ".ods": "table", ".html": "html", ".htm": "html", ".xhtml": "html", ".txt": "text", ".md": "text",
    ".rst": "text", ".log": "text", ".text": "text",
}  # fmt: skip
MEDIA_TYPES = {
    "application/pdf": "pdf", "text/csv": "table", "text/tab-separated-values": "table",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "table",
    "application/vnd.ms-excel": "table", "application/vnd.apache.parquet": "table", "text/html": "html",
    "application/xhtml+xml": "html", "text/plain": "text", "text/markdown": "text",
}  # fmt: skip


class Kind(StrEnum):
    PDF = "pdf"
    TABLE = "table"
    HTML = "html"
    TEXT = "text"
    OTHER = "other"


def kind_of(file: FileRef) -> Kind:
    """By extension, else by media type."""
    suffix = PurePosixPath(file.name.lower()).suffix
    found = EXTENSIONS.get(suffix) or MEDIA_TYPES.get(file.media_type.partition(";")[0].strip().lower())
    return Kind(found) if found else Kind.OTHER


@dataclass(frozen=True, slots=True)
class Field:
    """One property of an input: its name, its type without ``null``, and what the page hint says it accepts."""

    name: str
    type: Schema
    accept: tuple[str, ...] = ()

    def takes(self, file: FileRef) -> bool:
        """Without a hint any document fits, but a table or a foreign format only where it is named."""
        if not self.accept:
            return kind_of(file) in (Kind.PDF, Kind.HTML, Kind.TEXT)
        suffix = PurePosixPath(file.name.lower()).suffix
        media = file.media_type.partition(";")[0].strip().lower()
        return any(
            hint in (suffix, media)
            or (hint.startswith(".") and EXTENSIONS.get(hint) == kind_of(file) != "text" and suffix not in EXTENSIONS)
            or MEDIA_TYPES.get(hint) == kind_of(file).value
            for hint in self.accept
        )


@dataclass(frozen=True, slots=True)
class Sources:
    """A list of objects, each holding one document as text or as a file."""

    name: str
    item: Form


@dataclass(frozen=True, slots=True)
class Form:
    """The parts of an object schema that a planner knows how to fill."""

    required: frozenset[str]
    file: Field | None = None
    text: Field | None = None
    html: Field | None = None
    url: Field | None = None
    question: Field | None = None
    label: Field | None = None
    media_type: Field | None = None
    sources: Sources | None = None
    numbers: Mapping[str, Schema] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def fillable(self) -> frozenset[str]:
        parts = (self.file, self.text, self.html, self.url, self.question, self.label, self.media_type)
        names = {part.name for part in parts if part is not None}
        return frozenset(names | ({self.sources.name} if self.sources else set()))


def _form_of(capability: Capability) -> Form:
    return _form(capability.input_schema, capability.input_schema, nested=False)


def _form(schema: Schema, root: Schema, *, nested: bool) -> Form:
    options = [option for option in branches(schema, root) if isinstance(option.get("properties"), Mapping)]
    if not options:
        return Form(frozenset())
    chosen = options[0]
    declared = chosen.get("required")
    required = frozenset(str(name) for name in declared) if isinstance(declared, Sequence) else frozenset()
    fields = _fields(chosen, root)
    strings = [field for field in fields if types_of(field.type) == {"string"} and "enum" not in field.type]
    files = [field for field in strings if field.type.get("contentEncoding") == "base64"]
    plain = [field for field in strings if field not in files]
    return Form(
        required,
        file=_named(files, ()) if files else None,
        text=_named(plain, TEXT_NAMES),
        html=_named(plain, HTML_NAMES),
        url=_named(plain, URL_NAMES),
        question=_named(plain, QUESTION_NAMES),
        label=_named(plain, NAME_NAMES),
        media_type=_named(plain, ("media_type", "mime_type", "content_type")),
        sources=None if nested else _sources(fields, root),
        numbers={field.name: field.type for field in fields if types_of(field.type) == {"integer"}},
        choices={field.name: values for field in fields if (values := _choices(field, root))},
    )


def _fields(schema: Schema, root: Schema) -> list[Field]:
    found = []
    for name, raw in as_schema(schema.get("properties")).items():
        outer = as_schema(raw)
        for option in branches(outer, root):
            hint = as_schema(outer.get("x-ui")).get("accept") or as_schema(option.get("x-ui")).get("accept") or ""
            media = outer.get("contentMediaType") or option.get("contentMediaType") or ""
            accept = [part.strip().lower() for part in f"{hint},{media}".split(",") if part.strip()]
            found.append(Field(name, option, tuple(dict.fromkeys(accept))))
    return found


def _named(fields: Sequence[Field], names: Sequence[str]) -> Field | None:
    """The field with the likeliest name; any field when no names are given."""
    if not names:
        return fields[0]
    ranked = [field for name in names for field in fields if field.name.lower() == name]
    return ranked[0] if ranked else None


def _sources(fields: Sequence[Field], root: Schema) -> Sources | None:
    for each in fields:
        if types_of(each.type) == {"array"}:
            item = _form(as_schema(each.type.get("items")), root, nested=True)
            if item.text or item.file:
                return Sources(each.name, item)
    return None


def _choices(field: Field, root: Schema) -> tuple[str, ...]:
    if types_of(field.type) != {"array"}:
        return ()
    values = [option.get("enum") for option in branches(as_schema(field.type.get("items")), root)]
    return tuple(str(v) for v in values[0]) if values and isinstance(values[0], Sequence) else ()


def _text_path(capability: Capability) -> str | None:
    """Where the output holds a text that other steps can take: ``text`` or ``result.text``; `None` for nowhere."""
    schema = capability.output_schema
    for prefix in ("", "result"):
        for option in branches(schema, schema):
            inner = as_schema(as_schema(option.get("properties")).get(prefix)) if prefix else option
            for each in [f for o in branches(inner, schema) for f in _fields(o, schema)]:
                if each.name in TEXT_NAMES and types_of(each.type) == {"string"}:
                    return f"{prefix}.{each.name}" if prefix else each.name
    return None


form_of = ByCapability(_form_of)
text_path = ByCapability(_text_path)


def result_path(capability: Capability) -> str:
    """``result`` where the output is an envelope around one, else the whole output."""
    schema = capability.output_schema
    inside = any("result" in as_schema(option.get("properties")) for option in branches(schema, schema))
    return "result" if inside else ""


def converts(capability: Capability, file: FileRef) -> str | None:
    """The text path of a capability that turns this very file, alone, into text."""
    form = form_of(capability)
    if form.file is None or not form.file.takes(file) or form.required - {form.file.name}:
        return None
    return text_path(capability)
