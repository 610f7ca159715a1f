"""Settling authorisations: refused for every reason there is, and collected exactly once, whatever dies."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from asyncio.subprocess import PIPE

import pytest
from tests.evm.conftest import FAR_FUTURE, Desk, load_test_artifact, open_desk

from agentnexus.core.errors import InsufficientFunds, PaymentUnknown, Unavailable
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.database import Database
from agentnexus.platform.process import wait_until_ready
from agentnexus.rails.evm.eip3009 import SignedAuthorization
from agentnexus.rails.evm.encoding import to_hex, word
from agentnexus.rails.evm.errors import Refusal, SettlementRefused, WrongNetwork
from agentnexus.rails.evm.networks import NETWORKS, NetworkKind
from agentnexus.rails.evm.settlement import AuthorizationSettler, Requirement
from agentnexus.rails.evm.signer import LocalSigner
from agentnexus.rails.evm.token import transfer_with_authorization_call
from agentnexus.rails.evm.transactions import TransactionSender


async def refusal(desk: Desk, signed: SignedAuthorization, requirement: Requirement | None = None) -> Refusal:
    """Why verify refuses; settle must refuse for the same reason and spend nothing."""
    wanted = requirement or desk.requirement()
    with pytest.raises(SettlementRefused) as verifying:
        await desk.settler.verify(signed, wanted)
    relayer = desk.settler.relayer.public_id
    before = await desk.chain.rpc.read_int("eth_getBalance", relayer, "latest")
    with pytest.raises(SettlementRefused) as settling:
        await desk.settler.settle(signed, wanted)
    assert settling.value.refusal is verifying.value.refusal
    assert await desk.chain.rpc.read_int("eth_getBalance", relayer, "latest") == before
    assert verifying.value.next_step
    return verifying.value.refusal


async def work(desk: Desk, database_url: str, signed: list[SignedAuthorization], die: str = "") -> tuple[int, str]:
    """Run `worker.py` to its end; its exit code and what it printed."""
    task = {
        "rpc_url": desk.chain.rpc_url,
        "database_url": database_url,
        "payloads": [each.to_json() for each in signed],
        "die": die,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.evm.worker", stdin=PIPE, stdout=PIPE)
    output, _ = await process.communicate(json.dumps(task).encode())
    assert process.returncode is not None
    return process.returncode, output.decode()


async def relayer_count(desk: Desk, block: str = "latest") -> int:
    return await desk.chain.rpc.read_int("eth_getTransactionCount", desk.settler.relayer.public_id, block)


async def test_a_good_authorisation_is_settled_and_the_seller_has_the_money(desk: Desk) -> None:
    signed = await desk.signed()
    verified = await desk.settler.verify(signed, desk.requirement())
    assert verified.payer == desk.rail.address
    settlement = await desk.settler.settle(signed, desk.requirement())
    assert (settlement.payer, settlement.payee, settlement.value) == (desk.rail.address, desk.seller, 10_000)
    assert not settlement.repeated
    assert await desk.seller_earned() == 10_000


async def test_a_settle_without_a_verify_checks_for_itself(desk: Desk) -> None:
    assert (await desk.settler.settle(await desk.signed(), desk.requirement())).value == 10_000
    assert await refusal(desk, await desk.signed("big", 20_000_000_000), desk.requirement(20_000_000_000))


async def test_asking_again_answers_with_the_same_transaction(desk: Desk) -> None:
    signed = await desk.signed()
    first = await desk.settler.settle(signed, desk.requirement())
    second = await desk.settler.settle(signed, desk.requirement())
    assert second.transaction == first.transaction
    assert second.repeated
    assert await desk.seller_earned() == 10_000
    assert await relayer_count(desk) == 1


async def test_many_copies_at_once_settle_once(desk: Desk) -> None:
    signed = await desk.signed()
    all_of_them = await asyncio.gather(*(desk.settler.settle(signed, desk.requirement()) for _ in range(8)))
    assert len({each.transaction for each in all_of_them}) == 1
    assert sum(not each.repeated for each in all_of_them) == 1
    assert await desk.seller_earned() == 10_000
    assert await relayer_count(desk) == 1


async def test_an_authorisation_of_the_settled_past_can_still_be_asked_for(
    own_chain: DevelopmentChain, database: Database
) -> None:
    """Its time is over, but it was settled before that: the answer is its transaction, not a refusal."""
    desk = await open_desk(own_chain, database)
    soon = int(time.time()) + 3600
    signed = await desk.signed(valid_before=soon)
    first = await desk.settler.settle(signed, desk.requirement())
    await own_chain.set_next_block_time(soon + 10)
    await own_chain.mine()
    assert (await desk.settler.settle(signed, desk.requirement())).transaction == first.transaction


async def test_wrong_terms_are_refused_before_the_chain_is_asked(desk: Desk) -> None:
    signed = await desk.signed()
    elsewhere = Requirement(NETWORKS[8453].token(desk.chain.usdc.reference), desk.seller, 10_000)
    assert await refusal(desk, signed, elsewhere) is Refusal.WRONG_NETWORK
    assert await refusal(desk, signed, desk.requirement(payee="0x" + "11" * 20)) is Refusal.WRONG_RECIPIENT
    assert await refusal(desk, signed, desk.requirement(9_999)) is Refusal.WRONG_VALUE
    assert await refusal(desk, signed, desk.requirement(10_001)) is Refusal.WRONG_VALUE


async def test_expired_and_about_to_expire_are_refused(desk: Desk) -> None:
    now = int(time.time())
    assert await refusal(desk, await desk.signed(valid_before=now - 1)) is Refusal.EXPIRED
    assert await refusal(desk, await desk.signed(valid_before=now + 4)) is Refusal.EXPIRED


async def test_not_yet_valid_is_refused(desk: Desk) -> None:
    signed = await desk.signed(valid_after=int(time.time()) + 3600)
    assert await refusal(desk, signed) is Refusal.NOT_YET_VALID


async def test_an_authorisation_just_made_is_good_on_a_chain_that_mined_nothing_for_long(desk: Desk) -> None:
    """Trying the call on the latest block would find validAfter in that block's future."""
    signed = await desk.signed(valid_after=int(time.time()) - 1)
    await desk.settler.verify(signed, desk.requirement())


