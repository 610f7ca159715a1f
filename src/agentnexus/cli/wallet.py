"""`nexus wallet`: what is in the wallet on chain and in the books."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import click

from agentnexus.cli.options import json_option


@click.command()
@json_option
def wallet(as_json: bool) -> int:
    """Show addresses and balances, network by network."""
    from agentnexus.cli.hire import fetch

    facts = cast("dict[str, object]", asyncio.run(fetch("/api/v1/wallet", {})))
    if as_json:
        click.echo(json.dumps(facts))
        return 0
    from agentnexus.cli.view import money

    for each in (facts, *cast("list[dict[str, object]]", facts.get("others", []))):
        seen = "the chain does not answer" if each["on_chain"] is None else money(each["on_chain"])
        click.echo(f"{each['network']}  {each['address']}")
        click.echo(f"  on chain   {seen}")
        click.echo(f"  in books   {money(each['posted'])}, of it reserved {money(each['reserved'])}")
    return 0
