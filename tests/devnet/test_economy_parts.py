"""Parts of the economy that need no running one: ports, description, lock, the demo's reader, the status table."""

from __future__ import annotations

import fcntl
import io
import json
import stat
from pathlib import Path

import pytest
from rich.console import Console

from agentnexus.core.errors import Conflict, Unavailable
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.devnet.demo import read_tasks
from agentnexus.devnet.economy import DEFAULT_PORTS, Economy, Plan, bind_anew, run_economy, write_description
from agentnexus.devnet.solana.chain import SolanaDevelopmentChain
from agentnexus.devnet.status import table
from agentnexus.platform.process import free_port, listen_on


def economy(home: Path, chain: DevelopmentChain) -> Economy:
    """One that was never started, attached to a chain that runs."""
    made = Economy(Plan(home=home, database_url="postgresql://u:secret@127.0.0.1:5/x"))
    made._chain = chain
    made._solana = SolanaDevelopmentChain()
    made.urls = {name: f"http://127.0.0.1:{number}" for number, name in enumerate(("registry", "facilitator", "api"))}
    return made


async def test_the_description_is_whole_private_and_replaced_at_once(tmp_path: Path, chain: DevelopmentChain) -> None:
    path = tmp_path / "devnet.json"
    path.write_text("something old")
    path.chmod(0o644)
    write_description(economy(tmp_path, chain), path)
    facts = json.loads(path.read_text())
    assert facts["evm"]["rpc_url"] == chain.rpc_url
    assert facts["evm"]["contracts"]["usdc"] == facts["evm"]["usdc"]
    assert facts["web_url"] == facts["api_url"]
    assert set(facts["accounts"]) >= {"buyer", "relayer", *facts["sellers"]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["devnet.json"]


async def test_the_table_shows_every_part_and_no_password(tmp_path: Path, chain: DevelopmentChain) -> None:
    out = io.StringIO()
    Console(width=120, file=out).print(table(economy(tmp_path, chain)))
    text = out.getvalue()
    assert "127.0.0.1:5/x" in text
    assert chain.rpc_url in text
    assert "secret" not in text


async def test_a_home_belongs_to_one_economy_at_a_time(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="already running") as error:
            async with run_economy(Plan(home=tmp_path)):
                pytest.fail("started")
    assert "Ctrl-C" in error.value.next_step
    assert not (tmp_path / "ports.json").exists()


async def test_ports_are_those_of_last_time_where_they_are_free(tmp_path: Path, chain: DevelopmentChain) -> None:
    first = await ports_of(Plan(home=tmp_path, fixed_ports=False))
    assert len(set(first.values())) == len(DEFAULT_PORTS)
    (tmp_path / "ports.json").write_text(json.dumps(first))
    assert await ports_of(Plan(home=tmp_path, fixed_ports=False)) == first
    assert await ports_of(Plan(home=tmp_path)) == first
    with listen_on(0) as other:  # type: ignore[union-attr]  # a free port
        taken = {**first, "chain": chain.port, "api": other.getsockname()[1]}
        (tmp_path / "ports.json").write_text(json.dumps(taken))
        again = await ports_of(Plan(home=tmp_path, fixed_ports=False))
    assert again["chain"] != chain.port
    assert again["api"] != taken["api"]
    assert {**again, "chain": 0, "api": 0} == {**first, "chain": 0, "api": 0}


async def ports_of(plan: Plan) -> dict[str, int]:
    """The ports that an economy takes, given back at once."""
    chosen = Economy(plan)
    ports = await chosen._take_ports()
    for name, listener in chosen._listeners.items():
        assert listen_on(ports[name]) is None, "nobody else can have it"
        listener.close()
    return ports


async def test_a_port_that_is_lost_before_it_is_bound_is_chosen_anew(tmp_path: Path, chain: DevelopmentChain) -> None:
    late = Economy(Plan(home=tmp_path))
    (tmp_path / "logs").mkdir()
    await bind_anew(late._start_chain, chain.port)
    try:
        assert late.chain.port != chain.port
        assert await late.chain.rpc.chain_id() == await chain.rpc.chain_id()
    finally:
        await late.chain.stop()
        await late.chain.rpc.close()


async def test_what_fails_for_another_reason_is_not_tried_on_another_port() -> None:
    tried: list[int] = []

    async def fail(port: int) -> None:
        tried.append(port)
        raise Unavailable("no such program")

    with pytest.raises(Unavailable, match="no such program"):
        await bind_anew(fail, free_port())
    assert len(tried) == 1


def test_the_three_tasks_of_the_demo_are_there_with_their_files() -> None:
    tasks = read_tasks()
    assert [task.expect for task in tasks] == ["completed", "completed", "failed"]
    assert all(Path("examples", file).is_file() for task in tasks for file in task.files)
    assert any(len(task.files) > 2 for task in tasks)
    assert all(task.text == task.text.strip() for task in tasks)


def test_tasks_are_read_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "tasks.toml").write_text(
        '[[tasks]]\ntitle = "T"\ntext = "  do it "\nfiles = []\nbudget = "0.1"\nexpect = "failed"\n'
    )
    (task,) = read_tasks(tmp_path)
    assert (task.title, task.text, task.files, task.budget, task.expect) == ("T", "do it", (), "0.1", "failed")
