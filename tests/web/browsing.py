"""A browser without scripts, as far as forms go: reads a drawn form and says what pressing its button would send."""

from __future__ import annotations

from html.parser import HTMLParser


class FormReader(HTMLParser):
    """`sent` has every successful control (HTML, "form submission") of the page by name; templates are inert."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: dict[str, list[str]] = {}
        self.controls: dict[str, list[dict[str, str | None]]] = {}
        self._inert = 0
        self._text: tuple[str, list[str]] | None = None
        self._select: tuple[str, list[tuple[str, bool]]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._inert += tag == "template"
        name = given.get("name")
        if self._inert:
            return
        if tag == "option" and self._select is not None:
            self._select[1].append((given.get("value") or "", "selected" in given))
        if not name or "disabled" in given:
            return
        self.controls.setdefault(name, []).append({"tag": tag, **given})
        match tag:
            case "input":
                self._input(name, given)
            case "textarea":
                self._text = (name, [])
            case "select":
                self._select = (name, [])

    def _input(self, name: str, given: dict[str, str | None]) -> None:
        kind = given.get("type", "text")
        if kind == "file" or (kind in ("checkbox", "radio") and "checked" not in given):
            return
        self.sent.setdefault(name, []).append(given.get("value") or "")

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text[1].append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inert -= tag == "template"
        if tag == "textarea" and self._text is not None:
            name, parts = self._text
            self.sent.setdefault(name, []).append("".join(parts).removeprefix("\n"))
            self._text = None
        if tag == "select" and self._select is not None:
            name, options = self._select
            chosen = next((value for value, selected in options if selected), options[0][0] if options else "")
            self.sent.setdefault(name, []).append(chosen)
            self._select = None


def read_form(html: str) -> FormReader:
    reader = FormReader()
    reader.feed(html)
    reader.close()
    return reader
