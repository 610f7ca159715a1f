"""Text from an agent, made fit to store and show: secrets out, control characters visible, sizes bounded."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping

LINE_BYTES = 8 * 1024
_MIN_SECRET_LENGTH = 4
_ESCAPES: dict[int, str] = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != 9}
# Line separators, and everything that turns the direction of the text around it.
_ESCAPES |= {code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_ESCAPES |= {0x0A: "\\n", 0x0D: "\\r"}
_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """One line: nothing left in it that ends a line, starts an event or drives a terminal."""
    return _SURROGATES.sub("\ufffd", text.translate(_ESCAPES))


class Redactor:
    """Replaces the run's secret values by their names. Values under four characters would hit ordinary words."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        lines = ((part, name) for name, value in secrets.items() for part in {value, *value.splitlines()})
        known = {part: name for part, name in lines if len(part) >= _MIN_SECRET_LENGTH}
        self._names = known
        self.longest = max((len(part) for part in known), default=0)
        # The longest first: one secret may be a part of another.
        ordered = sorted(known, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if known else None

    def __call__(self, text: str) -> str:
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: f"[secret {self._names[match[0]]}]", text)


class Lines:
    """Bytes of a stream to clean, redacted lines. A line without an end is cut after `LINE_BYTES`."""

    def __init__(self, redact: Redactor) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._redact = redact
        self._rest = ""

    def feed(self, data: bytes, *, final: bool = False) -> Iterator[str]:
        self._rest += self._decode(data, final)
        *whole, self._rest = self._rest.split("\n")
        yield from self._finished(whole)
        if len(self._rest) > LINE_BYTES + self._redact.longest:
            # A secret may lie across the cut: take it out first, and keep back enough for one just begun.
            text = self._redact(self._rest)
            cut = max(1, len(text) - self._redact.longest)
            self._rest = text[cut:]
            yield from self._finished([text[:cut]])
        if final and self._rest:
            yield from self._finished([self._rest])
            self._rest = ""

    def _finished(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            text = clean(self._redact(line.removesuffix("\r")))
            yield from (text[start : start + LINE_BYTES] for start in range(0, max(len(text), 1), LINE_BYTES))
