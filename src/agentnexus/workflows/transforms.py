"""Steps that nobody is paid for: reshaping earlier outputs, and conditions on them. Plain data; see `transforming`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from agentnexus.core.offers import Noun

PARTS_MAX = 100
TEXT_MAX = 100_000

TestName = Literal[
    "equals", "not_equals", "more", "at_least", "less", "at_most", "contains", "empty", "not_empty", "true", "false"
]
ONE_SIDED = frozenset({"empty", "not_empty", "true", "false"})


class Test(Noun):
    """Compares a value with another; both may be references. Values of different kinds compare as not holding."""

    value: object
    test: TestName
    other: object = None

    @model_validator(mode="after")
    def _sides(self) -> Test:
        if self.test in ONE_SIDED and self.other is not None:
            raise ValueError(f"{self.test} compares with nothing: leave out `other`")
        return self


class AllOf(Noun):
    """Holds when every part does."""

    all: tuple[Condition, ...] = Field(min_length=1, max_length=PARTS_MAX)


class AnyOf(Noun):
    """Holds when a part does."""

    any: tuple[Condition, ...] = Field(min_length=1, max_length=PARTS_MAX)


class NoneOf(Noun):
    """Holds when no part does."""

    none: tuple[Condition, ...] = Field(min_length=1, max_length=PARTS_MAX)


Condition = Test | AllOf | AnyOf | NoneOf


class Pick(Noun):
    """A part of a value (`path`), or an object of several parts by name (`paths`). Missing parts are an error."""

    op: Literal["pick"]
    source: object
    path: str = Field(default="", max_length=1000)
    paths: dict[str, str] = Field(default_factory=dict, max_length=PARTS_MAX)

    @model_validator(mode="after")
    def _one_way(self) -> Pick:
        if bool(self.path) == bool(self.paths):
            raise ValueError("give either `path` or `paths`")
        return self


class Join(Noun):
    """Texts into one with a separator, lists into one list, or objects into one object (later parts win)."""

    op: Literal["join"]
    parts: tuple[object, ...] = Field(min_length=1, max_length=PARTS_MAX)
    into: Literal["text", "list", "object"] = "text"
    separator: str = Field(default="\n\n", max_length=1000)


class Template(Noun):
    """A text with ``{name}`` replaced by values; ``{{`` and ``}}`` are braces."""

    op: Literal["template"]
    text: str = Field(max_length=TEXT_MAX)
    values: dict[str, object] = Field(default_factory=dict, max_length=PARTS_MAX)


class Filter(Noun):
    """The items of a list for which a condition holds; in it ``{"$item": "path"}`` is the item."""

    op: Literal["filter"]
    items: object
    where: Condition


class Map(Noun):
    """A list made of another: `each` is a template in which ``{"$item": "path"}`` is the item."""

    op: Literal["map"]
    items: object
    each: object


class Choose(Noun):
    """One of two values, by a condition."""

    op: Literal["choose"]
    when: Condition
    then: object
    otherwise: object = None


Transform = Annotated[Pick | Join | Template | Filter | Map | Choose, Field(discriminator="op")]

for _each in (AllOf, AnyOf, NoneOf, Filter, Choose):
    _each.model_rebuild()
