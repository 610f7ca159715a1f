"""Rules between fields that HTML has no word for: of several fields at least one, or exactly one, is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agentnexus.hiring.schemas import names_needed

UNIONS: Final = ("oneOf", "anyOf")
MAX_ALTERNATIVES: Final = 12


@dataclass(frozen=True, slots=True)
class Need:
    """`alternatives` are groups of field ids; `exactly` one group is to be filled in, else at least one.

    `text` says so in the fields' own labels.
    """

    text: str
    alternatives: tuple[tuple[str, ...], ...]
    exactly: bool

    @property
    def ids(self) -> str:
        """For the page's script: JSON, a list of lists."""
        return json.dumps(self.alternatives)


def names_of(flat: Mapping[str, object]) -> list[tuple[bool, tuple[tuple[str, ...], ...]]]:
    """Every such rule of an object's schema: whether exactly one, and the names of each alternative."""
    found = []
    for union in UNIONS:
        alternatives = names_needed(flat.get(union))
        if 1 < len(alternatives) <= MAX_ALTERNATIVES:
            found.append((union == "oneOf", alternatives))
    return found


def need_of(
    exactly: bool, alternatives: Sequence[Sequence[str]], ids: Mapping[str, str], labels: Mapping[str, str]
) -> Need | None:
    """The rule in words; `None` when it names a field that the form does not have."""
    if any(name not in ids for group in alternatives for name in group):
        return None
    words = [" with ".join(labels[name] for name in group) for group in alternatives]
    listed = f"{', '.join(words[:-1])} or {words[-1]}"
    text = f"Fill in one of these{', and only one' if exactly else ''}: {listed}."
    return Need(text, tuple(tuple(ids[name] for name in group) for group in alternatives), exactly)
