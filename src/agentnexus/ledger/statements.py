"""Account statements for people and programs: CSV and JSON of what `Door.statement` lists."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from agentnexus.core.money import Asset
from agentnexus.ledger.door import Line

COLUMNS = ("at", "transfer", "kind", "counterparty", "amount", "balance", "asset", "correlation", "memo")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def to_csv(lines: Sequence[Line]) -> str:
    """RFC 4180 with a header; amounts in whole units. Text from others cannot become a spreadsheet formula."""
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerow(COLUMNS)
    for line in lines:
        writer.writerow(
            (
                line.at.isoformat(),
                line.transfer_id,
                str(line.kind),
                _harmless(line.counterparty),
                f"{line.amount.decimal:f}",
                f"{line.balance.decimal:f}",
                line.amount.asset.symbol,
                _harmless(line.correlation),
                _harmless(line.memo),
            )
        )
    return target.getvalue()


def to_json(account: str, asset: Asset, lines: Sequence[Line]) -> dict[str, object]:
    """``{account, asset, opening, closing, lines[]}``; money in its own JSON form.

    Without lines both balances are null: an empty window does not know them (`Door.as_of` does).
    """
    first, last = (lines[0], lines[-1]) if lines else (None, None)
    return {
        "account": account,
        "asset": asset.caip19,
        "opening": None if first is None else (first.balance - first.amount).to_json(),
        "closing": None if last is None else last.balance.to_json(),
        "lines": [
            {
                "at": line.at.isoformat(),
                "transfer": line.transfer_id,
                "kind": str(line.kind),
                "counterparty": line.counterparty,
                "amount": line.amount.to_json(),
                "balance": line.balance.to_json(),
                "correlation": line.correlation,
                "memo": line.memo,
            }
            for line in lines
        ],
    }


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
