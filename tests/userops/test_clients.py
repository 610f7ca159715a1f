"""Contract clients: a deal and an entitlement walked through typed calls, ids known without the chain, ABI values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts import (
    Call,
    ContractRefused,
    DealStatus,
    DealTerms,
    Entitlements,
    Escrow,
    Voucher,
    epoch_id,
    refusal,
)
from agentnexus.rails.evm.contracts.abi import Abi, abi_of, decode_values, encode_values, type_of
from agentnexus.rails.evm.contracts.contract import as_bool, as_bytes, as_int, as_text, as_tuple, role_id
from agentnexus.rails.evm.contracts.refusals import CONTRACTS, explained, operation_next_step
from agentnexus.rails.evm.encoding import from_hex, keccak, selector, to_hex
from agentnexus.rails.evm.errors import Reverted
from agentnexus.rails.evm.receipts import Log
from tests.userops.conftest import Bench

SELLER = "0x" + "5e" * 20
ADDRESS = "0x" + "ab" * 20
CLASS = 7


async def terms_of(bench: Bench, salt: int = 1) -> DealTerms:
    market = await bench.manifest.escrow(bench.chain.rpc).market()
    return DealTerms(bench.chain.accounts["alice"].address, SELLER, 1_000, salt, market.fee_bps)


async def deposited(bench: Bench, terms: DealTerms) -> Escrow:
    escrow = bench.manifest.escrow(bench.chain.rpc)
    approve = selector("approve(address,uint256)") + encode_values(["address", "uint256"], [escrow.address, 10_000])
    await bench.send("alice", Call(bench.chain.usdc.reference, approve), escrow.deposit(terms))
    return escrow


async def test_a_deal_is_opened_and_released(bench: Bench) -> None:
    terms = await terms_of(bench)
    escrow = await deposited(bench, terms)
    deal_id = terms.deal_id(bench.chain.chain_id, escrow.address)
    opened = await escrow.deal(deal_id)
    assert (opened.status, opened.remaining, opened.status.is_final) == (DealStatus.OPEN, 1_000, False)
    await bench.send("relayer", escrow.release_part(terms, 400))
    assert (await escrow.deal(deal_id)).remaining == 600
    await bench.send("relayer", escrow.release(terms))
    assert (await escrow.deal(deal_id)).status is DealStatus.RELEASED
    assert await bench.chain.usdc_of(SELLER) == 975
    assert await escrow.fees() == 25
    await bench.send("outsider", escrow.sweep_fees())
    assert await escrow.fees() == 0
    with pytest.raises(ContractRefused) as caught:
        await bench.send("relayer", escrow.release(terms))
    assert caught.value.error == "DealNotOpen"
    assert caught.value.arguments["id"] == deal_id
    assert caught.value.details["arguments"] == {"id": to_hex(deal_id), "status": DealStatus.RELEASED}


async def test_a_deal_is_refunded_or_expires_or_is_split(bench: Bench) -> None:
    terms = await terms_of(bench)
    escrow = await deposited(bench, terms)
    await bench.send("relayer", escrow.refund(terms))
    second, third = replace(terms, salt=2, lifetime_seconds=60), replace(terms, salt=3)
    await bench.send("alice", escrow.deposit_batch([second, third]))
    with pytest.raises(ContractRefused, match="DealNotExpired"):
        await bench.send("outsider", escrow.expire(second))
    await bench.send("deployer", escrow.resolve(third, 500))
    opened = await escrow.deal(second.deal_id(bench.chain.chain_id, escrow.address))
    await bench.chain.set_next_block_time(opened.expires_at)
    await bench.send("outsider", escrow.expire(second))
    ids = [each.deal_id(bench.chain.chain_id, escrow.address) for each in (terms, second, third)]
    assert [(await escrow.deal(each)).status for each in ids] == [
        DealStatus.REFUNDED,
        DealStatus.EXPIRED,
        DealStatus.RESOLVED,
    ]
    assert all(each.is_final for each in (DealStatus.REFUNDED, DealStatus.EXPIRED, DealStatus.RESOLVED))
    assert (await escrow.deal(bytes(32))).status is DealStatus.NONE


async def test_ids_are_those_of_the_contract_and_terms_come_back_from_its_event(bench: Bench) -> None:
    terms = replace(await terms_of(bench), salt=(1 << 128) - 1, lifetime_seconds=3_600)
    escrow = await deposited(bench, terms)
    deal_id = terms.deal_id(bench.chain.chain_id, escrow.address)
    assert await escrow.read("dealId", terms.value()) == deal_id
    assert await escrow.read("termsHash", terms.value()) == terms.hash()
    logs = await bench.chain.rpc.call("eth_getLogs", {"address": escrow.address, "fromBlock": "0x0"})
    assert isinstance(logs, list)
    events = escrow.events([Log.from_json(each) for each in logs])
    opened = [each for each in events if each.name == "Deposited"]
    assert [DealTerms.from_event(each) for each in opened] == [terms]
    assert opened[0].arguments["id"] == deal_id
    assert await escrow.token() == bench.chain.usdc.reference
    assert await escrow.credit(SELLER) == 0


async def test_a_pause_stops_entry_alone(bench: Bench) -> None:
    terms = await terms_of(bench)
    escrow = await deposited(bench, terms)
    pauser = bench.chain.accounts["bob"].address
    await bench.send("deployer", escrow.grant_role("PAUSER_ROLE", pauser))
    assert await escrow.has_role("PAUSER_ROLE", pauser)
    await bench.send("bob", escrow.pause_deposits())
    assert (await escrow.market()).paused
    with pytest.raises(ContractRefused) as caught:
        await bench.send("alice", escrow.deposit(replace(terms, salt=9)))
    assert caught.value.error == "DepositsArePaused"
    await bench.send("relayer", escrow.release(terms))
    await bench.send("bob", escrow.unpause_deposits())
    await bench.send("alice", escrow.deposit(replace(terms, salt=9)))


async def test_a_right_is_minted_seen_and_taken_back(bench: Bench) -> None:
    tokens = bench.manifest.entitlements(bench.chain.rpc)
    holder, token_id = bench.chain.accounts["bob"].address, epoch_id(CLASS)
    with pytest.raises(ContractRefused, match="NoSuchClass"):
        await tokens.class_of(CLASS)
    await bench.send("relayer", tokens.create_class(CLASS, cap=2, uri="ipfs://one"), tokens.mint(holder, token_id))
    assert await tokens.has_access(holder, CLASS)
    assert await tokens.balances(holder, [token_id, epoch_id(CLASS, 1)]) == [1, 0]
    made = await tokens.class_of(CLASS)
    assert (made.cap, made.supply, made.period_seconds, made.soulbound, made.active) == (2, 1, 0, True, True)
    assert await tokens.current_id(CLASS) == token_id
    assert await tokens.uri(token_id) == "ipfs://one"
    await bench.send("relayer", tokens.set_active(CLASS, False))
    assert not await tokens.has_access(holder, CLASS)
    await bench.send("relayer", tokens.set_active(CLASS, True), tokens.set_cap(CLASS, 1))
    with pytest.raises(ContractRefused) as caught:
        await bench.send("relayer", tokens.mint(SELLER, token_id))
    assert caught.value.error == "CapReached"
    await bench.send("relayer", tokens.revoke(holder, token_id, bytes(32)))
    assert await tokens.balance(holder, token_id) == 0
    await bench.send("relayer", tokens.mint(holder, token_id))
    await bench.send("bob", tokens.burn(holder, token_id))
    assert not await tokens.has_access(holder, CLASS)


async def test_a_voucher_is_signed_without_asking_the_chain_and_good_once(bench: Bench) -> None:
    tokens, minter = bench.manifest.entitlements(bench.chain.rpc), bench.chain.accounts["relayer"]
    await bench.send("relayer", tokens.create_class(CLASS, cap=5))
    voucher = Voucher(SELLER, epoch_id(CLASS), 3, await bench.now() + 600, deal=b"\x07" * 32, amount=2)
    digest = voucher.digest(bench.chain.chain_id, tokens.address)
    assert await tokens.read("voucherHash", voucher.value()) == digest
    signature = await minter.signer.sign(digest)
    await bench.send("outsider", tokens.mint_with_voucher(voucher, minter.address, signature))
    assert await tokens.balance(SELLER, voucher.token_id) == 2
    assert await tokens.nonce_used(SELLER, 3)
    with pytest.raises(ContractRefused, match="VoucherAlreadyUsed"):
        await bench.send("outsider", tokens.mint_with_voucher(voucher, minter.address, signature))


async def test_a_voucher_for_a_deal_mints_nothing_before_its_deposit(bench: Bench) -> None:
    tokens, minter = bench.manifest.entitlements(bench.chain.rpc), bench.chain.accounts["relayer"]
    await bench.send("relayer", tokens.create_class(CLASS, cap=5))
    escrow = bench.manifest.address("Escrow")
    voucher = Voucher(SELLER, epoch_id(CLASS), 4, await bench.now() + 600, deal=b"\x07" * 32, escrow=escrow)
    digest = voucher.digest(bench.chain.chain_id, tokens.address)
    assert await tokens.read("voucherHash", voucher.value()) == digest
    with pytest.raises(ContractRefused, match="DealNotOpen"):
        await bench.send(
            "outsider", tokens.mint_with_voucher(voucher, minter.address, await minter.signer.sign(digest))
        )
    assert await tokens.balance(SELLER, voucher.token_id) == 0


async def test_reading_where_nothing_is_says_so(bench: Bench) -> None:
    with pytest.raises(InvalidInput) as caught:
        await Entitlements(bench.chain.rpc, ADDRESS).has_access(SELLER, 1)
    assert "address" in caught.value.next_step


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_abi_is_read_whole(name: str) -> None:
    abi = abi_of(name)
    assert abi.functions
    for function in abi.functions.values():
        assert len(function.selector) == 4
    for topic, event in abi.events.items():
        signature = f"{event.name}({','.join(kind for _, kind, _ in event.inputs)})"
        assert to_hex(keccak(signature.encode())) == topic


def test_overloads_are_told_apart_by_their_signature() -> None:
    abi = abi_of("Account")
    assert abi.function("getNonce()").selector != abi.function("getNonce(uint192)").selector
    with pytest.raises(InvalidInput, match="no function"):
        abi.function("selfDestruct")


def test_types_of_tuples_are_written_out() -> None:
    inner = {"name": "a", "type": "tuple[2]", "components": [{"name": "x", "type": "uint8"}]}
    assert type_of({"name": "b", "type": "tuple[]", "components": [inner]}) == "((uint8)[2])[]"


@pytest.mark.parametrize(
    ("types", "values"),
    [(["uint8"], [256]), (["address"], ["0x12"]), (["bytes32"], [b"\0" * 33]), (["uint8"], ["1"]), (["uint8"], [])],
)
def test_values_that_do_not_fit_are_refused(types: list[str], values: list[int]) -> None:
    with pytest.raises(InvalidInput):
        encode_values(types, values)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_whatever_a_contract_returns_is_read_or_refused(data: bytes) -> None:
    for types in (["bytes", "uint256"], ["(address,uint8)[]"], ["string"]):
        try:
            decode_values(types, data)
        except InvalidInput as error:
            assert error.next_step
    assert isinstance(refusal(data), Reverted)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120), st.lists(st.binary(min_size=32, max_size=32), max_size=4))
def test_whatever_a_log_says_is_an_event_or_none(data: bytes, topics: list[bytes]) -> None:
    for topic in ("Deposited", "Released"):
        first = abi_of("Escrow").topic(topic)
        log = Log(ADDRESS, (first, *(to_hex(each) for each in topics)), data, "0x", 1, "0x", 0)
        event = abi_of("Escrow").event(log)
        assert event is None or event.name == topic


def test_events_of_others_are_left_out() -> None:
    log = Log(ADDRESS, (to_hex(keccak(b"Other()")),), b"", "0x", 1, "0x", 0)
    assert abi_of("Escrow").event(log) is None
    assert abi_of("Escrow").event(replace(log, topics=())) is None


def test_long_arguments_of_events_are_there_by_their_hash() -> None:
    entry = {
        "type": "event",
        "name": "Said",
        "inputs": [{"name": "text", "type": "string", "indexed": True}, {"name": "by", "type": "address"}],
    }
    abi = Abi([entry, {"type": "receive"}])
    data = encode_values(["address"], [ADDRESS])
    event = abi.event(Log(ADDRESS, (abi.topic("Said"), to_hex(keccak(b"hello"))), data, "0x", 1, "0x", 0))
    assert event is not None
    assert event.arguments == {"by": ADDRESS, "text": keccak(b"hello")}


def test_reasons_of_the_language_itself_are_read() -> None:
    said = refusal(selector("Error(string)") + encode_values(["string"], ["no more"]))
    assert isinstance(said, ContractRefused)
    assert said.arguments == {"message": "no more"}
    panic = refusal(selector("Panic(uint256)") + encode_values(["uint256"], [0x11]))
    assert isinstance(panic, ContractRefused)
    assert panic.error == "Panic"


def test_reasons_nobody_knows_stay_what_they_are() -> None:
    for data in (b"", b"\x01\x02\x03\x04", selector("Error(string)") + b"\xff"):
        error = refusal(data)
        assert not isinstance(error, ContractRefused)
        assert error.data == data
    plain = Reverted("reverted")
    assert explained(plain) is plain


def test_an_operations_refusal_carries_the_reason_inside() -> None:
    inner = selector("OverLimit(address,uint256,uint256)") + encode_values(
        ["address", "uint256", "uint256"], [ADDRESS, 5, 4]
    )
    data = selector("FailedOpWithRevert(uint256,string,bytes)") + encode_values(
        ["uint256", "string", "bytes"], [0, "AA23 reverted", inner]
    )
    error = refusal(data)
    assert isinstance(error, ContractRefused)
    assert (error.code_name, error.error) == ("AA23", "FailedOpWithRevert")
    assert isinstance(error.inner, ContractRefused)
    assert error.inner.arguments["left"] == 4
    assert "OverLimit" in str(error)
    assert "OverLimit" in str(error.to_json())


@pytest.mark.parametrize("code", ["AA10", "AA13", "AA21", "AA24", "AA25", "AA31", "AA33", "AA34", "AA95"])
def test_every_usual_code_says_what_to_do(code: str) -> None:
    assert operation_next_step(f"FailedOp: {code} something") != operation_next_step("nothing")


def test_what_a_read_returns_is_checked() -> None:
    assert (as_int(1), as_bool(True), as_text("a"), as_bytes(b"a"), as_tuple((1,))) == (1, True, "a", b"a", (1,))
    for check, wrong in ((as_int, "a"), (as_bool, b""), (as_text, 1), (as_bytes, "a"), (as_tuple, 1)):
        with pytest.raises(InvalidInput):
            check(wrong)


def test_roles_are_hashes_of_their_names() -> None:
    assert role_id("DEFAULT_ADMIN_ROLE") == bytes(32)
    assert role_id("MINTER_ROLE") == keccak(b"MINTER_ROLE")
    assert from_hex(to_hex(role_id("PAUSER_ROLE")), size=32)
