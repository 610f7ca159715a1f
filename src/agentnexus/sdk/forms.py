"""Form hints for the page that buyers fill in, and the field type for files."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic.config import JsonDict

Editor: TypeAlias = Literal["text", "textarea", "select", "checkbox", "number", "date", "file", "json", "hidden"]


def ui(
    editor: Editor,
    *,
    order: int | None = None,
    section: str | None = None,
    prefill: str | None = None,
    unit: str | None = None,
    secret: bool | None = None,
    accept: str | None = None,
) -> JsonDict:
    """For ``Field(json_schema_extra=ui("textarea", prefill="…"))``; the page reads it under ``x-ui``.

    `prefill` is a demo value shown in the empty form, `accept` the media types of a file field.
    """
    hints: JsonDict = {
        "order": order,
        "section": section,
        "prefill": prefill,
        "unit": unit,
        "secret": secret,
        "accept": accept,
    }
    return {"x-ui": {"editor": editor, **{key: value for key, value in hints.items() if value is not None}}}


def one_of(*names: str) -> JsonDict:
    """For ``model_config = ConfigDict(json_schema_extra=one_of("text", "file"))``: exactly one of these is to be sent.

    Buyers read it in the input schema and see it on the form before they send anything; null counts as not sent.
    """
    return {"oneOf": [{"required": [name], "not": {"properties": {name: {"type": "null"}}}} for name in names]}


def _decode(value: object) -> object:
    if not isinstance(value, str):
        return value
    _, _, tail = value.rpartition(";base64,") if value.startswith("data:") else ("", "", value)
    try:
        return base64.b64decode("".join(tail.split()).translate(_URL_SAFE), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"is not base64 ({error})") from error


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


_URL_SAFE = str.maketrans("-_", "+/")

File = Annotated[
    bytes,
    BeforeValidator(_decode),
    PlainSerializer(_encode, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "x-ui": {"editor": "file"}}),
]
"""Bytes in the agent, base64 text (or a ``data:`` URL) on the wire."""
