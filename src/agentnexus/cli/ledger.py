"""`nexus ledger`: check that the books balance, with themselves and with the chain; export statements."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import click

from agentnexus.cli.options import json_option

if TYPE_CHECKING:
    from agentnexus.bootstrap.books import BooksReport


@click.group()
def ledger() -> None:
    """Work with the books."""


@ledger.command()
@json_option
def check(as_json: bool) -> int:
    """Check double entry, balances, holds and budgets, and compare the wallets with the chain."""
    from agentnexus.bootstrap.books import check_books

    report = asyncio.run(check_books())
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        _show(report)
    return 0 if report.good else 1


def _show(report: BooksReport) -> None:
    for name, count in report.counts.items():
        click.echo(f"  {name:<24} {count}")
    for line in report.wallets:
        click.echo(f"  {line}")
    for problem in report.problems:
        click.secho(f"  problem: {problem}", fg="red")
    click.secho(
        "the books balance" if report.good else "the books do NOT balance", fg="green" if report.good else "red"
    )


@ledger.command()
@click.argument("signature")
@json_option
def payout(signature: str, as_json: bool) -> int:
    """Book what you took out of the treasury by the transaction SIGNATURE, as the node's own income; once."""
    from agentnexus.bootstrap.books import book_payout

    booked = asyncio.run(book_payout(signature))
    if as_json:
        click.echo(json.dumps(booked.to_json()))
    else:
        click.echo(f"booked {booked.amount} to {booked.receiver or 'several receivers'}; {booked.left} of income left")
    return 0


@ledger.command()
@click.argument("account")
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@json_option
def statement(account: str, form: str, as_json: bool) -> int:
    """Print every entry of ACCOUNT, oldest first; `nexus ledger check` names the accounts of wallets."""
    from agentnexus.bootstrap.books import statement_of

    click.echo(asyncio.run(statement_of(account, "json" if as_json else form)), nl=False)
    return 0
