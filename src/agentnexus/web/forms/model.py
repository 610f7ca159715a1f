"""What a form is made of, ready for a template: no schema knowledge is needed to draw it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum

from agentnexus.web.forms.needs import Need

NAME_PREFIX = "in"


class Kind(StrEnum):
    """Which control draws a field; the templates have one macro per kind."""

    TEXT = "text"
    TEXTAREA = "textarea"
    SECRET = "secret"  # noqa: S105 - the name of a control, not a password
    NUMBER = "number"
    BOOLEAN = "boolean"
    SELECT = "select"
    CHECKS = "checks"  # several of an enum
    FILE = "file"
    FILES = "files"
    LIST = "list"
    GROUP = "group"
    CHOICE = "choice"  # one of several shapes
    JSON = "json"  # what a form cannot draw


@dataclass(frozen=True, slots=True)
class Option:
    value: str
    label: str
    selected: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """One control or group of controls.

    `pointer` is the RFC 6901 pointer into the posted JSON (``/sources/0/name``); the control's name is the prefix
    plus that pointer. `attributes` are plain HTML attributes. In a LIST, `children` are the items there are and
    `blank` is the item that "add" copies, its index written as `marker`. In a CHOICE, `children` are the variants
    and `options` says which one is chosen. `needs` are rules between the children of a GROUP; a field that such a rule
    is about is `alternative`.
    """

    pointer: str
    kind: Kind
    label: str
    description: str = ""
    unit: str = ""
    section: str = ""  # a heading before this field
    required: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    options: tuple[Option, ...] = ()
    value: str = ""
    checked: bool = False
    kept: str = ""  # a file that is already there, base64
    error: str = ""
    children: tuple[Field, ...] = ()
    blank: Field | None = None
    marker: str = ""
    needs: tuple[Need, ...] = ()
    alternative: bool = False

    @property
    def name(self) -> str:
        return NAME_PREFIX + self.pointer

    @property
    def id(self) -> str:
        """An HTML id: readable, and unique even where two names differ only in punctuation."""
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", self.pointer).strip("-")[:60] or "all"
        plain = "/" + slug.replace("-", "/")
        return f"f-{slug}" if plain == self.pointer else f"f-{slug}-{_digest(self.pointer)}"

    @property
    def described_by(self) -> str:
        """For ``aria-describedby``: the hint and the error, where there are any."""
        parts = [f"{self.id}-hint"] * bool(self.description) + [f"{self.id}-error"] * bool(self.error)
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Form:
    """A whole form: `fields` in the schema's order, `errors` that belong to no field, rules between its fields."""

    fields: tuple[Field, ...]
    errors: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()

    @property
    def failed(self) -> list[Field]:
        """Fields with an error, in reading order: the summary on top of the form links to them."""
        return [found for found in _walk(self.fields) if found.error]


def _walk(fields: tuple[Field, ...]) -> list[Field]:
    result: list[Field] = []
    for each in fields:
        result.append(each)
        result.extend(_walk(each.children))
    return result


def _digest(text: str) -> str:
    # Markers of blank list items are replaced by script in names and ids alike, so they must survive in the id.
    markers = "".join(re.findall(r"__\d+__", text))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6] + markers


def join_pointer(pointer: str, part: str | int) -> str:
    """`pointer` one level deeper, escaped as RFC 6901 wants."""
    return f"{pointer}/{str(part).replace('~', '~0').replace('/', '~1')}"
