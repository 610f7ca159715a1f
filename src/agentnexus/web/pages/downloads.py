"""Answers that are saved, not shown: a stranger's bytes never open on our address."""

from __future__ import annotations

import json
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from agentnexus.web.results import find_file

POINTER_CHARS: Final = 2000
DOWNLOAD_HEADERS: Final = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; sandbox"}


def json_bytes(value: object) -> bytes:
    """JSON that people can read; half surrogates, which UTF-8 cannot carry, stay escaped as they came."""
    try:
        return json.dumps(value, indent=2, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=2).encode()


def result_json(value: object) -> Response:
    """A result as its program would read it."""
    return download(json_bytes(value), "application/json", "result.json")


def result_file(request: Request, value: object) -> Response:
    """The file inside a result that ``?at=<JSON pointer>`` names; raises `NotFound`."""
    found = find_file(value, request.query_params.get("at", "")[:POINTER_CHARS])
    return download(found.read(), "application/octet-stream", found.name)


def download(data: bytes, media_type: str, name: str) -> Response:
    """Always as a file of that name, which is safe for a header."""
    headers = {**DOWNLOAD_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type=media_type, headers=headers)
