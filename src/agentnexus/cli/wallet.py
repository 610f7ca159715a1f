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
    """Show address and balances."""
    from agentnexus.cli.hire import fetch

    facts = cast("dict[str, object]", asyncio.run(fetch("/api/v1/wallet", {})))
    if as_json:
        click.echo(json.dumps(facts))
        return 0
    from agentnexus.cli.view import money

    click.echo(f"{facts['network']}  {facts['address']}")
    click.echo(f"  on chain   {money(facts['on_chain'])}")
    click.echo(f"  in books   {money(facts['posted'])}, of it reserved {money(facts['reserved'])}")
    return 0
