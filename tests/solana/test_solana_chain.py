"""The development chain from inside: slots, blockhashes, replays, history, faults and the shapes of its errors."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import Unavailable
from agentnexus.devnet.solana.accounts import USDC_MINT, fee_mint_keypair, solana_accounts
from agentnexus.devnet.solana.engine import Chain, Pace
from agentnexus.devnet.solana.genesis import LAMPORTS_PER_SOL, prepare
from agentnexus.devnet.solana.methods import Dispatcher
from agentnexus.devnet.solana.parsed import Json
from agentnexus.rails.solana import base58
from agentnexus.rails.solana.networks import DEVNET
from agentnexus.rails.solana.programs import (
    TOKEN_2022_PROGRAM,
    TOKEN_PROGRAM,
    Token,
    associated_address,
    compute_unit_limit,
    compute_unit_price,
    create_associated_account,
    memo,
    transfer_sol,
    transfer_tokens,
)

BUYER = solana_accounts()["buyer"]
SELLER = solana_accounts()["seller-1"]
START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class Node:
    """A chain in this process whose clock stands still, asked as over the wire."""

    def __init__(self, path: Path | None = None, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock(START)
        self.chain = Chain(path, pace=Pace(400, 32), clock=self.clock)
        prepare(self.chain)
        self.dispatcher = Dispatcher(self.chain)

    def answer(self, method: str, *parameters: Json) -> dict[str, Json]:
        return self.dispatcher.answer({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(parameters)})

    def ask(self, method: str, *parameters: Json) -> Json:
        answer = self.answer(method, *parameters)
        assert "error" not in answer, answer
        return answer["result"]

    def value(self, method: str, *parameters: Json) -> Json:
        result = self.ask(method, *parameters)
        assert isinstance(result, dict)
        return result["value"]

    def error(self, method: str, *parameters: Json) -> dict[str, Json]:
        error = self.answer(method, *parameters)["error"]
        assert isinstance(error, dict)
        return error

    def sign(self, *instructions: Instruction, payer: Keypair = BUYER.keypair) -> VersionedTransaction:
        blockhash, _ = self.chain.blockhash()
        return VersionedTransaction(MessageV0.try_compile(payer.pubkey(), list(instructions), [], blockhash), [payer])

    def pay(self, lamports: int = LAMPORTS_PER_SOL) -> VersionedTransaction:
        return self.sign(transfer_sol(BUYER.public_key, SELLER.public_key, lamports))

    def send(self, transaction: VersionedTransaction, **options: Json) -> Json:
        return self.ask("sendTransaction", wire(transaction), {"encoding": "base64", **options})

    def status(self, transaction: VersionedTransaction) -> Json:
        found = self.value("getSignatureStatuses", [str(transaction.signatures[0])])
        assert isinstance(found, list)
        return found[0]

    def level(self, transaction: VersionedTransaction) -> Json:
        status = self.status(transaction)
        return status["confirmationStatus"] if isinstance(status, dict) else None


def wire(transaction: VersionedTransaction) -> str:
    return base64.b64encode(bytes(transaction)).decode()


@pytest.fixture
def node() -> Iterator[Node]:
    opened = Node()
    yield opened
    opened.chain.close()


def test_the_first_state_is_the_same_everywhere(node: Node) -> None:
    assert node.ask("getGenesisHash") == DEVNET.genesis_hash
    assert node.value("getBalance", BUYER.address) == 1_000 * LAMPORTS_PER_SOL
    usdc = associated_address(BUYER.public_key, USDC_MINT)
    assert node.value("getTokenAccountBalance", str(usdc)) == {
        "amount": "10000000000",
        "decimals": 6,
        "uiAmount": 10000.0,
        "uiAmountString": "10000",
    }
    funded = len(solana_accounts()) - 2
    assert node.value("getTokenSupply", str(USDC_MINT)) == {
        "amount": str(funded * 10_000_000_000),
        "decimals": 6,
        "uiAmount": funded * 10000.0,
        "uiAmountString": str(funded * 10000),
    }
    fee_mint = node.value("getAccountInfo", str(fee_mint_keypair().pubkey()), {"encoding": "jsonParsed"})
    assert isinstance(fee_mint, dict)
    assert fee_mint["owner"] == str(TOKEN_2022_PROGRAM)


def test_a_transaction_is_confirmed_at_once_and_final_after_32_slots(node: Node) -> None:
    payment = node.pay()
    assert node.status(payment) is None
    assert node.send(payment) == str(payment.signatures[0])
    assert node.level(payment) == "confirmed"
    node.clock.advance(0.4 * 30)
    assert node.level(payment) == "confirmed"
    node.clock.advance(0.4)
    assert node.level(payment) == "finalized"


def test_without_instant_slots_confirmation_waits_for_the_clock(node: Node) -> None:
    node.ask("devnet_setPace", {"instant": False})
    payment = node.pay()
    node.send(payment)
    assert node.level(payment) == "processed"
    assert node.ask("getTransaction", str(payment.signatures[0]), {"commitment": "confirmed"}) is None
    node.clock.advance(0.4)
    assert node.level(payment) == "confirmed"


def test_heights_follow_the_clock_and_bursts_do_not_outdate_blockhashes(node: Node) -> None:
    height, slot = node.chain.height, node.chain.slot
    old = node.pay(1)
    for lamports in range(2, 202):
        node.send(node.pay(lamports))
    assert (node.chain.height, node.chain.slot) == (height, slot + 200)
    node.send(old)
    assert node.level(old) == "confirmed"


def test_a_blockhash_is_accepted_for_150_blocks_and_no_longer(node: Node) -> None:
    payment, late = node.pay(1), node.pay(2)
    blockhash = str(payment.message.recent_blockhash)
    latest = node.value("getLatestBlockhash")
    assert isinstance(latest, dict)
    assert latest == {"blockhash": blockhash, "lastValidBlockHeight": node.chain.height + 150}
    node.clock.advance(0.4 * 150)
    assert node.ask("getBlockHeight", {"commitment": "processed"}) == latest["lastValidBlockHeight"]
    assert node.value("isBlockhashValid", blockhash) is True
    node.send(payment)
    node.clock.advance(0.4)
    assert node.value("isBlockhashValid", blockhash) is False
    error = node.error("sendTransaction", wire(late), {"encoding": "base64"})
    assert (error["code"], error["message"]) == (-32002, "Transaction simulation failed: Blockhash not found")
    assert isinstance(error["data"], dict)
    assert error["data"]["err"] == "BlockhashNotFound"
    node.send(late, skipPreflight=True)
    assert node.status(late) is None


def test_the_first_of_2000_transactions_cannot_be_sent_again(node: Node) -> None:
    first = node.pay(1)
    node.send(first)
    for lamports in range(2, 2_002):
        node.send(node.pay(lamports), skipPreflight=True)
    before = node.value("getBalance", SELLER.address)
    error = node.error("sendTransaction", wire(first), {"encoding": "base64"})
    assert error["message"] == "Transaction simulation failed: This transaction has already been processed"
    node.send(first, skipPreflight=True)
    assert node.value("getBalance", SELLER.address) == before


def test_a_restart_keeps_balances_history_replays_and_blockhashes(tmp_path: Path) -> None:
    before = Node(tmp_path / "chain.db")
    payment, waiting = before.pay(1), before.pay(2)
    before.send(payment)
    slot, blockhash = before.chain.slot, before.chain.blockhash()
    before.chain.close()
    after = Node(tmp_path / "chain.db", before.clock)
    assert (after.chain.slot, after.chain.blockhash()) == (slot, blockhash)
    assert after.value("getBalance", SELLER.address) == 1_000 * LAMPORTS_PER_SOL + 1
    assert after.level(payment) == "confirmed"
    after.send(payment, skipPreflight=True)
    after.send(waiting)
    assert after.value("getBalance", SELLER.address) == 1_000 * LAMPORTS_PER_SOL + 3
    after.chain.close()


def test_a_state_file_belongs_to_one_chain_and_must_be_one(tmp_path: Path) -> None:
    node = Node(tmp_path / "chain.db")
    with pytest.raises(Unavailable, match="locked"):
        Chain(tmp_path / "chain.db")
    node.chain.close()
    Node(tmp_path / "chain.db").chain.close()
    (tmp_path / "letter.txt").write_text("Dear reader, this is no database. " * 100)
    with pytest.raises(Unavailable, match="state file"):
        Chain(tmp_path / "letter.txt")


def test_time_never_goes_back_with_the_machines_clock(tmp_path: Path) -> None:
    node = Node(tmp_path / "chain.db")
    node.clock.advance(40)
    node.send(node.pay(1))
    slot = node.chain.slot
    node.clock.advance(-30)
    assert node.chain.slot == slot
    node.chain.close()
    again = Node(tmp_path / "chain.db", node.clock)
    assert again.chain.slot == slot
    again.chain.close()


def test_another_chain_has_other_blockhashes() -> None:
    first, second = Node(), Node()
    foreign = first.pay()
    error = second.error("sendTransaction", wire(foreign), {"encoding": "base64"})
    assert "Blockhash not found" in str(error["message"])
    first.chain.close()
    second.chain.close()


def test_a_failing_transaction_is_refused_before_it_is_sent_with_its_logs(node: Node) -> None:
    error = node.error("sendTransaction", wire(node.pay(10**15)), {"encoding": "base64"})
    assert error["code"] == -32002
    assert error["message"] == (
        "Transaction simulation failed: Error processing Instruction 0: custom program error: 0x1"
    )
    data = error["data"]
    assert isinstance(data, dict)
    assert data["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert any("insufficient lamports" in str(line) for line in data["logs"] or [])  # type: ignore[union-attr]


def test_without_preflight_it_lands_failed_and_costs_its_fee(node: Node) -> None:
    payment = node.pay(10**15)
    node.send(payment, skipPreflight=True)
    status = node.status(payment)
    assert isinstance(status, dict)
    assert status["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert status["status"] == {"Err": {"InstructionError": [0, {"Custom": 1}]}}
    assert node.value("getBalance", BUYER.address) == 1_000 * LAMPORTS_PER_SOL - 5_000
    found = node.ask("getTransaction", str(payment.signatures[0]), confirmed())
    assert isinstance(found, dict)
    assert isinstance(found["meta"], dict)
    assert found["meta"]["fee"] == 5_000


def test_a_bad_signature_is_refused_and_never_lands(node: Node) -> None:
    honest = node.pay()
    forged = VersionedTransaction.populate(honest.message, [Signature.default()])
    assert node.error("sendTransaction", wire(forged), {"encoding": "base64"})["code"] == -32003
    assert node.error("simulateTransaction", wire(forged), {"encoding": "base64", "sigVerify": True})["code"] == -32003
    node.send(forged, skipPreflight=True)
    assert node.value("getBalance", BUYER.address) == 1_000 * LAMPORTS_PER_SOL


def test_simulating_needs_neither_signatures_nor_a_blockhash_unless_asked(node: Node) -> None:
    message = MessageV0.try_compile(
        BUYER.public_key, [transfer_sol(BUYER.public_key, SELLER.public_key, 5)], [], Hash.default()
    )
    trial = wire(VersionedTransaction.populate(message, [Signature.default()]))
    replaced = node.value("simulateTransaction", trial, {"encoding": "base64", "replaceRecentBlockhash": True})
    assert isinstance(replaced, dict)
    assert (replaced["err"], replaced["unitsConsumed"]) == (None, 150)
    assert replaced["replacementBlockhash"]
    kept = node.value("simulateTransaction", trial, {"encoding": "base64"})
    assert isinstance(kept, dict)
    assert kept["err"] == "BlockhashNotFound"
    both: Json = {"encoding": "base64", "replaceRecentBlockhash": True, "sigVerify": True}
    assert node.error("simulateTransaction", trial, both)["code"] == -32602


def test_a_simulation_shows_accounts_as_they_would_be_and_changes_nothing(node: Node) -> None:
    wanted: Json = {"addresses": [SELLER.address], "encoding": "base64"}
    shown = node.value("simulateTransaction", wire(node.pay(9)), {"encoding": "base64", "accounts": wanted})
    assert isinstance(shown, dict)
    accounts = shown["accounts"]
    assert isinstance(accounts, list)
    assert isinstance(accounts[0], dict)
    assert accounts[0]["lamports"] == 1_000 * LAMPORTS_PER_SOL + 9
    assert node.value("getBalance", SELLER.address) == 1_000 * LAMPORTS_PER_SOL


def test_a_token_transfer_is_shown_with_balances_before_and_after(node: Node) -> None:
    payee = Keypair().pubkey()
    token = Token(USDC_MINT, 6)
    payment = node.sign(
        create_associated_account(BUYER.public_key, payee, USDC_MINT, TOKEN_PROGRAM),
        transfer_tokens(BUYER.public_key, token.account_of(payee), 25_000, token),
        memo(b"for the report"),
    )
    node.send(payment)
    found = node.ask("getTransaction", str(payment.signatures[0]), confirmed(encoding="jsonParsed"))
    assert isinstance(found, dict)
    meta, shown = found["meta"], found["transaction"]
    assert isinstance(meta, dict)
    assert isinstance(shown, dict)
    after = {row["owner"]: row["uiTokenAmount"]["amount"] for row in meta["postTokenBalances"]}  # type: ignore[union-attr,index,call-overload]
    assert after == {BUYER.address: "9999975000", str(payee): "25000"}
    assert len(meta["preTokenBalances"]) == 1  # type: ignore[arg-type]
    instructions = shown["message"]["instructions"]  # type: ignore[index,call-overload]
    assert instructions[1]["parsed"]["info"]["tokenAmount"]["uiAmountString"] == "0.025"  # type: ignore[index,call-overload]
    assert instructions[2]["parsed"] == "for the report"  # type: ignore[index,call-overload]
    listed = node.ask("getSignaturesForAddress", str(payee), {"commitment": "confirmed"})
    assert isinstance(listed, list)
    assert isinstance(listed[0], dict)
    assert listed[0]["memo"] == "[14] for the report"


def test_priority_fees_are_charged_and_foretold(node: Node) -> None:
    payment = node.sign(
        compute_unit_limit(1_000), compute_unit_price(2_500_000), transfer_sol(BUYER.public_key, SELLER.public_key, 1)
    )
    encoded = base64.b64encode(to_bytes_versioned(payment.message)).decode()
    assert node.value("getFeeForMessage", encoded) == 7_500
    node.send(payment)
    assert node.value("getBalance", BUYER.address) == 1_000 * LAMPORTS_PER_SOL - 7_501


def test_legacy_transactions_and_base58_are_understood(node: Node) -> None:
    blockhash, _ = node.chain.blockhash()
    instruction = transfer_sol(BUYER.public_key, SELLER.public_key, 3)
    message = Message.new_with_blockhash([instruction], BUYER.public_key, blockhash)
    payment = VersionedTransaction(message, [BUYER.keypair])
    node.ask("sendTransaction", base58.encode(bytes(payment)))
    found = node.ask("getTransaction", str(payment.signatures[0]), confirmed())
    assert isinstance(found, dict)
    assert found["version"] == "legacy"


def test_a_reader_that_does_not_know_versions_is_told(node: Node) -> None:
    payment = node.pay()
    node.send(payment)
    error = node.error("getTransaction", str(payment.signatures[0]), {"commitment": "confirmed"})
    assert error["code"] == -32015


def test_an_address_history_is_paged_by_signatures(node: Node) -> None:
    payments = [node.pay(lamports) for lamports in range(1, 8)]
    for payment in payments:
        node.send(payment)
    signatures = [str(each.signatures[0]) for each in reversed(payments)]

    def listed(**options: Json) -> list[str]:
        rows = node.ask("getSignaturesForAddress", BUYER.address, {"commitment": "confirmed", **options})
        assert isinstance(rows, list)
        return [str(row["signature"]) for row in rows if isinstance(row, dict)]

    assert listed(limit=3) == signatures[:3]
    assert listed(limit=3, before=signatures[2]) == signatures[3:6]
    assert listed(until=signatures[3]) == signatures[:3]
    assert node.ask("getSignaturesForAddress", BUYER.address) == []  # nothing is final yet


def test_airdrops_are_real_transfers_and_two_equal_ones_are_two(node: Node) -> None:
    address = str(Keypair().pubkey())
    first, second = (node.ask("requestAirdrop", address, 1_000_000) for _ in range(2))
    assert first != second
    assert node.value("getBalance", address) == 2_000_000


@pytest.mark.parametrize(
    ("method", "parameters", "code"),
    [
        ("getBalance", [], -32602),
        ("getBalance", ["nonsense"], -32602),
        ("getBalance", [5], -32602),
        ("getAccountInfo", [BUYER.address, {"encoding": "rot13"}], -32602),
        ("getAccountInfo", [BUYER.address, {"commitment": "hopefully"}], -32602),
        ("getAccountInfo", [BUYER.address, {"minContextSlot": 10**9}], -32016),
        ("getSignatureStatuses", [["x"]], -32602),
        ("getSignatureStatuses", [["1" * 64] * 257], -32602),
        ("getTokenAccountBalance", [BUYER.address], -32602),
        ("getTokenSupply", [BUYER.address], -32602),
        ("getTokenAccountsByOwner", [BUYER.address, {}], -32602),
        ("sendTransaction", ["!!!", {"encoding": "base64"}], -32602),
        ("sendTransaction", [base64.b64encode(bytes(2_000)).decode(), {"encoding": "base64"}], -32602),
        ("sendTransaction", [base64.b64encode(b"\x01" * 80).decode(), {"encoding": "base64"}], -32602),
        ("getFeeForMessage", ["AA=="], -32602),
        ("getMultipleAccounts", [[BUYER.address] * 101], -32602),
        ("getSignaturesForAddress", [BUYER.address, {"limit": 0}], -32602),
        ("devnet_fault", ["earthquake"], -32602),
        ("devnet_mint", [BUYER.address, BUYER.address, 5], -32099),
        ("getTheMoon", [], -32601),
    ],
)
def test_a_wrong_request_gets_the_error_a_cluster_gives(
    node: Node, method: str, parameters: list[Json], code: int
) -> None:
    error = node.error(method, *parameters)
    assert error["code"] == code
    assert error["message"]


@settings(deadline=None)
@given(
    request=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
        max_leaves=12,
    ),
    method=st.sampled_from(
        ["getBalance", "sendTransaction", "getTransaction", "getAccountInfo", "simulateTransaction"]
    ),
)
def test_any_request_at_all_gets_a_json_rpc_answer(request: object, method: str) -> None:
    whole = shared_node().dispatcher.answer(request)
    assert "error" in whole
    inner = shared_node().dispatcher.answer({"id": 1, "method": method, "params": request})
    assert ("error" in inner) != ("result" in inner)


_SHARED: list[Node] = []


def shared_node() -> Node:
    if not _SHARED:
        _SHARED.append(Node())
    return _SHARED[0]


def confirmed(**options: Json) -> dict[str, Json]:
    return {"commitment": "confirmed", "maxSupportedTransactionVersion": 0, **options}


def test_development_accounts_are_where_wallets_look() -> None:
    """The phrase's first account at m/44'/501'/0'/0', as other wallets derive it."""
    assert str(solana_accounts()["deployer"].public_key) == "oeYf6KAJkLYhBuR8CiGc6L4D4Xtfepr85fuDgA9kq96"
    assert Pubkey.from_string(BUYER.address).is_on_curve()
