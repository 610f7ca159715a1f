"""The command tree, lazily loaded, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import importlib
import json
import sys

import click

from agentnexus.cli.examples import with_examples
from agentnexus.core.errors import ErrorCode, NexusError

COMMANDS = {
    "up": ("agentnexus.cli.up", "start the economy on this machine"),
    "task": ("agentnexus.cli.tasks", "plan, price and run a task in plain words; list and show tasks"),
    "template": ("agentnexus.cli.schedule", "keep a task's plan and run it again"),
    "schedule": ("agentnexus.cli.schedule", "begin tasks at set times"),
    "webhook": ("agentnexus.cli.schedule", "have events sent to an address"),
    "offers": ("agentnexus.cli.hire", "compare the offers of all markets for a need"),
    "hire": ("agentnexus.cli.hire", "hire one seller for one job"),
    "prefer": ("agentnexus.cli.prefer", "sellers to take first, and sellers never to hire"),
    "agents": ("agentnexus.cli.agents", "list, show, run, buy, make and test agents"),
    "purchase": ("agentnexus.cli.purchase", "runs and months that you bought: list, show, sign, take back"),
    "entitlements": ("agentnexus.cli.rights", "what you have bought and may run; pass it on"),
    "budget": ("agentnexus.cli.budget", "show and set spending limits"),
    "grant": ("agentnexus.cli.grant", "let your wallet sign approvals that spare you being asked"),
    "escrow": ("agentnexus.cli.escrow", "your prepaid account: top up, claim, withdraw"),
    "metrics": ("agentnexus.cli.metrics", "what was spent, earned and saved, and on what"),
    "sign-in": ("agentnexus.cli.sign_in", "be yourself to a node: by e-mail or by your wallet"),
    "sign-out": ("agentnexus.cli.sign_in", "end that again"),
    "wallet": ("agentnexus.cli.wallet", "the node's wallets, and your own account: balance, send, sign"),
    "contracts": ("agentnexus.cli.contracts", "put contracts on a chain, find and check them"),
    "ledger": ("agentnexus.cli.ledger", "check and export the books"),
    "token": ("agentnexus.cli.token", "give, list and end access tokens of this node's users"),
    "receipt": ("agentnexus.cli.receipt", "verify a receipt without trusting anybody, and rate its seller"),
    "doctor": ("agentnexus.cli.doctor", "say what is missing here and how to get it"),
    "db": ("agentnexus.cli.roles", "bring the database to the newest schema"),
    "serve": ("agentnexus.cli.roles", "role: API, pages and the seller's side"),
    "worker": ("agentnexus.cli.roles", "role: runs workflows"),
    "facilitator": ("agentnexus.cli.roles", "role: x402 verify and settle"),
    "registry": ("agentnexus.cli.roles", "role: x402 registry and Bazaar"),
}
EXIT_FAILED, EXIT_USAGE, EXIT_OVER_BUDGET = 1, 2, 3


class LazyGroup(click.Group):
    """Knows names and one-line helps; imports a command's module when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return with_examples(command, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def main(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]  # click's is overloaded
        """Run and turn every expected failure into a message, advice and exit code."""
        try:
            result = super().main(*args, **kwargs)  # type: ignore[call-overload]  # same reason
        except NexusError as error:
            report(error)
            over = error.code in (ErrorCode.BUDGET_EXCEEDED, ErrorCode.INSUFFICIENT_FUNDS)
            return EXIT_OVER_BUDGET if over else EXIT_FAILED
        except click.exceptions.Abort:
            if wants_json():
                _print_error({"code": "cancelled", "message": "stopped by the person at the keyboard"})
            click.echo("stopped", err=True)
            return EXIT_FAILED
        except click.ClickException as error:
            if wants_json():
                _print_error({"code": str(ErrorCode.INVALID_INPUT), "message": error.format_message()})
            else:
                error.show()
            return error.exit_code
        return result if isinstance(result, int) else 0


def wants_json() -> bool:
    """Whether standard output belongs to one JSON value (``up --json FILE`` names a file instead)."""
    return "--json" in sys.argv and sys.argv[1] != "up"


def report(error: NexusError) -> None:
    """Show an error for a person on standard error, or as JSON on standard output when ``--json`` was asked for."""
    if wants_json():
        _print_error(error.to_json())
        return
    from agentnexus.cli.printable import printable

    click.secho(f"error: {printable(error.message)}", fg="red", err=True)
    fields = printable(error.details.get("fields"))
    for field in fields if isinstance(fields, list) else []:
        click.echo(f"  {field.get('field')}: {field.get('problem')}", err=True)
    if error.next_step:
        click.echo(f"  what to do: {printable(error.next_step)}", err=True)


def _print_error(error: dict[str, object]) -> None:
    click.echo(json.dumps({"success": False, "error": error}))


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="agentnexus")
def nexus() -> None:
    """AgentNexus: hire work on an open economy of agents, inside limits, with receipts.

    Exit codes: 0 done, 1 failed, 2 wrongly called, 3 over a budget, 4 not done yet. With --json, errors are JSON, too.
    """
