"""`make demo`: start the economy, run the three tasks of ``examples/``, show results, receipts and costs, stop.

The tasks go through the `nexus task` command, as a person would type them. Afterwards the receipts are verified and
their transactions looked up on the chain; somebody without keys or coin buys runs from a wallet of their own, uses one
and takes the rest back, which their balance shows; and the books are checked.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from agentnexus.core.errors import NexusError
from agentnexus.devnet.economy import Economy, Plan, run_economy, write_description
from agentnexus.platform.settings import Settings

EXAMPLES = Path("examples")
AGENT = "org.agentnexus.content-summarizer"
ARTICLE = EXAMPLES / "tides-article.html"
DEMO_HOME = Path(".nexus/demo")


@dataclass(frozen=True, slots=True)
class DemoTask:
    """One entry of ``examples/tasks.toml``."""

    title: str
    text: str
    files: tuple[str, ...]
    budget: str
    expect: str


def read_tasks(folder: Path = EXAMPLES) -> list[DemoTask]:
    """The tasks in the order they are run."""
    entries = tomllib.loads((folder / "tasks.toml").read_text(encoding="utf-8"))["tasks"]
    return [
        DemoTask(entry["title"], entry["text"].strip(), tuple(entry["files"]), entry["budget"], entry["expect"])
        for entry in entries
    ]


async def run_demo(console: Console, home: Path = DEMO_HOME) -> int:
    """Exit code 0 when every task ended as it should and every receipt and the books hold."""
    started = time.monotonic()
    plan = Plan(home=home, unsafe_local=Settings().unsafe_local)
    console.print("[bold]AgentNexus demo[/]: an economy of agents on this machine, no keys, no internet\n")
    async with run_economy(plan, lambda line: console.print(f"  [dim]{escape(line)}")) as economy:
        write_description(economy, home / "devnet.json")
        console.print(f"the economy is up after {time.monotonic() - started:.1f} s: {_parts(economy)}\n")
        environment = {**os.environ, "NEXUS_HOME": str(home.absolute())}
        failures = 0
        for number, task in enumerate(read_tasks(), 1):
            console.rule(f"[bold]{number} · {escape(task.title)}", align="left")
            failures += await _run_task(console, economy, task, environment)
        console.rule("[bold]Runs bought ahead, from a wallet without keys or coin", align="left")
        failures += await _buy_runs(console, home, environment)
        console.rule("[bold]the books", align="left")
        failures += await _nexus(["ledger", "check"], environment) != 0
    verdict = "[green]everything as expected" if not failures else f"[red]{failures} things not as expected"
    console.print(f"{verdict}[/] in {time.monotonic() - started:.0f} s")
    console.print(escape(seeing_again(home)), soft_wrap=True)
    return 1 if failures else 0


def seeing_again(home: Path) -> str:
    """What to do about the addresses that were printed: the same home, the same database and ports."""
    return (
        "\nthe economy of this demo has ended, and the task pages named above with it.\n"
        "To see them again at the same addresses, or to start tasks of your own beside them:\n"
        f"  NEXUS_HOME={shlex.quote(str(home))} .venv/bin/nexus up"
    )


def _parts(economy: Economy) -> str:
    return ", ".join(part.name for part in economy.status())


async def _run_task(console: Console, economy: Economy, task: DemoTask, environment: dict[str, str]) -> int:
    """Number of things that were not as expected."""
    arguments = ["task", task.text, "--budget", task.budget, "--yes"]
    for file in task.files:
        arguments += ["--file", str(EXAMPLES / file)]
    console.print(f"[dim]$ nexus {escape(shlex.join(arguments))}[/]\n")
    code = await _nexus(arguments, environment)
    good = (code == 0) == (task.expect == "completed")
    if not good:
        console.print(f"[red]exit code {code}, but it was expected to be {task.expect}")
    return (0 if good else 1) + await _verify_receipts(console, economy, environment)


async def _verify_receipts(console: Console, economy: Economy, environment: dict[str, str]) -> int:
    """Check the newest workflow's receipts as a stranger would: signature, hashes, and the chain."""
    import httpx

    headers = {"Authorization": f"Bearer {economy.token}"}
    async with httpx.AsyncClient(base_url=economy.urls["api"], headers=headers) as client:
        newest = (await client.get("/users/local/workflows", params={"limit": 1})).json()["workflows"][0]["id"]
        state = (await client.get(f"/workflows/{newest}/task")).json()
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(state, file)
    console.print("\nreceipts, checked from outside (signature, hashes, transactions on the chain):")
    try:
        return int(await _nexus(["receipt", "verify", file.name, "--rpc", economy.chain.rpc_url], environment) != 0)
    finally:
        Path(file.name).unlink()


async def _buy_runs(console: Console, home: Path, environment: dict[str, str]) -> int:
    """Two runs bought, one used, the other given back. Number of commands that failed."""
    value = home / "article.json"
    value.write_text(json.dumps({"html": ARTICLE.read_text(encoding="utf-8"), "sentences": 2}), encoding="utf-8")
    wanted = [
        ["wallet", "create"],
        ["wallet", "top-up", "1"],
        ["agents", "buy", AGENT, "--runs", "2", "--budget", "0.05"],
        ["agents", "execute", AGENT, "--input", f"@{value}"],
        ["wallet", "balance"],
    ]
    failures = 0
    for arguments in wanted:
        failures += await _shown(console, arguments, environment)
    bought = await _asked(["purchase", "list", "--json"], environment)
    for arguments in (["purchase", "refund", str(bought[0]["id"])], ["wallet", "balance"]):
        failures += await _shown(console, arguments, environment)
    return failures


async def _shown(console: Console, arguments: list[str], environment: dict[str, str]) -> int:
    console.print(f"[dim]$ nexus {escape(shlex.join(arguments))}[/]", soft_wrap=True)
    return int(await _nexus(arguments, environment) != 0)


async def _asked(arguments: list[str], environment: dict[str, str]) -> list[dict[str, object]]:
    """The JSON list that a command prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentnexus.cli", *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    found: list[dict[str, object]] = json.loads(printed)
    return found


async def _nexus(arguments: list[str], environment: dict[str, str]) -> int:
    sys.stdout.flush()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentnexus.cli", *arguments, env=environment, stdin=asyncio.subprocess.DEVNULL
    )
    return await process.wait()


def main() -> int:
    """Entry of ``python -m agentnexus.devnet.demo``."""
    console = Console(highlight=False)
    try:
        return asyncio.run(run_demo(console))
    except NexusError as error:
        console.print(f"[red]{escape(error.message)}[/]\n{escape(error.next_step)}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
