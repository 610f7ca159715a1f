"""Requirements field by field, networks by every spelling, and a watcher on a chain that the test writes itself."""

from __future__ import annotations

import pytest
from tests.evm.test_hostile_node import scripted
from tests.evm.test_rpc import bad_node

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Money
from agentnexus.core.payments import PaymentRequest, PayMode
from agentnexus.platform.database import Connection, Database
from agentnexus.rails.evm.eip3009 import Authorization, SignedAuthorization, nonce_for
from agentnexus.rails.evm.encoding import checksum_address, to_hex, word
from agentnexus.rails.evm.errors import WrongNetwork
from agentnexus.rails.evm.networks import NETWORKS, Network, NetworkKind, network_by_id, network_by_name, require_kind
from agentnexus.rails.evm.requirements import Terms, read_terms
from agentnexus.rails.evm.rpc import Rpc, RpcValue
from agentnexus.rails.evm.token import TRANSFER_TOPIC
from agentnexus.rails.evm.watch import TransferChange, TransferWatcher, WatchedTransfer

BASE, LOCAL = NETWORKS[8453], NETWORKS[31337]
TOKEN = "0x" + "a1" * 20
OURS, THEIRS, PAYER = "0x" + "b2" * 20, "0x" + "c3" * 20, "0x" + "d4" * 20
USDC = BASE.token(TOKEN)


def request(reference: dict[str, object]) -> PaymentRequest:
    return PaymentRequest(
        rail="evm",
        amount=Money(USDC, 10_000),
        payee=OURS,
        mode=PayMode.AUTHORIZE,
        reference=reference,
        binding="b",
    )


def stated(**changes: object) -> dict[str, object]:
    given = {
        "scheme": "exact",
        "network": "eip155:8453",
        "asset": checksum_address(TOKEN),
        "payTo": checksum_address(OURS),
        "amount": "10000",
        "maxTimeoutSeconds": 60,
        "extra": {"name": "USD Coin", "version": "2"},
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "valid_seconds", "name"),
    [
        ({}, 60, "USD Coin"),
        ({"network": "base"}, 60, "USD Coin"),
        ({"network": None}, 60, "USD Coin"),
        ({"asset": TOKEN}, 60, "USD Coin"),
        ({"asset": None, "payTo": None, "scheme": None, "amount": None}, 60, "USD Coin"),
        ({"amount": None, "maxAmountRequired": "10000"}, 60, "USD Coin"),
        ({"payTo": "0x" + "B2" * 20}, 60, "USD Coin"),
        ({"maxTimeoutSeconds": None}, 300, "USD Coin"),
        ({"maxTimeoutSeconds": 1}, 1, "USD Coin"),
        ({"maxTimeoutSeconds": 86_400}, 86_400, "USD Coin"),
        ({"maxTimeoutSeconds": 86_401}, 86_400, "USD Coin"),
        ({"maxTimeoutSeconds": 10**30}, 86_400, "USD Coin"),
        ({"extra": None}, 60, None),
        ({"extra": "USD Coin"}, 60, None),
        ({"extra": {}}, 60, None),
        ({"extra": {"name": "", "version": 2}}, 60, None),
        ({"extra": {"name": "USD Coin", "version": "2", "assetTransferMethod": "eip3009"}}, 60, "USD Coin"),
        ({"description": "anything else", "outputSchema": {}}, 60, "USD Coin"),
    ],
)
def test_requirements_that_say_the_same_are_read_alike(
    changes: dict[str, object], valid_seconds: int, name: str | None
) -> None:
    terms = read_terms(request(stated(**changes)), BASE)
    assert terms == Terms(TOKEN, OURS, 10_000, valid_seconds, name, "2" if name else None)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"network": "eip155:1"}, "reference.network"),
        ({"network": "ethereum"}, "reference.network"),
        ({"network": "solana"}, "network"),
        ({"network": 8453}, "network"),
        ({"network": "eip155:\u00b2"}, "network"),
        ({"network": "eip155:" + "9" * 5000}, "network"),
        ({"asset": "0x" + "a2" * 20}, "reference.asset"),
        ({"asset": "USDC"}, "reference.asset"),
        ({"asset": TOKEN + "\n"}, "reference.asset"),
        ({"payTo": THEIRS}, "reference.payTo"),
        ({"payTo": "seller.eth"}, "reference.payTo"),
        ({"scheme": "upto"}, "reference.scheme"),
        ({"scheme": "EXACT"}, "reference.scheme"),
        ({"amount": "10001"}, "reference.amount"),
        ({"amount": "9999"}, "reference.amount"),
        ({"amount": 10000}, "reference.amount"),
        ({"amount": "10000.0"}, "reference.amount"),
        ({"amount": "010000"}, "reference.amount"),
        ({"maxTimeoutSeconds": 0}, "reference.maxTimeoutSeconds"),
        ({"maxTimeoutSeconds": -1}, "reference.maxTimeoutSeconds"),
        ({"maxTimeoutSeconds": 1.5}, "reference.maxTimeoutSeconds"),
        ({"maxTimeoutSeconds": "60"}, "reference.maxTimeoutSeconds"),
        ({"maxTimeoutSeconds": True}, "reference.maxTimeoutSeconds"),
        ({"extra": {"assetTransferMethod": "permit2"}}, "reference.extra.assetTransferMethod"),
    ],
)
def test_a_requirement_that_differs_is_refused_by_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_terms(request(stated(**changes)), BASE)
    assert caught.value.details["field"] == field
    assert len(caught.value.message) < 300


