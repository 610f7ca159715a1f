"""Files inside a result: where they are, what they are called, and which may be shown as a picture."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentnexus.core.errors import NotFound

PICTURES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/svg+xml"})
MEDIA_TYPE: Final = re.compile(r"^[a-z0-9][a-z0-9!#$&^_.+-]{0,60}/[a-z0-9][a-z0-9!#$&^_.+-]{0,80}$")
DATA_KEYS: Final = ("data", "content", "base64", "file", "bytes", "svg")
TYPE_KEYS: Final = ("media_type", "mime_type", "content_type", "mediaType", "mimeType")
NAME_KEYS: Final = ("name", "filename", "file_name", "title")
MAX_INLINE: Final = 3_000_000  # characters of a data: address in a page
SIGNATURES: Final = {
    "iVBORw0KGgo": "image/png",
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
    "JVBERi0": "application/pdf",
}


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file in a result. `data` is base64 text, or plain text for SVG written as such."""

    name: str
    media_type: str
    data: str
    plain: bool = False

    @property
    def size_bytes(self) -> int:
        return (
            len(self.data.encode("utf-8", "replace"))
            if self.plain
            else len(self.data) * 3 // 4 - self.data[-2:].count("=")
        )

    @property
    def picture(self) -> str:
        """A ``data:`` address for an <img>, where the type is a picture and it is not too large; else empty.

        An <img> runs no scripts and loads nothing, also when the picture is a hostile SVG.
        """
        if self.media_type not in PICTURES or len(self.data) > MAX_INLINE:
            return ""
        encoded = base64.b64encode(self.read()).decode() if self.plain else self.data
        return f"data:{self.media_type};base64,{encoded}"

    def read(self) -> bytes:
        """The bytes; raises `NotFound` when it is not base64 after all."""
        if self.plain:
            return self.data.encode("utf-8", "replace")
        try:
            return base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise NotFound("This part of the result is not a file.") from error


def file_of(value: object, name: str = "file", *, encoded: bool = False) -> FoundFile | None:
    """The file that `value` is: ``{media_type, data, …}``, an SVG text, or base64 (when its schema says so)."""
    if isinstance(value, str):
        return _from_text(value, name, encoded=encoded)
    if not isinstance(value, Mapping):
        return None
    media = next((value[key] for key in TYPE_KEYS if isinstance(value.get(key), str)), "")
    data = next((value[key] for key in DATA_KEYS if isinstance(value.get(key), str)), "")
    given = next((value[key] for key in NAME_KEYS if isinstance(value.get(key), str) and value[key]), name)
    if not data or not MEDIA_TYPE.match(media):
        return _from_text(data, given, encoded=False) if data.lstrip()[:4] == "<svg" else None
    plain = not _is_base64(data)
    if plain and not media.startswith(("text/", "image/svg+xml", "application/json")):
        return None
    return FoundFile(_safe_name(given, media), media, data, plain=plain)


def find_file(value: object, pointer: str) -> FoundFile:
    """The file at a JSON pointer of a result; raises `NotFound`."""
    place = value
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(place, Mapping):
            place = place.get(key)
        elif isinstance(place, list) and re.fullmatch(r"\d{1,6}", key) and int(key) < len(place):
            place = place[int(key)]
        else:
            place = None
    found = file_of(place, pointer.rpartition("/")[2] or "file", encoded=True)
    if found is None:
        raise NotFound("There is no file at this place of the result.", next_step="Download the whole result instead.")
    return found


def _from_text(text: str, name: str, *, encoded: bool) -> FoundFile | None:
    if re.match(r"\s*(<\?xml[^>]{0,200}>\s*)?<svg[\s>]", text[:400]):
        return FoundFile(_safe_name(name, "image/svg+xml"), "image/svg+xml", text, plain=True)
    media = next((kind for start, kind in SIGNATURES.items() if text.startswith(start)), "")
    if (media or encoded) and _is_base64(text):
        media = media or "application/octet-stream"
        return FoundFile(_safe_name(name, media), media, text)
    return None


def _is_base64(text: str) -> bool:
    return len(text) >= 4 and len(text) % 4 == 0 and re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text) is not None


def _safe_name(name: str, media_type: str) -> str:
    plain = re.sub(r"[^\w .()-]+", "-", name, flags=re.ASCII).strip(" .-")[:80] or "file"
    ending = media_type.partition("/")[2].partition("+")[0].replace("octet-stream", "bin").replace("plain", "txt")
    return plain if re.search(r"\.[A-Za-z0-9]{1,8}$", plain) else f"{plain}.{ending}"
