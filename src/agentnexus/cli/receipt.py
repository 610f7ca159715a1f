"""`nexus receipt`: check one offline or with the chain, and rate its seller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from agentnexus.cli.options import done, json_option
from agentnexus.cli.printable import printable

if TYPE_CHECKING:
    from agentnexus.bootstrap.verify import Report


@click.group()
def receipt() -> None:
    """Work with receipts."""


@receipt.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rpc", help="JSON-RPC address of the chain (EVM or Solana), to look up payments and refunds as well")
@click.option("--signer", "signers", multiple=True, help="accept only receipts signed by this key (ed25519:…)")
@json_option
def verify(file: Path, rpc: str | None, signers: tuple[str, ...], as_json: bool) -> int:
    """Check the receipt in FILE (one receipt, or what `nexus task --json` or `nexus hire --json` printed).

    Without --signer a receipt that anybody made and signed is valid, too: look who signed it.
    """
    from agentnexus.core.errors import InvalidInput

    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{file} is not JSON: {error}", next_step="pass a receipt file") from error
    receipts = value.get("receipts", [value.get("receipt", value)]) if isinstance(value, dict) else value
    if not isinstance(receipts, list) or not receipts:
        raise InvalidInput(f"{file} holds no receipt", next_step="pass a receipt, or the output of `nexus task --json`")
    reports = [check_one(entry, rpc, signers or None) for entry in receipts]
    if as_json:
        click.echo(json.dumps(reports))
    else:
        _show(reports, hint="" if signers else " (--signer accepts only yours)")
    return 0 if all(report["valid"] for report in reports) else 1


@receipt.command()
@click.argument("receipt_id", metavar="RECEIPT")
@click.option("--stars", required=True, type=click.IntRange(1, 5), help="5 is best")
@click.option("--comment", default="", help="for the registry, where everybody reads it")
@click.option("--private", is_flag=True, help="count them on this node only")
@json_option
def rate(receipt_id: str, stars: int, comment: str, private: bool, as_json: bool) -> int:
    """Rate the seller of RECEIPT (rct_…): here, and at the registry with the payment as proof.

    Rating again replaces your stars here; the registry takes one rating per payment.
    """
    import asyncio
    from urllib.parse import quote

    from agentnexus.cli.hire import send

    body = {"rating": stars, "publish": not private, "comment": comment}
    answer = cast("dict[str, object]", asyncio.run(send(f"/api/v1/receipts/{quote(receipt_id, safe='')}/rating", body)))
    said = f"{stars} of 5 for {receipt_id}"
    if answer.get("published"):
        said += ", at the registry as well"
    elif not private:
        said += f"; not at the registry: {printable(str(answer.get('reason', 'it gave no reason')))}"
    return done(said, answer, as_json=as_json)


def _show(reports: list[Report], hint: str) -> None:
    """A line per receipt and its problems; who signed is said once where it is the same for all."""
    shared = len({report["signer"] for report in reports}) == 1
    for report in reports:
        good = report["valid"]
        click.secho(f"{'valid' if good else 'NOT VALID'}  {printable(report['id'])}", fg="green" if good else "red")
        if not shared:
            click.echo(f"  signed by {printable(report['signer'])}")
        for problem in report["problems"]:
            click.echo(f"  {printable(problem)}")
    together = f"signed by {printable(reports[0]['signer'])}" if shared else "signed by several"
    click.echo(f"{together}{hint}")


def check_one(entry: object, rpc: str | None, signers: tuple[str, ...] | None) -> Report:
    """``{id, signer, valid, problems}`` of one receipt."""
    import asyncio

    from agentnexus.bootstrap.verify import verify_with_chain

    return asyncio.run(verify_with_chain(entry, rpc, signers))
