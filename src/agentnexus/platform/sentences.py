"""Errors as the earlier engine's clients read them: a sentence, where other routes answer an object."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.responses import Response

from agentnexus.core.errors import InvalidInput, NexusError
from agentnexus.platform.http import error_response


def invalid_request(error: RequestValidationError) -> InvalidInput:
    """FastAPI's own complaint as one of our errors, with the fields named."""
    problems = [{"field": ".".join(str(part) for part in e["loc"]), "problem": e["msg"]} for e in error.errors()]
    return InvalidInput("the request is not valid", next_step="mend the named fields (see /api/docs)", fields=problems)


class SentenceRoute(APIRoute):
    """A route of the earlier engine's dialect: ``error`` is a sentence, code, advice and details beside it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[object, object, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                return _as_sentence(invalid_request(error))
            except NexusError as error:
                return _as_sentence(error)

        return answer


def _as_sentence(error: NexusError) -> Response:
    plain, said = error_response(error), error.to_json()
    body = {**said, "success": False, "error": said.pop("message")}
    headers = {name: value for name, value in plain.headers.items() if name == "retry-after"}
    return JSONResponse(body, plain.status_code, headers=headers)
