"""The decorator that turns a typed function into an agent: both JSON Schemas come from its type hints."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Generic, ParamSpec, TypeAlias, TypeVar, cast, get_type_hints

from pydantic import BaseModel, TypeAdapter

from agentnexus.sdk.context import Context

JSON_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema: TypeAlias = "dict[str, object]"
P = ParamSpec("P")
R = TypeVar("R")


class Agent(Generic[P, R]):
    """A function with its schemas. Calling it calls the plain function; `run` goes through validation."""

    def __init__(self, function: Callable[P, R]) -> None:
        self.function = function
        self.name = function.__name__
        self.description = inspect.getdoc(function) or ""
        self.is_async = inspect.iscoroutinefunction(function)
        self.input_model, self._takes_context, self._result = _signature(function)
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__module__ = function.__module__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    @property
    def input_schema(self) -> Schema:
        """JSON Schema 2020-12 of what buyers send, with form hints under ``x-ui``."""
        return {"$schema": JSON_SCHEMA_DIALECT, **self.input_model.model_json_schema(mode="validation")}

    @property
    def output_schema(self) -> Schema:
        """JSON Schema 2020-12 of what the agent returns."""
        return {"$schema": JSON_SCHEMA_DIALECT, **self._result.json_schema(mode="serialization")}

    async def run(self, value: object, context: Context) -> object:
        """JSON in, JSON out. Raises pydantic's `ValidationError` for a wrong input; a sync function gets a thread."""
        request = self.input_model.model_validate(value)
        if self.is_async:
            return self._to_json(await cast("Awaitable[object]", self._call(request, context)))
        return self._to_json(await asyncio.to_thread(self._call, request, context))

    def run_blocking(self, value: object, context: Context) -> object:
        """The same in this thread, for a process that does nothing else."""
        request = self.input_model.model_validate(value)
        answer = self._call(request, context)
        if inspect.isawaitable(answer):
            return self._to_json(asyncio.run(_finish(answer)))
        return self._to_json(answer)

    def _call(self, request: BaseModel, context: Context) -> object:
        function = cast("Callable[..., object]", self.function)
        return function(request, context) if self._takes_context else function(request)

    def _to_json(self, answer: object) -> object:
        value = self._result.dump_python(self._result.validate_python(answer), mode="json", by_alias=True)
        json.dumps(value, allow_nan=False)  # NaN and infinity are floats in Python, but nothing in JSON.
        return value


def agent(function: Callable[P, R]) -> Agent[P, R]:
    """Make an agent of ``def work(request: Request, context: Context) -> Answer``, sync or async.

    `Request` is a pydantic model (its fields are the form buyers fill in); the context may be left out.
    Raises `TypeError` at import when a type hint is missing, so that a broken agent never starts.
    """
    return Agent(function)


async def _finish(awaitable: Awaitable[object]) -> object:
    return await awaitable


def _signature(function: Callable[..., object]) -> tuple[type[BaseModel], bool, TypeAdapter[object]]:
    where = f"agent {function.__name__}"
    hints = get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters)
    if not 1 <= len(parameters) <= 2:
        raise TypeError(f"{where}: takes a request and, if wanted, a context; it has {len(parameters)} parameters")
    model = hints.get(parameters[0])
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"{where}: annotate `{parameters[0]}` with a pydantic model")
    if len(parameters) == 2 and hints.get(parameters[1]) is not Context:
        raise TypeError(f"{where}: annotate `{parameters[1]}` as Context")
    if "return" not in hints:
        raise TypeError(f"{where}: annotate what it returns")
    return model, len(parameters) == 2, TypeAdapter(hints["return"])
