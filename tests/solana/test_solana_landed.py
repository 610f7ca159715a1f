"""Reading what a transaction moved, from answers made by hand: every shape a node may give, and the ones it may not."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from agentnexus.core.clock import ManualClock
from agentnexus.core.money import Money
from agentnexus.core.ports import Clock
from agentnexus.rails.solana.cluster import Commitment
from agentnexus.rails.solana.deposits import read_deposit
from agentnexus.rails.solana.errors import ClusterUnavailable, NodeError
from agentnexus.rails.solana.landed import Landed, read_landed
from agentnexus.rails.solana.networks import DEVNET
from agentnexus.rails.solana.priority import FeeLimits, PriorityFees
from agentnexus.rails.solana.programs import (
    TOKEN_2022_PROGRAM,
    TOKEN_PROGRAM,
    associated_address,
    compute_unit_limit,
    transfer_sol,
)
from agentnexus.rails.solana.rpc import RpcValue

PAYER, PAYEE = Keypair(), Keypair().pubkey()
USDC = Pubkey.from_string(DEVNET.usdc_mint)
SOURCE, HOME = associated_address(PAYER.pubkey(), USDC), associated_address(PAYEE, USDC)
OTHER_HOME = associated_address(PAYEE, USDC, TOKEN_2022_PROGRAM)
KEYS = [PAYER.pubkey(), SOURCE, HOME, OTHER_HOME]


class ScriptedNode:
    """Answers every call with one value, or raises it."""

    def __init__(self, answer: RpcValue | Exception) -> None:
        self.answer = answer
        self.calls: list[tuple[str, tuple[RpcValue, ...]]] = []

    async def call(self, method: str, *parameters: RpcValue) -> RpcValue:
        self.calls.append((method, parameters))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def wire() -> str:
    """A transaction with `PAYER` first; the other accounts come "from lookup tables"."""
    message = MessageV0.try_compile(PAYER.pubkey(), [compute_unit_limit(1)], [], Hash.default())
    return base64.b64encode(bytes(VersionedTransaction(message, [PAYER]))).decode()


def balance(index: int, owner: Pubkey, atomic: int, program: Pubkey = TOKEN_PROGRAM) -> dict[str, RpcValue]:
    return {
        "accountIndex": index,
        "mint": str(USDC),
        "owner": str(owner),
        "programId": str(program),
        "uiTokenAmount": {"amount": str(atomic), "decimals": 6, "uiAmount": None, "uiAmountString": "x"},
    }


# Accounts: 0 payer, 1 the compute budget program, then from tables 2 source, 3 home, 4 home of the other program.
GOOD: dict[str, RpcValue] = {
    "slot": 77,
    "blockTime": 1_795_000_000,
    "transaction": [wire(), "base64"],
    "version": 0,
    "meta": {
        "err": None,
        "fee": 5_000,
        "preBalances": [1_000_000, 1, 10, 10, 10],
        "postBalances": [995_000, 1, 10, 10, 10],
        "loadedAddresses": {"writable": [str(SOURCE), str(HOME), str(OTHER_HOME)], "readonly": []},
        "preTokenBalances": [balance(2, PAYER.pubkey(), 500)],
        "postTokenBalances": [balance(2, PAYER.pubkey(), 400), balance(3, PAYEE, 100)],
    },
}


async def landed(**changes: object) -> Landed:
    answer = deepcopy(GOOD)
    meta = answer["meta"]
    assert isinstance(meta, dict)
    meta.update(changes)  # type: ignore[arg-type]  # JSON by construction
    found = await read_landed(ScriptedNode(answer), "sig", Commitment.FINALIZED)
    assert found is not None
    return found


async def test_a_transfer_is_read_with_accounts_from_lookup_tables() -> None:
    found = await landed()
    assert (found.signature, found.slot, found.error) == ("sig", 77, None)
    assert found.sent_at == datetime.fromtimestamp(1_795_000_000, UTC)
    assert found.received(PAYEE, USDC) == 100
    assert found.payers(USDC) == {PAYER.pubkey()}
    assert found.received(PAYER.pubkey(), None) == 0  # the fee is nobody's payment
    assert found.payers(None) == set()
    assert found.mints_received(PAYEE) == {USDC}


async def test_the_question_names_commitment_and_the_newest_version() -> None:
    node = ScriptedNode(None)
    assert await read_landed(node, "sig", Commitment.CONFIRMED) is None
    options: RpcValue = {"encoding": "base64", "commitment": "confirmed", "maxSupportedTransactionVersion": 0}
    assert node.calls == [("getTransaction", ("sig", options))]


async def test_the_account_of_the_wrong_program_is_not_ours() -> None:
    """The address of one program's account cannot be under another program: a node that says so is not believed."""
    lying = [balance(3, PAYEE, 100, TOKEN_2022_PROGRAM), balance(2, PAYER.pubkey(), 400)]
    assert (await landed(postTokenBalances=lying)).received(PAYEE, USDC) == 0
    both = [balance(4, PAYEE, 30, TOKEN_2022_PROGRAM), balance(3, PAYEE, 70), balance(2, PAYER.pubkey(), 400)]
    assert (await landed(postTokenBalances=both)).received(PAYEE, USDC) == 100


