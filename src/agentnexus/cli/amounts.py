"""Amounts on the command line: decimal text, checked before anything is asked of the node."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import click


class Amount(click.ParamType[str]):
    """A positive amount of USDC with at most six decimals; stays text, because money never is a float."""

    name = "amount"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            amount = Decimal(text)
        except InvalidOperation:
            self.fail(f"{text!r} is no amount; write for example 0.50", param, ctx)
        if not amount.is_finite() or amount <= 0 or amount != round(amount, 6):
            self.fail(f"{text!r} is no amount of USDC: above 0, at most 6 decimals", param, ctx)
        return f"{amount:f}"


AMOUNT = Amount()
