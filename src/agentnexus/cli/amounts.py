"""Amounts on the command line: decimal text, checked before anything is asked of the node."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import click

DIGITS_MAX = 30


class Amount(click.ParamType[str]):
    """A positive amount with at most `decimals` decimals; stays text, because money never is a float."""

    name = "amount"

    def __init__(self, decimals: int = 6, what: str = "USDC") -> None:
        self.decimals = decimals
        self.what = what

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            amount = Decimal(text)
        except InvalidOperation:
            self.fail(f"{text!r} is no amount; write for example 0.50", param, ctx)
        if not amount.is_finite() or amount <= 0 or not self._fits(amount):
            self.fail(f"{text!r} is no amount of {self.what}: above 0, at most {self.decimals} decimals", param, ctx)
        return f"{amount:f}"

    def _fits(self, amount: Decimal) -> bool:
        """Written out it has few enough digits, and no more decimals than there are."""
        if not -DIGITS_MAX < amount.adjusted() < DIGITS_MAX:
            return False
        return len(f"{amount:f}".partition(".")[2].rstrip("0")) <= self.decimals


def spell(amount: object) -> str:
    """Decimal text (or a number) of a node's answer, as money is spelled everywhere."""
    from agentnexus.core.money import spelled

    return spelled(Decimal(str(amount)))


AMOUNT = Amount()
TOKENS = Amount(9, "USDC or SOL")
