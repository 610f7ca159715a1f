"""Static files: kept for a year when the address carries the content's hash, asked again otherwise."""

from __future__ import annotations

from os import PathLike, stat_result
from urllib.parse import parse_qs

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from agentnexus.web.rendering import STATIC


class Static(StaticFiles):
    """The package's own static folder."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The file with how long it may be kept."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        hashed = "v" in parse_qs(scope["query_string"].decode("latin-1")) or str(full_path).endswith(".woff2")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
        return response
