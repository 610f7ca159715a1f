"""Reading posted forms: text and files, within limits that are said in the error."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import FormData as StarletteForm
from starlette.datastructures import UploadFile
from starlette.requests import Request

from agentnexus.core.errors import InvalidInput, LimitExceeded
from agentnexus.web.forms import FormData, Upload

MAX_FILES: Final = 40
MAX_FIELDS: Final = 2000
MAX_FIELD_BYTES: Final = 16 * 1024 * 1024
MAX_TOTAL_BYTES: Final = 64 * 1024 * 1024


async def posted(request: Request) -> dict[str, list[str | Upload]]:
    """Every posted name with its values in order; raises `LimitExceeded` over the limits."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or len(declared) > 20 or int(declared) > MAX_TOTAL_BYTES:
        raise _too_large()
    async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
        return await _collected(form)


async def _collected(form: StarletteForm) -> dict[str, list[str | Upload]]:
    found: dict[str, list[str | Upload]] = {}
    total = 0
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            data = await value.read()
            total += len(data)
            if total > MAX_TOTAL_BYTES:
                raise _too_large()
            upload = Upload(value.filename or "", value.content_type or "application/octet-stream", data)
            if upload.filename or upload.data:
                found.setdefault(name, []).append(upload)
        else:
            found.setdefault(name, []).append(value)
    return found


def text_of(data: FormData, name: str, limit: int = 5000) -> str:
    """The first text posted under `name`, stripped; raises `InvalidInput` when it is too long."""
    text = next((value for value in data.get(name, ()) if isinstance(value, str)), "").strip()
    if len(text) > limit:
        raise InvalidInput(f"that text is longer than {limit:,} characters", next_step="shorten it", field=name)
    return text


def files_of(data: FormData, name: str) -> list[Upload]:
    return [value for value in data.get(name, ()) if isinstance(value, Upload)]


def _too_large() -> LimitExceeded:
    return LimitExceeded(
        f"together that is more than {MAX_TOTAL_BYTES // 1024 // 1024} MB",
        next_step="send fewer or smaller files, or split the task",
        limit_bytes=MAX_TOTAL_BYTES,
    )
