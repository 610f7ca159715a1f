"""A wallet's history: USDC that came and went, whoever moved it, and operations; pages, and reorganisations."""

from __future__ import annotations

import pytest

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, checksum_address
from agentnexus.rails.evm.errors import NodeError
from agentnexus.rails.evm.rpc import Rpc
from agentnexus.rails.evm.token import transfer_call
from agentnexus.wallets.building import WalletChain
from agentnexus.wallets.history import History
from agentnexus.wallets.model import GasPayer, HistoryLine, OperationState, Transfer, WalletKind
from agentnexus.wallets.views import history_json
from tests.wallets.conftest import WHOLE, World

pytestmark = pytest.mark.timeout(120)


def told(lines: list[HistoryLine]) -> list[tuple[str, int | None]]:
    return [(line.kind, None if line.amount is None else line.amount.atomic) for line in lines]


async def test_money_from_elsewhere_and_own_operations_are_in_one_history(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    bob = world.chain.accounts["bob"].address
    await world.transact("bob", Call(world.chain.usdc.reference, transfer_call(wallet.address, 3 * WHOLE)))
    sent = await wallets.settle((await wallets.send("ann", [Transfer(world.seller, "1.5")], key="send")).id)
    guarded = await wallets.settle((await wallets.set_guardian("ann", bob, 86_400, key="guardian")).id)
    assert guarded.title == f"Let {bob} propose a new owner, 1 day ahead"
    page = await wallets.history("ann")
    # The clock of the test stands still, so the operation without a transfer is older than the blocks.
    assert sorted(told(list(page.lines)), key=str) == [
        ("in", 10 * WHOLE),
        ("in", 3 * WHOLE),
        ("operation", None),
        ("out", 1_500_000),
    ]
    assert (page.before, page.complete) == ("", True)
    out = next(line for line in page.lines if line.kind == "out")
    assert (out.operation_id, out.transaction, out.counterparty) == (sent.id, sent.transaction, world.seller)
    assert out.title == f"Send 1.50 USDC to {world.seller}"
    came = next(line for line in page.lines if line.amount and line.amount.atomic == 3 * WHOLE)
    assert (came.counterparty, came.operation_id, came.title) == (bob, "", "Received")
    made = next(line for line in page.lines if line.amount and line.amount.atomic == 10 * WHOLE)
    assert (made.counterparty, made.title) == (ZERO_ADDRESS, "Topped up")


async def test_what_comes_back_from_escrow_is_told_from_what_others_send(world: World) -> None:
    wallet, bob = await world.funded("ann"), world.chain.accounts["bob"].address
    await world.transact("bob", Call(world.chain.usdc.reference, transfer_call(wallet.address, WHOLE)))
    usdc, factory = world.chain.usdc, world.manifest.address("AccountFactory")
    where = WalletChain(world.chain.rpc, world.chain.network, usdc, factory, checksum_address(bob))
    page = await History(world.wallets().store, where).page(wallet, "", 50)
    assert sorted(line.title for line in page.lines) == ["Back from escrow", "Topped up"]


async def test_what_its_owner_took_back_is_told_from_what_failed(world: World) -> None:
    wallets, _ = world.wallets(), await world.funded("alice", WalletKind.KEY)
    begun = await wallets.send("alice", [Transfer(world.seller, "0.5")], key="send")
    assert not begun.discarded
    assert (await wallets.discard("alice", begun.id)).discarded
    (line,) = [each for each in (await wallets.history("alice")).lines if each.kind == "operation"]
    assert (line.state, line.discarded) == (OperationState.REJECTED, True)
    (told,) = history_json([line])
    assert (told["state"], told["discarded"]) == ("rejected", True)


async def test_pages_follow_each_other_without_gaps_or_repetitions(world: World) -> None:
    wallet = await world.funded("ann")
    for amount in range(1, 8):
        await world.chain.mint(wallet.address, amount)
    wallets = world.wallets()
    whole = [line.id for line in (await wallets.history("ann")).lines]
    assert len(whole) == 8
    seen: list[str] = []
    before = ""
    while True:
        page = await wallets.history("ann", before, 3)
        seen += [line.id for line in page.lines]
        before = page.before
        if not before:
            break
    assert seen == whole


async def test_places_and_sizes_that_no_page_has_are_refused(world: World) -> None:
    await world.funded("ann")
    wallets = world.wallets()
    for cursor in ("x", "1", "1.", ".", "9" * 30 + ".a", "-1.a", "1." + "a" * 101, "1.\u00e9", "\u0661.a", "1.\x00"):
        with pytest.raises(InvalidInput):
            await wallets.history("ann", cursor)
    for limit in (0, -1, 201):
        with pytest.raises(InvalidInput):
            await wallets.history("ann", "", limit)


async def test_a_transfer_to_oneself_is_one_line(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    await wallets.settle((await wallets.send("ann", [Transfer(wallet.address, "2")], key="self")).id)
    assert sorted(told(list((await wallets.history("ann")).lines))) == [("in", 10 * WHOLE), ("out", 2 * WHOLE)]


async def test_what_a_reorganisation_drops_leaves_the_history(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    snapshot = await world.chain.snapshot()
    await world.chain.mint(wallet.address, 7)
    assert len((await wallets.history("ann")).lines) == 2
    await world.chain.revert(snapshot)
    await world.chain.mint(wallet.address, 9)
    assert sorted(told(list((await wallets.history("ann")).lines))) == [("in", 9), ("in", 10 * WHOLE)]


async def test_operations_that_failed_or_wait_are_lines_of_their_own(world: World) -> None:
    await world.funded("ann")
    wallets = world.wallets()
    await world.chain.automine(False)
    waiting = await wallets.send("ann", [Transfer(world.seller, "1")], key="waits")
    lines = (await wallets.history("ann")).lines
    line = next(each for each in lines if each.kind == "operation")
    assert (line.operation_id, str(line.state), line.transaction) == (waiting.id, "signed", "")


class Narrow(Rpc):
    """A node that gives logs of few blocks only, and counts what it was asked."""

    def __init__(self, url: str, most_blocks: int) -> None:
        super().__init__(url)
        self.most_blocks = most_blocks
        self.spans: list[int] = []

    async def batch(self, calls):  # type: ignore[no-untyped-def]  # as it is declared in Rpc
        for each in calls:
            if each.method == "eth_getLogs":
                span = int(each.parameters[0]["toBlock"], 16) - int(each.parameters[0]["fromBlock"], 16)
                self.spans.append(span)
                if span > self.most_blocks:
                    return [NodeError("eth_getLogs", -32005, "too many blocks") for _ in calls]
        return await super().batch(calls)


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the chain were long."""
    monkeypatch.setattr("agentnexus.wallets.history.RANGE_BLOCKS", 16)
    monkeypatch.setattr("agentnexus.wallets.history.REORGANISED_BLOCKS", 4)


@pytest.mark.usefixtures("small_ranges")
async def test_ranges_that_a_node_finds_too_large_are_halved(world: World) -> None:
    wallet = await world.funded("ann")
    await world.chain.mine(5)
    await world.chain.mint(wallet.address, 5)
    async with Narrow(world.chain.rpc_url, 6) as rpc:
        where = WalletChain(rpc, world.chain.network, world.chain.usdc, world.manifest.address("AccountFactory"))
        history = History(world.wallets().store, where)
        page = await history.page(wallet, "", 50)
    assert page.complete
    assert sorted(told(list(page.lines))) == [("in", 5), ("in", 10 * WHOLE)]
    assert {each for each in rpc.spans if each > 6} == {15, 7}


@pytest.mark.usefixtures("small_ranges")
async def test_a_node_that_gives_no_logs_at_all_is_an_error(world: World) -> None:
    wallet = await world.funded("ann")
    async with Narrow(world.chain.rpc_url, -1) as rpc:
        where = WalletChain(rpc, world.chain.network, world.chain.usdc, world.manifest.address("AccountFactory"))
        with pytest.raises(NodeError):
            await History(world.wallets().store, where).page(wallet, "", 50)


@pytest.mark.usefixtures("small_ranges")
async def test_what_was_read_is_kept_and_a_look_reads_only_the_newest_blocks(world: World) -> None:
    """However long the chain is: the first page asks twice about the last blocks, the others ask nothing."""
    wallet = await world.funded("ann")
    for _ in range(3):
        await world.chain.mint(wallet.address, 5)
    await world.chain.mine(60)
    async with Narrow(world.chain.rpc_url, 1_000) as rpc:
        where = WalletChain(rpc, world.chain.network, world.chain.usdc, world.manifest.address("AccountFactory"))
        history = History(world.wallets().store, where)
        assert (await history.page(wallet, "", 2)).complete
        assert len(rpc.spans) > 8
        rpc.spans.clear()
        page = await history.page(wallet, "", 2)
        assert rpc.spans == [3, 3]
        await history.page(wallet, page.before, 2)
        assert rpc.spans == [3, 3]


@pytest.mark.usefixtures("small_ranges")
async def test_a_long_chain_is_read_in_several_questions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentnexus.wallets.history.RANGES_MAX", 1)
    wallet = await world.funded("ann")
    await world.chain.mine(40)
    wallets = world.wallets()
    questions = 0
    while not (await wallets.history("ann")).complete:
        questions += 1
    assert questions > 1
    assert told(list((await wallets.history("ann")).lines)) == [("in", 10 * WHOLE)]
    await world.chain.mint(wallet.address, 5)
    assert len((await wallets.history("ann")).lines) == 2


async def test_balances_are_of_one_block_and_in_dollars(world: World) -> None:
    wallet = await world.funded("ann", usdc=1_234_567)
    await world.give_coin(wallet.address, 5 * 10**17)
    held = await world.wallets().balances("ann")
    assert (held.usdc.atomic, held.coin.atomic) == (1_234_567, 5 * 10**17)
    assert (f"{held.usdc_usd}", held.coin_usd) == ("1.23", None)
    assert held.block_number == await world.chain.rpc.read_int("eth_blockNumber")
    priced = await world.wallets(coin_usd="3000").balances("ann")
    assert f"{priced.coin_usd}" == "1500.00"


async def test_transfers_of_other_tokens_are_counted_in_their_own_decimals(world: World) -> None:
    wallet = await world.funded("ann")
    wallets = world.wallets()
    token = world.chain.usdc.reference  # by its address, as any other token is named
    assert (await wallets.money("1.25", token)).atomic == 1_250_000
    await world.give_coin(wallet.address, 10**18)
    done = await wallets.settle(
        (await wallets.send("ann", [Transfer(world.seller, "0.000001", token)], key="k", gas=GasPayer.ACCOUNT)).id
    )
    assert done.title == f"Send 0.000001 USDC to {world.seller}"


HOSTILE_AMOUNTS = [
    ("0", "USDC"),
    ("-1", "USDC"),
    ("0.0000001", "USDC"),
    ("NaN", "USDC"),
    ("Infinity", "USDC"),
    ("1e99", "USDC"),
    ("", "USDC"),
    ("1,5", "USDC"),
    ("\u0661", "USDC"),
    ("1" * 80, "USDC"),
    ("1" * 78, "ETH"),
    ("0.0000000000000000001", "ETH"),
    ("1", "DOGE"),
    ("1", ""),
    ("1", "0x1234"),
    ("1", "0x" + "ab" * 20),
    ("1e3", "USDC"),
    ("1E1", "ETH"),
]


async def test_amounts_that_cannot_be_meant_are_refused(world: World) -> None:
    await world.funded("ann")
    wallets = world.wallets()
    for amount, asset in HOSTILE_AMOUNTS:
        with pytest.raises(InvalidInput) as refused:
            await wallets.send("ann", [Transfer(world.seller, amount, asset)], key="k")
        assert refused.value.next_step, (amount, asset)
    assert await world.database.pool.fetchval("select count(*) from wallet.operation") == 0


async def test_addresses_with_a_wrong_checksum_are_refused(world: World) -> None:
    await world.funded("ann")
    right = checksum_address(world.seller)
    at = next(at for at in range(2, 42) if right[at].isalpha())
    wrong = right[:at] + right[at].swapcase() + right[at + 1 :]
    with pytest.raises(InvalidInput, match="checksum"):
        await world.wallets().send("ann", [Transfer(wrong, "1")], key="k")
    assert (await world.wallets().send("ann", [Transfer(right, "1")], key="k")).title.endswith(world.seller)
