"""Storing settlements before they are sent: together, gapless, each once, whatever other processes do meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.evm.conftest import Desk, open_desk

from agentnexus.core.errors import PaymentFailed
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.rails.evm.eip3009 import SignedAuthorization
from agentnexus.rails.evm.errors import Refusal, SettlementRefused
from agentnexus.rails.evm.staging import SettlementStage, Staging
from agentnexus.rails.evm.token import transfer_with_authorization_call
from agentnexus.rails.evm.transactions import Intent, Outgoing

GAS = 120_000
UNSEEN_PAYEE = "0x" + "5e" * 20


def stage_of(desk: Desk) -> SettlementStage:
    return SettlementStage(desk.sender, desk.settler.relayer)


async def staging(desk: Desk, key: str, gas: int = GAS) -> Staging:
    signed = await desk.signed(key)
    data = transfer_with_authorization_call(signed, contract_wallet=False)
    return Staging(signed.authorization, 1, Intent(desk.chain.usdc.reference, data, gas))


async def stored_nonces(database: Database) -> list[int]:
    async with database.connection() as connection:
        return [row["nonce"] for row in await connection.fetch("select nonce from evm.outgoing order by nonce")]


async def next_nonce(database: Database) -> int:
    async with database.connection() as connection:
        nonce: int = await connection.fetchval("select next_nonce from evm.sender")
    return nonce


async def all_of(stage: SettlementStage, wanted: list[Staging]) -> list[Outgoing | None]:
    return list(await asyncio.gather(*(stage.store(each) for each in wanted)))


async def test_settlements_that_gather_are_stored_in_one_commit(desk: Desk, database: Database) -> None:
    stage = stage_of(desk)
    first = await stage.store(await staging(desk, "first"))
    assert first is not None
    made = await all_of(stage, [await staging(desk, f"job-{number}") for number in range(6)])
    assert sorted(each.nonce for each in made if each) == [first.nonce + step for step in range(1, 7)]
    async with database.connection() as connection:
        times = await connection.fetch("select distinct created_at from evm.outgoing where nonce > $1", first.nonce)
    assert len(times) == 1


async def test_what_is_returned_is_what_is_stored(desk: Desk, database: Database) -> None:
    stage = stage_of(desk)
    made = [await stage.store(await staging(desk, key)) for key in ("alone", "guessed")]
    for each in made:
        assert each is not None
        assert await desk.sender.find(each.key) == each


async def test_the_first_batch_of_a_process_is_stored_one_by_one(desk: Desk, database: Database) -> None:
    made = await all_of(stage_of(desk), [await staging(desk, f"job-{number}") for number in range(4)])
    nonces = await stored_nonces(database)
    assert sorted(each.nonce for each in made if each) == nonces
    assert nonces == list(range(nonces[0], nonces[0] + 4))


async def test_processes_that_share_a_key_never_share_a_nonce(
    desk: Desk, chain: DevelopmentChain, database: Database
) -> None:
    stages = [stage_of(desk), stage_of(await open_desk(chain, database))]
    wanted = [await staging(desk, f"job-{number}") for number in range(16)]
    made = await asyncio.gather(*(stages[place % 2].store(each) for place, each in enumerate(wanted)))
    nonces = await stored_nonces(database)
    assert sorted(each.nonce for each in made if each) == nonces
    assert nonces == list(range(nonces[0], nonces[0] + 16))
    assert await next_nonce(database) == nonces[-1] + 1


async def test_a_settlement_claimed_elsewhere_costs_neither_its_neighbours_nor_a_nonce(
    desk: Desk, chain: DevelopmentChain, database: Database
) -> None:
    here, elsewhere = stage_of(desk), stage_of(await open_desk(chain, database))
    await here.store(await staging(desk, "warm"))
    wanted = [await staging(desk, f"job-{number}") for number in range(4)]
    assert await elsewhere.store(wanted[2]) is not None
    await here.store(await staging(desk, "in step again"))
    made = await all_of(here, wanted)
    assert [each is None for each in made] == [False, False, True, False]
    nonces = await stored_nonces(database)
    assert nonces == list(range(nonces[0], nonces[0] + 6))
    assert await next_nonce(database) == nonces[-1] + 1


async def test_one_authorisation_twice_in_a_batch_is_stored_once(desk: Desk, database: Database) -> None:
    stage = stage_of(desk)
    await stage.store(await staging(desk, "warm"))
    twice = await staging(desk, "twice")
    made = await all_of(stage, [twice, await staging(desk, "other"), twice])
    assert [each is None for each in made].count(True) == 1
    assert made[1] is not None
    assert len(await stored_nonces(database)) == 3


async def test_a_nonce_given_back_is_used_before_a_new_one(desk: Desk, database: Database) -> None:
    stage = stage_of(desk)
    first = await stage.store(await staging(desk, "first"))
    second = await stage.store(await staging(desk, "second"))
    assert first is not None
    assert second is not None
    async with database.transaction() as connection:
        await connection.execute("update evm.outgoing set state = 'rejected' where key = $1", first.key)
        await connection.execute("update evm.sender set free_nonces = array[$1::bigint]", first.nonce)
    made = await all_of(stage, [await staging(desk, "third"), await staging(desk, "fourth")])
    assert sorted(each.nonce for each in made if each) == [first.nonce, second.nonce + 1]


async def test_a_second_attempt_replaces_a_rejected_first_and_only_that(desk: Desk, database: Database) -> None:
    stage = stage_of(desk)
    await stage.store(await staging(desk, "warm"))
    wanted = await staging(desk, "job")
    first = await stage.store(wanted)
    assert first is not None
    assert await stage.store(wanted) is None
    second = await stage.store(replace(wanted, attempt=2))
    assert second is not None
    assert second.key != first.key
    assert await stage.store(replace(wanted, attempt=4)) is None


async def test_more_gas_than_our_limit_is_refused_and_takes_no_nonce(desk: Desk, database: Database) -> None:
    stage = stage_of(desk)
    first = await stage.store(await staging(desk, "first"))
    assert first is not None
    wanted = await staging(desk, "dear", gas=desk.sender.limits.maximum_gas + 1)
    with pytest.raises(PaymentFailed, match="gas"):
        await stage.store(wanted)
    assert await next_nonce(database) == first.nonce + 1


async def test_what_a_caller_that_went_away_had_stored_is_what_the_next_one_sends(
    desk: Desk, database: Database
) -> None:
    await desk.settler.settle(await desk.signed("warm"), desk.requirement())
    signed = await desk.signed("left")
    await desk.settler.verify(signed, desk.requirement())
    leaving = asyncio.create_task(desk.settler.settle(signed, desk.requirement()))
    await asyncio.sleep(0)  # it has handed its transaction over to be stored
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    settled = await desk.settler.settle(signed, desk.requirement())
    assert await desk.seller_earned() == 2 * settled.value
    assert len(await stored_nonces(database)) == 2


async def settled_gas(desk: Desk, database: Database, signed: SignedAuthorization, payee: str) -> int:
    """The gas limit of the transaction that settled this."""
    settled = await desk.settler.settle(signed, desk.requirement(payee=payee))
    async with database.connection() as connection:
        gas: int = await connection.fetchval(
            "select gas from evm.outgoing where transactions @> array[$1]", settled.transaction
        )
    return gas


async def test_a_payment_that_needs_more_gas_than_earlier_ones_gets_it(desk: Desk, database: Database) -> None:
    usual = [await settled_gas(desk, database, await desk.signed(key), desk.seller) for key in ("one", "two", "three")]
    unseen = await desk.signed("first payment of this payee", payee=UNSEEN_PAYEE)
    more = await settled_gas(desk, database, unseen, UNSEEN_PAYEE)
    assert more > max(usual)
    after = await settled_gas(desk, database, await desk.signed("four"), desk.seller)
    assert after == usual[-1]


async def test_what_the_token_would_refuse_is_refused_also_when_the_usual_gas_is_known(desk: Desk) -> None:
    await desk.settler.settle(await desk.signed("warm"), desk.requirement())
    used = await desk.signed("used")
    await desk.settler.settle(used, desk.requirement())
    with pytest.raises(SettlementRefused) as refused:
        await desk.settler.verify(used, desk.requirement())
    assert refused.value.refusal is Refusal.NONCE_USED
    block = await desk.chain.rpc.call("eth_getBlockByNumber", "latest", False)
    assert isinstance(block, dict)
    # By our clock it is valid; by the chain's it will be in a while. Only the trial run can tell.
    later = await desk.signed("later", valid_before=int(desk.sender.clock.now().timestamp()) + 60)
    await desk.chain.set_next_block_time(int(desk.sender.clock.now().timestamp()) + 3600)
    await desk.chain.mine()
    with pytest.raises(SettlementRefused) as expired:
        await desk.settler.verify(later, desk.requirement())
    assert expired.value.refusal is Refusal.EXPIRED