async def test_an_account_that_changes_hands_is_a_loss_and_a_gain() -> None:
    thief = Keypair().pubkey()
    found = await landed(preTokenBalances=[balance(3, PAYEE, 900)], postTokenBalances=[balance(3, thief, 900)])
    assert found.payers(USDC) == {PAYEE}
    assert found.received(PAYEE, USDC) == 0


async def test_lamports_are_counted_without_the_fee_of_whoever_paid_it() -> None:
    found = await landed(preBalances=[1_000_000, 1, 10, 10, 10], postBalances=[895_000, 1, 10, 100_010, 10])
    assert found.payers(None) == {PAYER.pubkey()}
    assert found.received(HOME, None) == 100_000


async def test_a_failed_transaction_brought_nothing_whatever_its_balances_say() -> None:
    found = await landed(err={"InstructionError": [0, {"Custom": 1}]})
    assert found.error == "{'InstructionError': [0, {'Custom': 1}]}"
    assert read_deposit(found, PAYEE, DEVNET.usdc, DEVNET) is None


async def test_a_deposit_without_a_time_waits_for_one() -> None:
    answer = {**GOOD, "blockTime": None}
    found = await read_landed(ScriptedNode(answer), "sig", Commitment.FINALIZED)
    assert found is not None
    assert read_deposit(found, PAYEE, DEVNET.usdc, DEVNET) is None
    dated = await landed()
    deposit = read_deposit(dated, PAYEE, DEVNET.usdc, DEVNET)
    assert deposit is not None
    assert deposit.amount == Money(DEVNET.usdc, 100)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("preBalances", None),
        ("preBalances", [1, 2]),
        ("postBalances", ["1"] * 5),
        ("postBalances", [-1] * 5),
        ("fee", None),
        ("fee", "5000"),
        ("loadedAddresses", None),  # then there are more balances than accounts
        ("loadedAddresses", {"writable": ["nonsense"], "readonly": []}),
        ("postTokenBalances", ["x"]),
        ("postTokenBalances", [balance(99, PAYEE, 100)]),
        ("postTokenBalances", [{**balance(3, PAYEE, 100), "owner": None}]),
        ("postTokenBalances", [{**balance(3, PAYEE, 100), "mint": "m"}]),
        ("postTokenBalances", [{**balance(3, PAYEE, 100), "accountIndex": True}]),
        ("postTokenBalances", [{**balance(3, PAYEE, 100), "uiTokenAmount": {"amount": 100}}]),
        ("postTokenBalances", [{**balance(3, PAYEE, 100), "uiTokenAmount": {"amount": "-100"}}]),
        ("postTokenBalances", [{**balance(3, PAYEE, 100), "uiTokenAmount": {"amount": "1e9"}}]),
        ("postTokenBalances", [{**balance(3, PAYEE, 100), "uiTokenAmount": {"amount": "١٢"}}]),
    ],
)
async def test_an_answer_that_does_not_add_up_is_the_nodes_error(name: str, value: object) -> None:
    with pytest.raises(NodeError, match="documented shape"):
        await landed(**{name: value})


