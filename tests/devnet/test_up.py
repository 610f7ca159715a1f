"""`nexus up` in a terminal: starts, is interrupted, killed and started again; nothing stays behind, no book is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from agentnexus.platform.process import wait_until_ready
from tests.devnet.support import Up, gone

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short and enterable by the database's own user."""
    return Path("/tmp") / f"nexus-up-{os.getpid()}-{tmp_path_factory.getbasetemp().name}"


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def clean(home: Path) -> AsyncIterator[None]:
    yield
    shutil.rmtree(home, ignore_errors=True)


@pytest_asyncio.fixture(loop_scope="module")
async def up(home: Path) -> AsyncIterator[Up]:
    """A running economy in the module's home: cold for the first test, warm for the others."""
    started = await Up.start(home, "--free-ports", "--json", str(home.with_suffix(".json")))
    family: list[psutil.Process] = []
    try:
        await started.prints("ready in")
        yield started
    finally:
        if started.process.returncode is None:
            family = started.family()
            started.process.send_signal(signal.SIGTERM)
            await started.ends()
        await gone(family)
        home.with_suffix(".json").unlink(missing_ok=True)


@pytest.mark.parametrize("moment", ["starting the economy", "chain ready", "facilitator ready"])
async def test_ctrl_c_while_starting_stops_at_once_and_leaves_nothing(home: Path, moment: str) -> None:
    starting = await Up.start(home, "--free-ports")
    await starting.prints(moment)
    family = starting.family()
    starting.process.send_signal(signal.SIGINT)
    code, output = await starting.ends()
    assert code == 1
    assert "stopped before everything was up" in output or moment == "starting the economy"
    assert "Traceback" not in output
    assert not (home / "devnet.json").exists()
    await gone(family)


async def test_it_says_where_everything_is_and_takes_a_job_after_a_hard_kill(up: Up) -> None:
    facts = up.facts()
    assert {"evm", "registry_url", "facilitator_url", "api_url", "web_url", "accounts"} <= set(facts)
    assert json.loads(up.home.with_suffix(".json").read_text()) == facts
    for path in (up.home / "devnet.json", up.home / "token", up.home.with_suffix(".json")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    names = [line.split()[0] for line in up.lines if "ready (" in line]
    assert set(names) == {"database", "chain", "solana", "facilitator", "registry", "api", "agents"}

    code, output = await (await Up.start(up.home)).ends()
    assert code == 1
    assert "already running" in output and "what to do" in output

    await _summarise(up)
    family = up.family()
    assert {"anvil", "postgres", "nexus-serve", "nexus-worker"} <= {process.name() for process in family}
    up.process.kill()
    await gone(family)
    code, _, complaint = await up.nexus("wallet")
    assert code == 1
    assert "has stopped" in complaint


async def test_books_and_chain_go_on_together_in_the_same_place(up: Up) -> None:
    report = await _books(up)
    assert report["good"], report
    before = await _wallet(up)
    assert before["posted"] == before["on_chain"]
    assert before["posted"]["atomic"] == "9999990000"
    again = await _summarise(up)
    assert again["cost"]["atomic"] == "10000"  # type: ignore[index, call-overload]  # JSON

    # The database and the node come back by themselves, and what the node forgot is sent again.
    for name, line in (("anvil", "chain ended"), ("postgres", "database ended")):
        killed = next(process for process in up.family() if process.name() == name)
        killed.kill()
        await up.prints(line)
        await _back(up)
    report = await _books(up)
    assert report["good"], report
    assert (await _wallet(up))["on_chain"]["atomic"] == "9999980000"
    done = await _summarise(up)
    assert done["status"] == "completed"
    await _survives_the_end_of_all_roles(up)
    api_url = up.facts()["api_url"]

    up.process.send_signal(signal.SIGINT)
    up.process.send_signal(signal.SIGINT)  # an impatient second Ctrl-C changes nothing
    code, output = await up.ends()
    assert code == 0
    assert output.rstrip().endswith("stopped")
    assert not (up.home / "devnet.json").exists()
    assert f":{json.loads((up.home / 'ports.json').read_text())['api']}" in str(api_url)


async def _survives_the_end_of_all_roles(up: Up) -> None:
    """They end with the process that they were forked from, and come back with it."""
    roles: dict[str, int] = up.facts()["processes"]  # type: ignore[assignment]  # JSON
    nursery = psutil.Process(roles["api"]).parent()
    assert nursery is not None
    nursery.kill()
    await _back(up)
    fresh = {process.pid for process in up.family() if process.name().startswith("nexus-")}
    assert len(fresh) == len(roles)
    assert not fresh & set(roles.values())


async def _summarise(up: Up) -> dict[str, object]:
    code, out, err = await up.nexus(
        "task", "Summarise this article", "--file", "examples/tides-article.html", "--budget", "0.10", "--yes", "--json"
    )
    assert code == 0, out + err
    state: dict[str, object] = json.loads(out)
    return state


async def _books(up: Up) -> dict[str, object]:
    _, out, err = await up.nexus("ledger", "check", "--json")
    assert out, err
    report: dict[str, object] = json.loads(out)
    return report


async def _wallet(up: Up) -> dict[str, dict[str, str]]:
    _, out, err = await up.nexus("wallet", "--json")
    assert out, err
    wallet: dict[str, dict[str, str]] = json.loads(out)
    return wallet


async def _back(up: Up) -> None:
    """Until the wallet can be read, which takes the API, the database and the chain."""

    async def answers() -> bool:
        code, _, _ = await up.nexus("wallet", "--json")
        return code == 0

    await wait_until_ready(answers, what="the economy", timeout_seconds=60)