async def test_a_signature_by_another_key_is_refused(desk: Desk) -> None:
    forged = await desk.sign(desk.authorization(), desk.chain.accounts["alice"].signer)
    assert await refusal(desk, forged) is Refusal.BAD_SIGNATURE


async def test_a_changed_field_breaks_the_signature(desk: Desk) -> None:
    signed = await desk.signed()
    dearer = SignedAuthorization(desk.authorization(value=20_000), signed.signature)
    assert await refusal(desk, dearer, desk.requirement(20_000)) is Refusal.BAD_SIGNATURE


async def test_the_high_s_twin_of_a_signature_is_refused(desk: Desk) -> None:
    signed = await desk.signed()
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = order - int.from_bytes(signed.signature[32:64], "big")
    twin = signed.signature[:32] + s.to_bytes(32, "big") + bytes([55 - signed.signature[64]])
    assert await refusal(desk, SignedAuthorization(signed.authorization, twin)) is Refusal.BAD_SIGNATURE


async def test_a_signature_with_v_0_or_1_settles_as_well(desk: Desk) -> None:
    signed = await desk.signed()
    older = SignedAuthorization(signed.authorization, signed.signature[:64] + bytes([signed.signature[64] - 27]))
    assert (await desk.settler.settle(older, desk.requirement())).value == 10_000


async def test_a_signature_of_another_length_needs_a_contract_behind_it(desk: Desk) -> None:
    odd = SignedAuthorization(desk.authorization(), b"\x01" * 96)
    assert await refusal(desk, odd) is Refusal.UNDEPLOYED_WALLET


async def test_a_wrong_domain_is_not_a_token_we_settle(desk: Desk) -> None:
    requirement = Requirement(desk.chain.usdc, desk.seller, 10_000, name="USDC", version="2")
    assert await refusal(desk, await desk.signed(), requirement) is Refusal.NO_SUCH_TOKEN


async def test_an_address_without_a_token_is_refused(desk: Desk) -> None:
    nothing = Requirement(desk.chain.network.token("0x" + "77" * 20), desk.seller, 10_000)
    assert await refusal(desk, await desk.signed(), nothing) is Refusal.NO_SUCH_TOKEN


async def test_a_payer_with_too_little_is_refused(desk: Desk) -> None:
    value = 10_000_000_001
    assert await refusal(desk, await desk.signed(value=value), desk.requirement(value)) is Refusal.INSUFFICIENT_BALANCE


async def test_a_used_nonce_is_refused_when_somebody_else_used_it(desk: Desk) -> None:
    signed = await desk.signed()
    call = transfer_with_authorization_call(signed, contract_wallet=False)
    await desk.chain.rpc.call(
        "eth_sendTransaction",
        {"from": desk.seller, "to": desk.chain.usdc.reference, "data": to_hex(call), "gas": hex(300_000)},
    )
    assert await refusal(desk, signed) is Refusal.NONCE_USED


