"""Amounts, times, durations and names as people read them."""

from __future__ import annotations

import hashlib
import re
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from agentnexus.core.money import Money

NETWORKS: Final = {"eip155:8453": "Base", "eip155:84532": "Base Sepolia", "eip155:1": "Ethereum"}
GRID: Final = (7, 16, 25)
DATE: Final = re.compile(r"(?<![\w-])[0-9]{4}-[0-9]{2}-[0-9]{2}(?![\w-])", re.ASCII)


def money(amount: Money | None) -> str:
    """``0.02 USDC``, as `core.money` spells it. Empty when there is none."""
    return "" if amount is None else str(amount)


def duration(milliseconds: float | None) -> str:
    """``420 ms``, ``3.1 s``, ``2 min 5 s``; empty when not known."""
    if milliseconds is None:
        return ""
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """Bytes as ``12 KB`` or ``3.4 MB`` (powers of 1000, as file managers show them)."""
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1000:.0f} KB" if count < 999_500 else f"{count / 1_000_000:.1f} MB"


def percent(share: float | None) -> str:
    """A share 0..1 as ``97 %``; one digit more near the top, so that 99.6 % is not shown as perfect."""
    if share is None:
        return ""
    if 0.99 <= share < 1:
        return f"{min(share * 100, 99.9):.1f} %"
    return f"{share * 100:.0f} %"


def ago(moment: datetime, now: datetime) -> str:
    """``just now``, ``5 min ago``, ``3 h ago``, then the date."""
    seconds = (now - moment).total_seconds()
    if seconds < 45:
        return "just now"
    if seconds < 59.5 * 60:
        return f"{max(1, round(seconds / 60))} min ago"
    if seconds < 23.5 * 3600:
        return f"{max(1, round(seconds / 3600))} h ago"
    return day(moment)


def day(moment: datetime) -> str:
    """``3 Dec 2026``, in UTC."""
    there = moment.astimezone(UTC)
    return f"{there.day} {there:%b %Y}"


def with_days(text: str) -> str:
    """Dates in a sentence of the house, ``2026-12-03``, as pages write them."""
    return DATE.sub(_as_day, text)


def _as_day(found: re.Match[str]) -> str:
    try:
        return day(datetime.fromisoformat(found[0]).replace(tzinfo=UTC))
    except ValueError:  # no day of any calendar
        return found[0]


def minute(moment: datetime) -> str:
    """``3 Dec 2026, 00:00 UTC``."""
    return f"{day(moment)}, {moment.astimezone(UTC):%H:%M} UTC"


def until(moment: datetime, now: datetime) -> str:
    """``now``, ``in 5 min``, ``in 3 h``, ``in 2 days``."""
    seconds = (moment - now).total_seconds()
    if seconds < 30:
        return "now"
    if seconds < 59.5 * 60:
        return f"in {max(1, round(seconds / 60))} min"
    if seconds < 23.5 * 3600:
        return f"in {max(1, round(seconds / 3600))} h"
    return f"in {plural(max(1, round(seconds / 86400)), 'day')}"


def network_name(caip2: str) -> str:
    """A name for a CAIP-2 network, as ``Base`` or ``local chain (eip155:31337)``."""
    if caip2 in NETWORKS:
        return NETWORKS[caip2]
    return f"local chain ({caip2})" if caip2 in ("eip155:31337", "eip155:1337") else caip2


def wrapped(text: str, columns: int, lines: int = 2) -> list[str]:
    """`text` broken at words into at most `lines` lines of `columns` characters; what does not fit ends in ``…``."""
    return textwrap.wrap(text[:1000], max(columns, 4), max_lines=lines, placeholder="…")


def capital(text: str) -> str:
    """With a capital, unless it begins with an address, an id or a word that has its own capitals."""
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    is_word = first.rstrip(",.:;!?").isalpha() and first[1:] == first[1:].lower()
    return text[0].upper() + text[1:] if is_word else text


def short_key(text: str) -> str:
    """A long key by its ends, ``evm:0x9965…a4dc``; names stay as they are."""
    kind, mark, key = text.rpartition(":")
    return f"{kind}{mark}{key[:6]}…{key[-4:]}" if len(key) > 24 and " " not in key else text


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Sigil:
    """A small drawing that is the same for the same agent everywhere: four joined dots, one of them lit."""

    path: str
    dots: tuple[tuple[int, int], ...]
    lit: tuple[int, int]


def sigil(identifier: str) -> Sigil:
    """Drawn in a 32 by 32 box, from a hash of `identifier`."""
    digest = hashlib.sha256(identifier.encode()).digest()
    cells = [(x, y) for y in GRID for x in GRID]
    picked: list[tuple[int, int]] = []
    for byte in digest:
        cell = cells[byte % len(cells)]
        if cell not in picked:
            picked.append(cell)
        if len(picked) == 4:
            break
    path = "M" + "L".join(f"{x} {y}" for x, y in picked)
    return Sigil(path, tuple(picked[:-1]), picked[-1])
