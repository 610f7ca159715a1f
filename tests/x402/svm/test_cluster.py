"""What nodes answer, and what offers say: odd shapes are errors with a name, never numbers made up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import httpx
import pytest
from solders.hash import Hash
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from tests.x402.svm.support import NETWORK, PRICE, USDC, Stage

from agentnexus.core.clock import SystemClock
from agentnexus.core.money import Asset
from agentnexus.markets.x402.discover import BazaarSource
from agentnexus.markets.x402.svm.confirmations import Confirmations
from agentnexus.rails.solana.cluster import Cluster, Commitment, RpcValue, Status
from agentnexus.rails.solana.errors import ClusterUnavailable, NodeError

SIGNATURE = "1" * 64
ACCOUNT = Keypair().pubkey()


class Saying:
    """A node with one answer to everything, or one refusal."""

    def __init__(self, answer: RpcValue | Exception) -> None:
        self.answer = answer
        self.calls: list[tuple[str, tuple[RpcValue, ...]]] = []

    async def call(self, method: str, *parameters: RpcValue) -> RpcValue:
        self.calls.append((method, parameters))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


Asking = Callable[[Cluster], Coroutine[None, None, object]]
QUESTIONS: dict[str, Asking] = {
    "latest": lambda cluster: cluster.latest_blockhash(),
    "height": lambda cluster: cluster.block_height(Commitment.FINALIZED),
    "slot": lambda cluster: cluster.slot(Commitment.FINALIZED),
    "valid": lambda cluster: cluster.is_valid(Hash.default()),
    "balance": lambda cluster: cluster.token_balance(ACCOUNT),
    "account": lambda cluster: cluster.account(ACCOUNT),
    "simulate": lambda cluster: cluster.simulate(b"wire"),
    "status": lambda cluster: cluster.status(SIGNATURE),
    "outcome": lambda cluster: cluster.outcome(SIGNATURE),
    "mentions": lambda cluster: cluster.mentions(ACCOUNT, before="x", commitment=Commitment.CONFIRMED, minimum_slot=1),
}


@pytest.mark.parametrize("answer", [7.5, "x", True, ["x"], {}, {"value": 1}, {"value": {}}, {"value": [7]}])
@pytest.mark.parametrize("question", QUESTIONS)
async def test_an_answer_of_another_shape_is_an_error_or_a_plain_no(question: str, answer: RpcValue) -> None:
    try:
        said = await QUESTIONS[question](Cluster(Saying(answer)))
    except NodeError as error:
        assert error.next_step
    else:
        assert (question, said) in [("valid", False)]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("latest", {"context": {"slot": 1}, "value": {"blockhash": "l0O", "lastValidBlockHeight": 5}}),
        ("latest", {"context": {"slot": 1}, "value": {"blockhash": str(Hash.default()), "lastValidBlockHeight": None}}),
        ("latest", {"value": {"blockhash": str(Hash.default()), "lastValidBlockHeight": 5}}),
        ("account", {"value": {"owner": "nobody", "data": ["", "base64"]}}),
        ("account", {"value": {"owner": str(ACCOUNT), "data": "text"}}),
        ("account", {"value": {"owner": str(ACCOUNT), "data": ["%%%", "base64"]}}),
        ("status", {"value": [{"confirmationStatus": "certain", "err": None, "slot": 1}]}),
        ("status", {"value": []}),
        ("outcome", {"slot": 1, "meta": {"err": None}, "transaction": ["AAAA", "base64"]}),
        ("outcome", {"slot": 1, "meta": None, "transaction": ["AAAA", "base64"]}),
    ],
)
async def test_a_half_right_answer_is_no_answer(question: str, answer: RpcValue) -> None:
    with pytest.raises(NodeError):
        await QUESTIONS[question](Cluster(Saying(answer)))


async def test_what_is_not_there_is_none() -> None:
    assert await Cluster(Saying(None)).outcome(SIGNATURE) is None
    assert await Cluster(Saying({"value": None})).account(ACCOUNT) is None
    assert await Cluster(Saying({"value": [None]})).status(SIGNATURE) is None
    missing = NodeError("getTokenAccountBalance", -32602, "Invalid param: could not find account")
    assert await Cluster(Saying(missing)).token_balance(ACCOUNT) is None
    with pytest.raises(NodeError):
        await Cluster(Saying(NodeError("getTokenAccountBalance", -32005, "behind"))).token_balance(ACCOUNT)


async def test_an_old_node_that_names_no_level_means_final() -> None:
    status = await Cluster(Saying({"value": [{"err": None, "slot": 3, "confirmations": None}]})).status(SIGNATURE)
    assert status == Status(None, Commitment.FINALIZED, 3)
    assert status is not None
    assert status.reached(Commitment.CONFIRMED)
    assert not Status(None, Commitment.PROCESSED, 3).reached(Commitment.CONFIRMED)


async def test_all_that_wait_are_asked_for_together() -> None:
    node = Saying({"value": [{"err": None, "slot": 1, "confirmationStatus": "confirmed"}] * 5})
    confirmations = Confirmations(Cluster(node), poll_seconds=0.01)
    names = [str(number) * 64 for number in range(1, 6)]
    statuses = await asyncio.gather(*(confirmations.look(name) for name in [*names, *names]))
    assert {each.level for each in statuses if each} == {Commitment.CONFIRMED}
    assert len(statuses) == 10
    ((method, (asked, _options)),) = node.calls
    assert (method, asked) == ("getSignatureStatuses", names)


async def test_a_node_that_is_away_tells_nobody_anything() -> None:
    confirmations = Confirmations(Cluster(Saying(ClusterUnavailable("away"))), poll_seconds=0.01)
    assert await confirmations.look(SIGNATURE) is None
    confirmations = Confirmations(Cluster(Saying({"value": []})), poll_seconds=0.01)
    assert await confirmations.look(SIGNATURE) is None


async def test_one_that_waits_no_more_keeps_nobody_from_hearing() -> None:
    node = Saying({"value": [{"err": None, "slot": 1, "confirmationStatus": "confirmed"}]})
    confirmations = Confirmations(Cluster(node), poll_seconds=0.05)
    leaving = asyncio.create_task(confirmations.look(SIGNATURE))
    staying = asyncio.create_task(confirmations.look(SIGNATURE))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying is not None


async def test_the_change_of_a_new_account_counts_from_nothing(stage: Stage) -> None:
    fresh = Keypair().pubkey()
    signature = await stage.chain.mint(fresh, PRICE)
    outcome = await stage.cluster.outcome(signature)
    assert outcome is not None
    from tests.x402.svm.support import USDC_TOKEN

    assert outcome.changes[USDC_TOKEN.account_of(fresh)] == PRICE
    assert Pubkey.default() not in outcome.changes


def test_offers_on_solana_are_read_with_their_case() -> None:
    asset = Asset("USDC", 6, f"{NETWORK}/token:{USDC}")
    seller = str(Keypair().pubkey())
    entry = {
        "resource": "https://seller.example/report",
        "type": "http",
        "accepts": [
            {
                "scheme": "exact",
                "network": "solana-devnet",
                "asset": str(USDC),
                "maxAmountRequired": "20000",
                "payTo": seller,
            }
        ],
    }
    source = BazaarSource("https://bazaar.example", httpx.AsyncClient(), SystemClock(), {asset.caip19: asset})
    offer = source.offer(entry)
    assert offer is not None
    assert (offer.seller.key, offer.price.per_job) == (f"solana:{seller}", asset.parse("0.02"))
    shouted = {**entry, "accepts": [{**entry["accepts"][0], "asset": str(USDC).upper()}]}  # type: ignore[index, dict-item]  # a test's own entry
    assert source.offer(shouted) is None