async def test_another_authorisation_with_a_settled_nonce_is_refused(desk: Desk) -> None:
    await desk.settler.settle(await desk.signed("job-1"), desk.requirement())
    other = await desk.signed("job-1", 5)
    with pytest.raises(SettlementRefused) as refused:
        await desk.settler.settle(other, desk.requirement(5))
    assert refused.value.refusal is Refusal.NONCE_USED


async def test_a_contract_wallet_pays_by_its_owners_signature(desk: Desk) -> None:
    owner = desk.chain.accounts["alice"]
    wallet = (await desk.chain.deploy(load_test_artifact("ContractWallet") + word(owner.address))).lower()
    await desk.chain.mint(wallet, 50_000)
    by_owner = await desk.sign_for(wallet, owner.signer)
    assert (await desk.settler.settle(by_owner, desk.requirement())).payer == wallet
    by_stranger = await desk.sign_for(wallet, desk.chain.accounts["bob"].signer, key="job-2")
    assert await refusal(desk, by_stranger) is Refusal.BAD_SIGNATURE


async def test_money_gone_between_check_and_block_is_a_refusal_with_the_transaction(desk: Desk) -> None:
    """Two authorisations over all the money pass their checks; one block mines both."""
    value = 10_000_000_000
    first, second = await desk.signed("a", value), await desk.signed("b", value)
    await desk.settler.verify(first, desk.requirement(value))
    await desk.settler.verify(second, desk.requirement(value))
    await desk.chain.automine(False)
    tasks = [asyncio.create_task(desk.settler.settle(each, desk.requirement(value))) for each in (first, second)]
    await desk.mempool_holds(2)
    await desk.chain.automine(True)
    await desk.chain.mine()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [each for each in outcomes if isinstance(each, SettlementRefused)]
    assert len(refused) == 1
    assert refused[0].refusal is Refusal.INSUFFICIENT_BALANCE
    assert refused[0].transaction
    assert await desk.seller_earned() == value


async def test_a_reverted_settlement_can_be_tried_again_once_the_money_is_there(desk: Desk) -> None:
    value = 10_000_000_000
    first, second = await desk.signed("a", value), await desk.signed("b", value)
    await desk.settler.verify(first, desk.requirement(value))
    await desk.settler.verify(second, desk.requirement(value))
    await desk.chain.automine(False)
    tasks = [asyncio.create_task(desk.settler.settle(each, desk.requirement(value))) for each in (first, second)]
    await desk.mempool_holds(2)
    await desk.chain.automine(True)
    await desk.chain.mine()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    loser = second if isinstance(outcomes[1], SettlementRefused) else first
    spent = await relayer_count(desk)
    with pytest.raises(SettlementRefused):
        await desk.settler.settle(loser, desk.requirement(value))
    assert await relayer_count(desk) == spent
    await desk.chain.mint(desk.rail.address, value)
    assert not (await desk.settler.settle(loser, desk.requirement(value))).repeated


async def test_a_settlement_not_mined_in_time_is_unknown_and_then_found(desk: Desk) -> None:
    signed = await desk.signed()
    await desk.chain.automine(False)
    with pytest.raises(PaymentUnknown) as unknown:
        await desk.settler.settle(signed, desk.requirement(), timeout_seconds=0.1)
    await desk.chain.automine(True)
    await desk.chain.mine()
    settlement = await desk.settler.settle(signed, desk.requirement())
    assert settlement.transaction == unknown.value.details["transaction"]
    assert settlement.repeated


async def test_a_dead_chain_is_unavailable_to_verify_and_settle(
    own_chain: DevelopmentChain, database: Database
) -> None:
    desk = await open_desk(own_chain, database)
    signed = await desk.signed()
    await own_chain.stop()
    with pytest.raises(Unavailable):
        await desk.settler.verify(signed, desk.requirement())
    with pytest.raises(Unavailable):
        await desk.settler.settle(signed, desk.requirement())
    await own_chain.start()
    assert (await desk.settler.settle(signed, desk.requirement())).value == 10_000


async def test_a_chain_that_dies_after_the_check_leaves_an_unknown_that_is_settled_later(
    own_chain: DevelopmentChain, database: Database
) -> None:
    desk = await open_desk(own_chain, database)
    await desk.settler.settle(await desk.signed("warm-up"), desk.requirement())
    signed = await desk.signed()
    await desk.settler.verify(signed, desk.requirement())
    await own_chain.stop()
    with pytest.raises(PaymentUnknown):
        await desk.settler.settle(signed, desk.requirement(), timeout_seconds=0.3)
    await own_chain.start()
    assert (await desk.settler.settle(signed, desk.requirement())).repeated
    assert await desk.seller_earned() == 20_000


