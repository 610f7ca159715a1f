"""The same user and key never make two operations: not at once, not from two processes, not when one is killed."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from agentnexus.core.errors import Conflict
from agentnexus.wallets.model import GasPayer, OperationState, WalletKind
from tests.wallets.conftest import World

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[2]


async def other_process(
    world: World, database_url: str, *, key: str = "k1", times: int = 1, point: str = ""
) -> tuple[int, list[str]]:
    """Exit code and the ids it was given."""
    task = {
        "port": world.chain.port,
        "database_url": database_url,
        "home": str(world.home),
        "key": key,
        "times": times,
        "point": point,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.wallets.wallet_process", stdin=PIPE, stdout=PIPE, cwd=ROOT
    )
    printed, _ = await process.communicate(json.dumps(task).encode())
    code = process.returncode
    assert code is not None
    return code, json.loads(printed.splitlines()[-1]) if code == 0 else []


async def sold(world: World) -> int:
    """Atomic USDC that the seller got from ann."""
    return 10_000_000 - await world.chain.usdc_of((await world.wallets().of("ann")).address)


async def test_twenty_begins_at_once_in_two_processes_are_one_operation(world: World, database_url: str) -> None:
    await world.funded("ann")
    wallets = world.wallets()
    here = asyncio.gather(*(world.begin("ann", world.pay(5), wallets=wallets) for _ in range(10)))
    begun, (code, there) = await asyncio.gather(here, other_process(world, database_url, times=10))
    assert code == 0
    assert {each.id for each in begun} == set(there)
    assert len(set(there)) == 1
    done = await wallets.settle(there[0])
    assert done.state is OperationState.SUCCEEDED
    assert await sold(world) == 5
    promised = await world.database.pool.fetchval("select count(*) from paymaster.sponsorship")
    assert promised == 1


async def test_different_keys_at_once_are_different_operations_that_all_happen(world: World) -> None:
    await world.funded("ann")
    wallets = world.wallets()
    begun = await asyncio.gather(
        *(world.begin("ann", world.pay(each), key=f"k{each}", wallets=wallets) for each in range(1, 6))
    )
    done = [await wallets.settle(each.id) for each in begun]
    assert {each.state for each in done} == {OperationState.SUCCEEDED}
    assert len({each.hash for each in done}) == 5
    assert await sold(world) == 1 + 2 + 3 + 4 + 5


async def test_two_that_wait_for_a_signature_do_not_wait_for_each_other(world: World) -> None:
    from tests.wallets.test_kinds import answer

    await world.funded("alice", WalletKind.KEY)
    wallets = world.wallets()
    first = await world.begin("alice", key="first", wallets=wallets)
    second = await world.begin("alice", key="second", wallets=wallets)
    for each in (second, first):
        request = await wallets.signing_request("alice", each.id)
        await wallets.sign("alice", each.id, await answer(world, "alice", request))
        assert (await wallets.settle(each.id)).state is OperationState.SUCCEEDED


async def test_what_would_make_an_account_that_another_operation_made_is_signed_anew(world: World) -> None:
    from tests.wallets.test_kinds import answer

    wallet = await world.funded("alice", WalletKind.KEY)
    wallets = world.wallets()
    operations = [await world.begin("alice", key=f"k{number}", wallets=wallets) for number in range(3)]
    requests = [await wallets.signing_request("alice", each.id) for each in operations]
    answers = [await answer(world, "alice", each) for each in requests]
    # All three make the account. Two are signed at the same time, before either is on the chain.
    await world.chain.automine(False)
    await asyncio.gather(*(wallets.sign("alice", operations[at].id, answers[at]) for at in range(2)))
    await world.chain.automine(True)
    await world.chain.mine()
    done = [await wallets.settle(each.id) for each in operations[:2]]
    assert sorted(str(each.state) for each in done) == ["succeeded", "unsigned"]
    with pytest.raises(Conflict, match="made your account"):
        await wallets.sign("alice", operations[2].id, answers[2])
    for each in (next(each for each in done if each.state is OperationState.UNSIGNED), operations[2]):
        request = await wallets.signing_request("alice", each.id)
        await wallets.sign("alice", each.id, await answer(world, "alice", request))
        assert (await wallets.settle(each.id)).state is OperationState.SUCCEEDED
    assert await world.chain.usdc_of(wallet.address) == 10_000_000 - 3


@pytest.mark.parametrize("change", ["calls", "gas", "purpose"])
async def test_a_key_that_was_used_for_something_else_is_refused(world: World, change: str) -> None:
    await world.funded("ann")
    wallets = world.wallets()
    begun = await world.begin("ann", world.pay(5), wallets=wallets)
    calls = [world.pay(6 if change == "calls" else 5)]
    gas = GasPayer.ACCOUNT if change == "gas" else GasPayer.SPONSOR
    purpose = "purchase" if change == "purpose" else "send"
    with pytest.raises(Conflict) as refused:
        await wallets.begin("ann", calls, key="k1", purpose=purpose, title="Send", gas=gas)
    assert refused.value.details["operation"] == begun.id


async def test_the_same_key_of_another_user_is_another_operation(world: World) -> None:
    await world.funded("ann")
    await world.funded("ben")
    first, second = await world.begin("ann"), await world.begin("ben")
    assert first.id != second.id


@pytest.mark.chaos
@pytest.mark.parametrize("point", ["begun", "built", "kept", "sent"])
async def test_a_process_killed_at_any_step_leaves_one_operation(world: World, database_url: str, point: str) -> None:
    await world.funded("ann")
    code, _ = await other_process(world, database_url, point=point)
    assert code == -signal.SIGKILL
    wallets = world.wallets()
    row = await world.database.pool.fetchrow("select id, state from wallet.operation")
    assert row is not None
    assert row["state"] == ("unsigned" if point in ("begun", "built") else "signed")
    if point in ("kept", "sent"):  # the worker brings it to its end by itself
        world.clock.advance(60)
        assert await wallets.keep_once() == 1
    again = await world.begin("ann", world.pay(5), wallets=wallets)
    assert again.id == row["id"]
    assert (await wallets.settle(again.id)).state is OperationState.SUCCEEDED
    assert await sold(world) == 5


@pytest.mark.chaos
async def test_a_builder_that_was_killed_is_followed_by_another_when_its_time_is_over(
    world: World, database_url: str
) -> None:
    await world.funded("ann")
    begun = await other_process(world, database_url, point="begun")
    assert begun[0] == -signal.SIGKILL
    (operation,) = await world.database.pool.fetch("select id from wallet.operation")
    store = world.wallets().store
    assert await store.take_building(operation["id"], world.clock.now())
    assert not await store.take_building(operation["id"], world.clock.now())
    await world.database.pool.execute("update wallet.operation set builder_until = now() - interval '1 second'")
    assert (await world.begin("ann", world.pay(5))).id == operation["id"]


@pytest.mark.chaos
async def test_what_nobody_signed_is_rejected_after_an_hour(world: World, database_url: str) -> None:
    await world.funded("ann")
    await other_process(world, database_url, point="built")
    wallets = world.wallets()
    assert await wallets.keep_once() == 0
    world.clock.advance(3_700)
    assert await wallets.keep_once() == 1
    (row,) = await world.database.pool.fetch("select id from wallet.operation")
    done = await wallets.operation(row["id"])
    assert done.state is OperationState.REJECTED
    assert done.error is not None
    assert await wallets.settle(done.id) == done
    assert await sold(world) == 0
