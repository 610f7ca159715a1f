"""`nexus doctor`: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import asyncio
import json

import click

from agentnexus.cli.options import json_option


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Check every part the economy stands on."""
    from agentnexus.devnet.doctor import examine

    findings = asyncio.run(examine())
    if as_json:
        click.echo(json.dumps([finding.to_json() for finding in findings]))
    else:
        for finding in findings:
            mark = click.style("ok     ", fg="green") if finding.good else click.style("missing", fg="red")
            click.echo(f"{mark} {finding.name:<22} {finding.found}")
            if not finding.good:
                click.echo(f"        {finding.next_step}")
    return 0 if all(finding.good or finding.optional for finding in findings) else 1