async def test_a_relayer_without_gas_money_refuses_and_keeps_its_nonce(desk: Desk) -> None:
    poor = LocalSigner(b"\x21" * 32, NetworkKind.LOCAL)
    settler = AuthorizationSettler(desk.sender, poor)
    signed = await desk.signed()
    with pytest.raises(InsufficientFunds, match="ETH"):
        await settler.settle(signed, desk.requirement())
    await desk.chain.rpc.call("anvil_setBalance", poor.public_id, hex(10**18))
    assert (await settler.settle(signed, desk.requirement())).value == 10_000
    assert await desk.chain.rpc.read_int("eth_getTransactionCount", poor.public_id, "latest") == 1


async def test_a_mainnet_relayer_is_refused_on_a_local_chain(desk: Desk) -> None:
    with pytest.raises(WrongNetwork):
        AuthorizationSettler(desk.sender, LocalSigner(b"\x07" * 32, NetworkKind.MAINNET))


async def test_a_node_of_another_chain_is_refused(desk: Desk, database: Database) -> None:
    with pytest.raises(WrongNetwork, match="chain 31337"):
        await TransactionSender.open(database, desk.chain.rpc, 84532)


async def test_two_processes_with_one_key_leave_no_gap_and_no_collision(desk: Desk, database_url: str) -> None:
    batches = [[await desk.signed(f"{process}-{number}", 7) for number in range(12)] for process in "ab"]
    outputs = await asyncio.gather(*(work(desk, database_url, batch) for batch in batches))
    assert [code for code, _ in outputs] == [0, 0]
    transactions = [each for _, output in outputs for each in json.loads(output)]
    assert len(set(transactions)) == 24
    assert await relayer_count(desk) == 24
    assert await desk.seller_earned() == 24 * 7


async def test_two_processes_settling_the_same_authorisation_send_one_transaction(
    desk: Desk, database_url: str
) -> None:
    signed = [await desk.signed(f"job-{number}", 7) for number in range(6)]
    outputs = await asyncio.gather(*(work(desk, database_url, signed) for _ in range(2)))
    assert json.loads(outputs[0][1]) == json.loads(outputs[1][1])
    assert await relayer_count(desk) == 6
    assert await desk.seller_earned() == 6 * 7


async def test_killed_between_storing_and_sending_the_same_transaction_is_sent_again(
    desk: Desk, database: Database, database_url: str
) -> None:
    signed = await desk.signed()
    code, _ = await work(desk, database_url, [signed], "before-sending")
    assert code == -signal.SIGKILL
    assert await relayer_count(desk, "pending") == 0
    async with database.connection() as connection:
        stored = await connection.fetchval("select transactions[1] from evm.outgoing")
    settlement = await desk.settler.settle(signed, desk.requirement())
    assert settlement.transaction == stored
    assert await desk.seller_earned() == 10_000
    assert await relayer_count(desk) == 1


async def test_a_restart_sends_what_a_killed_process_left(desk: Desk, database_url: str) -> None:
    await work(desk, database_url, [await desk.signed("a", 5)], "before-sending")
    await work(desk, database_url, [await desk.signed("b", 6)], "before-sending")
    await desk.settler.recover()

    async def both_mined() -> bool:
        return await relayer_count(desk) == 2

    await wait_until_ready(both_mined, what="the recovered settlements", timeout_seconds=10)
    assert await desk.settler.recover() == 0
    assert await desk.seller_earned() == 11


async def test_a_later_settlement_frees_itself_from_behind_a_killed_one(desk: Desk, database_url: str) -> None:
    """Nonce 0 was stored and never sent; nonce 1 must not wait for ever behind it."""
    await work(desk, database_url, [await desk.signed("a", 5)], "before-sending")
    settlement = await desk.settler.settle(await desk.signed("b", 6), desk.requirement(6))
    assert settlement.value == 6
    assert await desk.seller_earned() == 11


async def test_killed_before_storing_leaves_no_trace_and_no_gap(desk: Desk, database_url: str) -> None:
    signed = await desk.signed()
    code, _ = await work(desk, database_url, [signed], "before-storing")
    assert code == -signal.SIGKILL
    settlement = await desk.settler.settle(signed, desk.requirement())
    assert not settlement.repeated
    assert await relayer_count(desk) == 1


async def test_a_settlement_dropped_by_a_reorganisation_is_mined_again(desk: Desk) -> None:
    signed = await desk.signed(valid_before=FAR_FUTURE)
    first = await desk.settler.settle(signed, desk.requirement())
    await desk.chain.rpc.call("anvil_reorg", 1, [])
    again = await desk.settler.settle(signed, desk.requirement())
    assert again.transaction == first.transaction
    assert await desk.seller_earned() == 10_000
