"""References inside step inputs and the plan's output: finding, checking and resolving them. Pure.

``{"$file": 0}``                        the bytes of file 0 as base64
``{"$file": 0, "as": "text"}``          its text, ``{"$file": 0, "as": "name"}`` its name
``{"$step": "s1"}``                     the whole output of a step
``{"$step": "s1", "path": "result.pages.0.text"}``  a part of it
``{"$step": "s1", "path": "x", "default": ""}``     the same, or the default where it is not there
``{"$item": "path"}``                   in `filter` and `map` only: the item of the list, or a part of it
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agentnexus.core.errors import InvalidInput, InvalidPlan
from agentnexus.workflows.model import FileRef

FILE_FORMS = ("base64", "text", "name")
DEPTH_MAX = 40


@dataclass(frozen=True, slots=True)
class FileReference:
    index: int
    form: str = "base64"


@dataclass(frozen=True, slots=True)
class StepReference:
    step: str
    path: str = ""
    default: object = None
    has_default: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.path.split(".")) if self.path else ()


@dataclass(frozen=True, slots=True)
class ItemReference:
    path: str = ""
    default: object = None
    has_default: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.path.split(".")) if self.path else ()


class _Skipped:
    """Stands for the output of a step that was skipped."""


SKIPPED = _Skipped()
Reference = FileReference | StepReference | ItemReference
Bytes = Callable[[str], Awaitable[bytes]]


def read_reference(value: object) -> Reference | None:
    """The reference a JSON value is, or `None`. Raises `InvalidPlan` for one that is malformed."""
    if not isinstance(value, Mapping):
        return None
    if "$file" in value:
        index, form = value["$file"], value.get("as", "base64")
        if (
            not isinstance(index, int)
            or isinstance(index, bool)
            or form not in FILE_FORMS
            or set(value) - {"$file", "as"}
        ):
            raise InvalidPlan(f"not a file reference: {dict(value)!r}"[:300])
        return FileReference(index, str(form))
    if "$step" in value:
        step, path = value["$step"], value.get("path", "")
        if not isinstance(step, str) or not isinstance(path, str) or set(value) - {"$step", "path", "default"}:
            raise InvalidPlan(f"not a step reference: {dict(value)!r}"[:300])
        return StepReference(step, path, value.get("default"), "default" in value)
    if "$item" in value:
        path = value["$item"]
        if not isinstance(path, str) or set(value) - {"$item", "default"}:
            raise InvalidPlan(f"not a reference to an item: {dict(value)!r}"[:300])
        return ItemReference(path, value.get("default"), "default" in value)
    return None


def references(value: object, depth: int = 0) -> Iterator[Reference]:
    """All references in a template. Raises `InvalidPlan` for malformed ones and for absurd nesting."""
    if depth > DEPTH_MAX:
        raise InvalidPlan("the input is nested too deeply", next_step=f"use at most {DEPTH_MAX} levels")
    reference = read_reference(value)
    if reference is not None:
        yield reference
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item, depth + 1)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from references(item, depth + 1)


def steps_used(value: object) -> tuple[str, ...]:
    """Ids of the steps a template refers to, in order of first mention."""
    return tuple(dict.fromkeys(r.step for r in references(value) if isinstance(r, StepReference)))


async def fill(template: object, *, files: Sequence[FileRef], outputs: Mapping[str, object], read: Bytes) -> object:
    """The template with every reference replaced. Raises `InvalidPlan` when an output has no such part."""
    reference = read_reference(template)
    if isinstance(reference, FileReference):
        return await _file(reference, files, read)
    if isinstance(reference, StepReference):
        return part_of(outputs, reference)
    if isinstance(reference, ItemReference):
        raise InvalidPlan("$item means something only in filter and map", next_step="refer to a step")
    if isinstance(template, Mapping):
        return {str(key): await fill(item, files=files, outputs=outputs, read=read) for key, item in template.items()}
    if isinstance(template, Sequence) and not isinstance(template, str | bytes):
        return [await fill(item, files=files, outputs=outputs, read=read) for item in template]
    return template


def is_index(part: str) -> bool:
    """Whether a part of a path counts into a list; more than nine digits never do."""
    return part.isascii() and part.isdecimal() and len(part) <= 9


def part_of(outputs: Mapping[str, object], reference: StepReference) -> object:
    """What a step reference points at among finished outputs."""
    if reference.step not in outputs:
        raise InvalidPlan(f"step {reference.step} has no output", next_step="see why that step did not finish")
    value = outputs[reference.step]
    if value is SKIPPED:
        return reference.default
    found = at_parts(value, reference.parts)
    if found is not None:
        return found[0]
    if reference.has_default:
        return reference.default
    raise InvalidPlan(
        f"the output of step {reference.step} has no {reference.path!r}",
        next_step="the seller answered in another shape than it promised: hire another one",
        step=reference.step,
        path=reference.path,
    )


def at_parts(value: object, parts: Sequence[str]) -> tuple[object] | None:
    """The part of a value in a tuple, so that ``null`` is told from nothing there."""
    for part in parts:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, Sequence) and not isinstance(value, str) and is_index(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return (value,)


async def _file(reference: FileReference, files: Sequence[FileRef], read: Bytes) -> str:
    if not 0 <= reference.index < len(files):
        raise InvalidPlan(f"there is no file {reference.index}", next_step=f"{len(files)} files were given")
    file = files[reference.index]
    if reference.form == "name":
        return file.name
    data = await read(file.blob)
    return base64.b64encode(data).decode() if reference.form == "base64" else decode_text(data, file.name)


def decode_text(data: bytes, name: str = "the file") -> str:
    """Text of a file: by byte-order mark, else UTF-8, else Windows-1252. Raises `InvalidInput` for binary data."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    if b"\x00" in data[:4096]:
        raise InvalidInput(f"{name} is not a text file", next_step="send text, HTML, a PDF or a table", field="files")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