def test_all_differences_are_named_and_the_first_is_the_field() -> None:
    with pytest.raises(InvalidInput, match="asset, payTo, amount") as caught:
        read_terms(request(stated(asset=THEIRS, payTo=THEIRS, amount="1")), BASE)
    assert caught.value.details["field"] == "reference.asset"
    assert caught.value.next_step == "ask the seller for a new quote"


def test_money_of_another_network_is_never_signed_here() -> None:
    with pytest.raises(WrongNetwork) as caught:
        read_terms(request(stated()), LOCAL)
    assert "eip155:8453" in caught.value.next_step


@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: network.name)
def test_every_network_is_found_by_each_of_its_names(network: Network) -> None:
    assert network_by_id(network.chain_id) is network
    assert network_by_name(network.name) is network
    assert network_by_name(network.caip2) is network
    assert network.native.network == network.caip2
    assert network.token(TOKEN).caip19 == f"{network.caip2}/erc20:{TOKEN}"
    assert network.confirmations >= 1


@pytest.mark.parametrize(
    "name",
    [
        "", "Base", "BASE", " base", "base ", "eip155:", "eip155:0", "eip155:-1", "eip155:999999", "eip155:8453 ",
        "eip155:8453\n", "eip155: 8453", "eip155:+8453", "eip155:8_453", "eip155:8453.0", "eip155:0x2105",
        "EIP155:8453",
        "eip155:\u0668\u0664\u0665\u0663", "eip155:\u00b2", "eip155:" + "1" * 33, "eip155:8453:1",
        "solana:mainnet", None,
        8453, b"base", ["base"], {},
    ],
)  # fmt: skip
def test_what_names_no_network_we_know_is_refused(name: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        network_by_name(name)
    assert caught.value.next_step
    assert len(caught.value.message) < 200


def test_every_unknown_chain_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput) as caught:
        network_by_id(5)
    assert all(str(known) in caught.value.next_step for known in NETWORKS)


@pytest.mark.parametrize("kind", list(NetworkKind))
@pytest.mark.parametrize("chain_id", list(NETWORKS))
def test_keys_stay_on_their_kind_of_network(kind: NetworkKind, chain_id: int) -> None:
    network = NETWORKS[chain_id]
    if network.kind is kind:
        require_kind(kind, network, "the key")
        return
    with pytest.raises(WrongNetwork, match=f"{kind} key") as caught:
        require_kind(kind, network, "the key")
    assert caught.value.details == {"key": str(kind), "network": network.caip2}


def wire_form(**changes: object) -> dict[str, object]:
    authorization = Authorization(PAYER, OURS, 5, 0, 10, nonce_for("k")).to_json()
    return {**authorization, **changes}


