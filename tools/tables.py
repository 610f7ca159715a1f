"""Writes the tables of ``docs/`` that are made from code: error codes and event names. ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from agentnexus.core import errors
from agentnexus.core.events import EventName

DOCS = Path(__file__).parent.parent / "docs"
NOTE = "<!-- made by tools/tables.py from the code; do not edit -->\n\n"


def error_page() -> str:
    """Every error with code, HTTP status and whether trying again may help."""
    lines = [NOTE + "# Errors\n"]
    lines.append(
        "Answers carry `{success: false, error: {code, message, next_step?, details?}}`. Codes never change meaning.\n"
    )
    lines += ["| code | HTTP | again? | when |", "|---|---:|---|---|"]
    meanings = _meanings()
    for kind in sorted(_family(errors.NexusError), key=lambda each: (each.http_status, each.code)):
        again = "may help" if kind.retryable else ""
        lines.append(f"| `{kind.code}` | {kind.http_status} | {again} | {meanings[kind.__name__]} |")
    return "\n".join(lines) + "\n"


def event_page() -> str:
    """Every event name."""
    lines = [NOTE + "# Events\n", "Ordered per subject by a sequence number without gaps; kept; streamed live.\n"]
    lines += ["| subject | events |", "|---|---|"]
    groups: dict[str, list[str]] = {}
    for name in EventName:
        groups.setdefault(name.value.split(".")[0], []).append(f"`{name.value}`")
    return "\n".join(lines + [f"| {group} | {', '.join(names)} |" for group, names in groups.items()]) + "\n"


def _family(kind: type[errors.NexusError]) -> list[type[errors.NexusError]]:
    own = [kind] if kind.__module__ == errors.__name__ else []
    return own + [each for sub in kind.__subclasses__() for each in _family(sub)]


def _meanings() -> dict[str, str]:
    """From the tree in the module's docstring: class name, status, meaning."""
    found = {errors.NexusError.__name__: "a bug of ours"}
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("│", " ").replace("├──", " ").replace("└──", " ").split(maxsplit=2)
        if len(words) == 3 and words[1].isdigit():
            found[words[0]] = words[2]
    return found


PAGES = {"errors.md": error_page, "events.md": event_page}


def main() -> int:
    """Exit code 1 when ``--check`` finds a page that is not what the code says."""
    stale = [name for name, page in PAGES.items() if not (DOCS / name).exists() or (DOCS / name).read_text() != page()]
    if "--check" in sys.argv:
        for name in stale:
            sys.stdout.write(f"docs/{name} is not what the code says: run tools/tables.py\n")
        return 1 if stale else 0
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
