"""The selling side: every agent that can be prepared is listed, one that cannot keeps nobody else from selling."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from agentnexus.bootstrap.authoring import make_agent
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.selling import warm
from agentnexus.core.errors import Unavailable
from agentnexus.devnet.chain import DevelopmentChain
from tests.bootstrap.support import selling_from

COUNTER, BROKEN, NAMELESS, SECOND = "a-counter", "b-broken", "c-nameless", "d-second"


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    """Two that work, one whose code cannot be imported, one whose manifest is no manifest."""
    folder = tmp_path / "agents"
    for name in (COUNTER, BROKEN, NAMELESS, SECOND):
        make_agent(folder / name)
    (folder / BROKEN / "agent.py").write_text("raise RuntimeError('broken on purpose')\n")
    (folder / NAMELESS / "agent.toml").write_text("version = 5\n")
    return folder


async def test_a_broken_agent_is_left_out_and_the_others_are_listed(
    ground: Ground, connected: Chain, chain: DevelopmentChain, agents: Path
) -> None:
    with capture_logs() as logs:
        async with selling_from(ground, connected, agents_dir=agents) as selling:
            listed = {listing.id: listing for listing in selling.listed}
    assert set(listed) == {f"org.example.{COUNTER}", f"org.example.{SECOND}"}
    complaints = {entry["agent"]: entry["reason"] for entry in logs if entry["event"] == "selling.not_listed"}
    assert set(complaints) == {BROKEN, NAMELESS}
    assert "broken on purpose" in complaints[BROKEN]
    # Each is paid to the key of its place in the folder, so that a broken neighbour moves nobody's money.
    assert listed[f"org.example.{COUNTER}"].seller == chain.accounts["seller-1"].address
    assert listed[f"org.example.{SECOND}"].seller == chain.accounts["seller-4"].address


async def test_a_new_folder_moves_no_agent_to_another_key(
    ground: Ground, connected: Chain, chain: DevelopmentChain, agents: Path
) -> None:
    async with selling_from(ground, connected, agents_dir=agents) as selling:
        before = await selling.listings.payees()
    make_agent(agents / "0-first")  # before all others in the alphabet
    shutil.rmtree(agents / NAMELESS)
    async with selling_from(ground, connected, agents_dir=agents) as selling:
        after = await selling.listings.payees()
    new = after["org.example.0-first"]
    assert {name: payee for name, payee in after.items() if name in before} == before
    assert new not in before.values()
    assert new in {chain.accounts[f"seller-{number}"].address.lower() for number in range(1, 5)}


async def test_when_every_key_has_an_agent_the_last_one_has_the_rest(
    ground: Ground, connected: Chain, chain: DevelopmentChain, agents: Path
) -> None:
    for name in ("e-third", "f-fourth"):
        make_agent(agents / name)
    async with selling_from(ground, connected, agents_dir=agents) as selling:
        payees = await selling.listings.payees()
    last = chain.accounts["seller-4"].address.lower()
    assert [payees[f"org.example.{name}"] for name in (SECOND, "e-third", "f-fourth")] == [last] * 3


async def test_an_agent_whose_key_was_taken_away_gets_another(
    ground: Ground, connected: Chain, chain: DevelopmentChain, agents: Path
) -> None:
    async with selling_from(ground, connected, agents_dir=agents) as selling:
        before = await selling.listings.payees()
    keys = ",".join(chain.accounts[f"seller-{number}"].private_key for number in (2, 3, 4))
    fewer = dataclasses.replace(ground, settings=ground.settings.model_copy(update={"seller_keys": SecretStr(keys)}))
    async with selling_from(fewer, connected, agents_dir=agents) as selling:
        after = await selling.listings.payees()
    assert after[f"org.example.{SECOND}"] == before[f"org.example.{SECOND}"]
    assert after[f"org.example.{COUNTER}"] == chain.accounts["seller-2"].address.lower()


async def test_a_second_start_takes_the_schemas_from_the_catalogue_until_the_code_changes(
    ground: Ground, connected: Chain, agents: Path
) -> None:
    name = f"org.example.{COUNTER}"
    async with selling_from(ground, connected, agents_dir=agents) as selling:
        first = await selling.listings.get(name)
    async with selling_from(ground, connected, agents_dir=agents) as selling:
        again = await selling.listings.get(name)
        assert (again.code_hash, again.input_schema) == (first.code_hash, first.input_schema)
    code = agents / COUNTER / "agent.py"
    code.write_text(code.read_text().replace("longest: str", "longest: str\n    shortest: str = ''"))
    async with selling_from(ground, connected, agents_dir=agents) as selling:
        changed = await selling.listings.get(name)
    assert changed.code_hash != first.code_hash
    assert "shortest" in changed.output_schema["properties"]  # type: ignore[operator]  # JSON


async def test_warming_goes_on_after_one_that_cannot_be(ground: Ground, connected: Chain, agents: Path) -> None:
    async with selling_from(ground, connected, agents_dir=agents) as selling:
        with capture_logs() as logs:
            await warm(selling.runtime, selling.folders)
    assert {entry["agent"] for entry in logs} == {BROKEN, NAMELESS}


async def test_a_node_with_nothing_to_sell_says_why_and_one_with_something_does_not(
    ground: Ground, connected: Chain, agents: Path, tmp_path: Path
) -> None:
    async with selling_from(ground, connected, agents_dir=agents) as selling:
        await selling.stock.check()  # two are broken, and two are enough
    async with selling_from(ground, connected, agents_dir=tmp_path / "empty") as selling:
        with pytest.raises(Unavailable, match="folder holds none") as nothing:
            await selling.stock.check()
        assert "NEXUS_AGENTS_DIR" in nothing.value.next_step
    shutil.rmtree(agents / COUNTER)
    shutil.rmtree(agents / SECOND)
    async with selling_from(ground, connected, agents_dir=agents) as selling:
        with pytest.raises(Unavailable, match=f"{BROKEN}: .*broken on purpose"):
            await selling.stock.check()
        selling.stock.is_complete = False  # as while the chain is away: nobody knows yet
        await selling.stock.check()


@pytest.mark.parametrize("missing", ["facilitator_url", "registry_url", "api_url"])
async def test_a_seller_that_does_not_know_where_things_are_is_told_what_to_set(
    ground: Ground, connected: Chain, tmp_path: Path, missing: str
) -> None:
    settings = ground.settings.model_copy(update={missing: None})
    with pytest.raises(Unavailable) as error:
        async with selling_from(dataclasses.replace(ground, settings=settings), connected, agents_dir=tmp_path):
            pytest.fail("opened")
    assert f"NEXUS_{missing.upper()}" in error.value.next_step