@pytest.mark.parametrize("field", ["value", "validAfter", "validBefore"])
@pytest.mark.parametrize(
    "value",
    [None, 5, 5.0, True, "", "-1", "+1", "05", "1.0", "1e3", "0x5", " 5", "5\n", "\u0665", str(2**256), "9" * 79],
)
def test_figures_of_an_authorisation_are_plain_decimal_texts(field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        Authorization.from_json(wire_form(**{field: value}))
    assert caught.value.details["field"] == f"authorization.{field}"


@pytest.mark.parametrize("value", ["0", "1", str(2**64), str(2**256 - 1)])
def test_figures_of_an_authorisation_go_up_to_a_whole_word(value: str) -> None:
    assert Authorization.from_json(wire_form(value=value)).value == int(value)


@pytest.mark.parametrize("nonce", [None, "", "0x", "0x" + "00" * 31, "0x" + "00" * 33, "00" * 32, "0x" + "zz" * 32, 5])
def test_a_nonce_has_thirty_two_bytes(nonce: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        Authorization.from_json(wire_form(nonce=nonce))
    assert caught.value.details["field"] == "authorization.nonce"


@pytest.mark.parametrize(("size", "fits"), [(0, False), (1, True), (65, True), (8192, True), (8193, False)])
def test_signatures_are_neither_empty_nor_endless(size: int, fits: bool) -> None:
    payload = {"signature": "0x" + "ab" * size, "authorization": wire_form()}
    if fits:
        signed = SignedAuthorization.from_json(payload)
        assert SignedAuthorization.from_json(signed.to_json()) == signed
        return
    with pytest.raises(InvalidInput) as caught:
        SignedAuthorization.from_json(payload)
    assert caught.value.details["field"] == "signature"


class Story:
    """A chain that the test tells: blocks by number, transfers, and whether the node keeps to its filters."""

    def __init__(self) -> None:
        self.blocks = {0: "0xb0"}
        self.logs: list[dict[str, RpcValue]] = []
        self.spans: list[tuple[int, int]] = []

    @property
    def head(self) -> int:
        return max(self.blocks)

    def grow(self, count: int = 1, *, fork: str = "") -> None:
        for _ in range(count):
            number = self.head + 1
            self.blocks[number] = f"0xb{number}{fork}"

    def cut(self, number: int) -> None:
        """Back to this block: what came after never happened."""
        self.blocks = {at: block for at, block in self.blocks.items() if at <= number}
        self.logs = [log for log in self.logs if int(str(log["blockNumber"]), 16) <= number]

    def transfer(
        self, value: int, *, payee: str = OURS, token: str = TOKEN, at: int | None = None, index: int = 0
    ) -> None:
        number = self.head if at is None else at
        log: dict[str, RpcValue] = {
            "address": token,
            "topics": [TRANSFER_TOPIC, to_hex(word(PAYER)), to_hex(word(payee))],
            "data": to_hex(word(value)),
            "transactionHash": f"0x{value:064x}",
            "blockNumber": hex(number),
            "blockHash": self.blocks.get(number, "0xnone"),
            "logIndex": hex(index),
        }
        self.logs.append(log)

    def answer(self, method: str, parameters: list[RpcValue]) -> RpcValue:
        if method == "eth_getBlockByNumber":
            number = self.head if parameters[0] == "latest" else int(str(parameters[0]), 16)
            return {"number": hex(number), "hash": self.blocks[number]} if number in self.blocks else None
        question = parameters[0]
        assert isinstance(question, dict)
        first, last = int(str(question["fromBlock"]), 16), int(str(question["toBlock"]), 16)
        self.spans.append((first, last))
        # A node without filters: what it is asked for and everything else as well.
        return [*self.logs]


def watcher(rpc: Rpc, database: Database, *, confirmations: int = 1, start: int | None = None) -> TransferWatcher:
    return TransferWatcher(database, rpc, BASE, USDC, [OURS], name="w", start_block=start, confirmations=confirmations)


def facts(changes: list[WatchedTransfer]) -> list[tuple[TransferChange, int]]:
    return [(change.change, change.amount.atomic) for change in changes]


DEPOSITED, REMOVED = TransferChange.DEPOSITED, TransferChange.REMOVED


async def test_a_node_that_ignores_its_filters_makes_no_deposit(database: Database) -> None:
    story = Story()
    async with bad_node(scripted(story.answer)) as (_, rpc):
        watch = watcher(rpc, database)
        assert await watch.poll() == []
        story.grow()
        story.transfer(1, payee=THEIRS)
        story.transfer(2, token="0x" + "ee" * 20)
        story.transfer(3, at=99)
        story.transfer(4)
        assert facts(await watch.poll()) == [(DEPOSITED, 4)]
        story.grow(2)
        assert await watch.poll() == []


async def test_deposits_come_by_block_and_place_whatever_order_the_node_has(database: Database) -> None:
    story = Story()
    async with bad_node(scripted(story.answer)) as (_, rpc):
        watch = watcher(rpc, database)
        await watch.poll()
        story.grow(2)
        for value, at, index in ((30, 2, 0), (12, 1, 2), (31, 2, 1), (10, 1, 0)):
            story.transfer(value, at=at, index=index)
        assert facts(await watch.poll()) == [(DEPOSITED, value) for value in (10, 12, 30, 31)]


@pytest.mark.parametrize(("confirmations", "grown"), [(1, 0), (2, 1), (3, 2), (12, 11)])
async def test_a_deposit_is_told_with_its_last_confirmation(confirmations: int, grown: int, database: Database) -> None:
    story = Story()
    async with bad_node(scripted(story.answer)) as (_, rpc):
        watch = watcher(rpc, database, confirmations=confirmations)
        await watch.poll()
        story.grow()
        story.transfer(5)
        for _ in range(grown):
            assert await watch.poll() == []
            story.grow()
        assert facts(await watch.poll()) == [(DEPOSITED, 5)]
        story.grow(3)
        assert await watch.poll() == []


async def test_a_reorganisation_takes_back_and_gives_again(database: Database) -> None:
    story = Story()
    async with bad_node(scripted(story.answer)) as (_, rpc):
        watch = watcher(rpc, database)
        await watch.poll()
        story.grow()
        await watch.poll()
        story.grow()
        story.transfer(5)
        story.transfer(6, index=1)
        assert facts(await watch.poll()) == [(DEPOSITED, 5), (DEPOSITED, 6)]
        story.cut(1)
        story.grow(2, fork="f")
        story.transfer(6, at=3)
        assert facts(await watch.poll()) == [(REMOVED, 5), (REMOVED, 6), (DEPOSITED, 6)]
        assert await watch.poll() == []


async def test_a_history_is_read_in_spans_without_a_gap(database: Database) -> None:
    story = Story()
    story.grow(1203)
    for at in (1, 500, 501, 1000, 1203):
        story.transfer(at, at=at)
    async with bad_node(scripted(story.answer)) as (_, rpc):
        changes = await watcher(rpc, database, start=1).poll()
    assert [change.amount.atomic for change in changes] == [1, 500, 501, 1000, 1203]
    assert story.spans == [(1, 500), (501, 1000), (1001, 1203)]


async def test_a_node_without_a_head_changes_nothing(database: Database) -> None:
    async with bad_node(scripted(lambda _method, _parameters: None)) as (_, rpc):
        assert await watcher(rpc, database).poll() == []


@pytest.mark.parametrize("logs", [None, "none", {}, 5])
async def test_an_answer_that_is_no_list_leaves_the_place_as_it_was(logs: RpcValue, database: Database) -> None:
    story = Story()
    lying = True

    def answer(method: str, parameters: list[RpcValue]) -> RpcValue:
        return logs if lying and method == "eth_getLogs" else story.answer(method, parameters)

    async with bad_node(scripted(answer)) as (_, rpc):
        watch = watcher(rpc, database)
        await watch.poll()
        story.grow()
        story.transfer(5)
        with pytest.raises(InvalidInput, match="list"):
            await watch.poll()
        lying = False
        assert facts(await watch.poll()) == [(DEPOSITED, 5)]


async def test_what_is_booked_is_told_in_the_same_transaction(database: Database) -> None:
    story = Story()
    told: list[WatchedTransfer] = []

    async def book(connection: Connection, change: WatchedTransfer) -> None:
        assert connection.is_in_transaction()
        told.append(change)

    async with bad_node(scripted(story.answer)) as (_, rpc):
        watch = watcher(rpc, database)
        await watch.poll(book)
        story.grow()
        story.transfer(5)
        assert await watch.poll(book) == told
    (change,) = told
    assert (change.payer, change.payee, change.block_number, change.log_index) == (PAYER, OURS, 1, 0)
    assert change.amount == Money(USDC, 5)
