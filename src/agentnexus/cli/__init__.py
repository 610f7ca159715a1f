"""The `nexus` command. Each subcommand's code is imported only when it is called, so that start-up stays light."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `nexus` script."""
    from agentnexus.cli.app import nexus

    sys.exit(nexus(prog_name="nexus", standalone_mode=False))