@pytest.mark.parametrize("name", ["meta", "transaction", "slot"])
@pytest.mark.parametrize("value", [None, 5.5, "x", [], ["!!!", "base64"], {}])
async def test_an_answer_that_lacks_a_part_is_the_nodes_error(name: str, value: RpcValue) -> None:
    with pytest.raises(NodeError, match="documented shape"):
        await read_landed(ScriptedNode({**GOOD, name: value}), "sig", Commitment.FINALIZED)


@settings(deadline=None)
@given(
    before=st.dictionaries(st.integers(2, 4), st.integers(0, 10**12), max_size=3),
    after=st.dictionaries(st.integers(2, 4), st.integers(0, 10**12), max_size=3),
)
async def test_gains_and_losses_are_the_differences_of_the_balances(
    before: Mapping[int, int], after: Mapping[int, int]
) -> None:
    owners = {2: PAYER.pubkey(), 3: PAYEE, 4: PAYEE}
    programs = {2: TOKEN_PROGRAM, 3: TOKEN_PROGRAM, 4: TOKEN_2022_PROGRAM}

    def rows(balances: Mapping[int, int]) -> list[RpcValue]:
        return [balance(index, owners[index], atomic, programs[index]) for index, atomic in balances.items()]

    found = await landed(preTokenBalances=rows(before), postTokenBalances=rows(after))
    gained = sum(after.get(index, 0) - before.get(index, 0) for index in (3, 4))
    assert found.received(PAYEE, USDC) == gained
    assert (PAYEE in found.payers(USDC)) == (gained < 0)
    assert (USDC in found.mints_received(PAYEE)) == (gained > 0)


def fees(answer: RpcValue | Exception, clock: Clock | None = None, **limits: int) -> tuple[PriorityFees, ScriptedNode]:
    node = ScriptedNode(answer)
    return PriorityFees(node, clock or ManualClock(datetime(2026, 11, 21, tzinfo=UTC)), FeeLimits(**limits)), node


TRANSFER = [transfer_sol(PAYER.pubkey(), PAYEE, 5)]


async def test_the_priority_fee_is_the_three_quarter_point_of_what_others_paid() -> None:
    paid: RpcValue = [{"slot": slot, "prioritizationFee": slot * 10} for slot in range(1, 102)]
    oracle, node = fees(paid)
    assert await oracle.price(TRANSFER) == 760
    assert node.calls == [("getRecentPrioritizationFees", (sorted(map(str, (PAYER.pubkey(), PAYEE))),))]


@pytest.mark.parametrize(
    "answer",
    [[], None, {}, [5, "x", {}], [{"prioritizationFee": "9"}], ClusterUnavailable("away"), NodeError("m", 1, "no")],
)
async def test_without_an_answer_the_fee_is_our_minimum(answer: RpcValue | Exception) -> None:
    oracle, _ = fees(answer, minimum_price=7)
    assert await oracle.price(TRANSFER) == 7


async def test_a_price_above_our_limit_is_not_followed() -> None:
    oracle, _ = fees([{"slot": 1, "prioritizationFee": 10**12}], maximum_price=5_000)
    assert await oracle.price(TRANSFER) == 5_000


async def test_a_price_is_asked_again_after_some_seconds() -> None:
    clock = ManualClock(datetime(2026, 11, 21, tzinfo=UTC))
    oracle, node = fees([{"slot": 1, "prioritizationFee": 5}], clock)
    for _ in range(3):
        await oracle.price(TRANSFER)
    assert len(node.calls) == 1
    clock.advance(10)
    node.answer = [{"slot": 2, "prioritizationFee": 9}]
    assert await oracle.price(TRANSFER) == 9
    assert len(node.calls) == 2
