"""Our buyer rates at the registry: with the payment of its receipt as proof, and says why where it cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from agentnexus.core.errors import Conflict, NexusError, NotAllowed, NotFound, SellerFailed, Unavailable
from agentnexus.core.offers import Capability, Offer, Party, Price
from agentnexus.core.payments import PaymentRecord, PaymentState, Receipt, ReceiptStatus
from agentnexus.markets.x402.rating import COMMENT_CHARACTERS_MAX, RegistryRater

from .test_registry import ALICE, BOB, CAROL, NETWORK, USDC, World, entry, world

__all__ = ["world"]  # the fixture
REGISTRY = "http://registry.test"


@pytest.fixture
async def rater(world: World) -> AsyncIterator[RegistryRater]:
    await world.register()
    world.clock.advance(1)
    yield RegistryRater(REGISTRY, world.client, [BOB], world.clock)


def payment_of(transaction: str = "0xaa", /, **changes: object) -> PaymentRecord:
    fields = {
        "rail": "evm", "network": NETWORK, "asset": USDC.caip19, "amount": "20000", "payer": BOB.public_id,
        "payee": ALICE.public_id, "transaction": transaction, "state": PaymentState.CONFIRMED,
    }  # fmt: skip
    return PaymentRecord.model_validate(fields | changes)


def receipt_of(world: World, *payments: PaymentRecord, endpoint: str = str(entry(ALICE)["url"])) -> Receipt:
    now = world.clock.now()
    offer = Offer(
        id="x402:1", market="catalogue", seller=Party(ids={"evm": ALICE.public_id}),
        capability=Capability(name="pdf.extract"), title="PDF", price=Price(per_job=USDC.parse("0.02")),
        endpoint=endpoint, observed_at=now,
    )  # fmt: skip
    return Receipt(
        id="rct_1", job_id="job_1", need_hash="", offer=offer, quote=None, status=ReceiptStatus.SETTLED,
        payments=payments, result_hash="", started_at=now - timedelta(seconds=1.5), finished_at=now,
    )  # fmt: skip


async def listed(world: World) -> dict[str, object]:
    (service,) = (await world.client.get(f"/services/owner/{ALICE.public_id}")).json()
    return dict((await world.client.get(f"/services/{service['id']}/stats")).json())


async def test_the_stars_arrive_with_the_time_it_took_and_the_comment(world: World, rater: RegistryRater) -> None:
    world.pay("0xaa", BOB)
    await rater.rate(receipt_of(world, payment_of()), 4, "good tables")
    stats = await listed(world)
    assert (stats["totalRatings"], stats["averageRating"], stats["averageResponseTimeMs"]) == (1, 4, 1500)
    assert isinstance(stats["ratings"], list)
    (rating,) = stats["ratings"]
    assert (rating["payer"], rating["comment"], rating["stars"]) == (BOB.public_id, "good tables", 4)


async def test_a_payment_rates_once(world: World, rater: RegistryRater) -> None:
    world.pay("0xaa", BOB)
    await rater.rate(receipt_of(world, payment_of()), 4)
    world.clock.advance(1)
    with pytest.raises(Conflict, match="has been rated"):
        await rater.rate(receipt_of(world, payment_of()), 1)
    assert (await listed(world))["averageRating"] == 4


async def test_a_payment_that_the_registry_does_not_find_counts_nothing(world: World, rater: RegistryRater) -> None:
    with pytest.raises(NotAllowed, match="does not pay this service from your address") as refused:
        await rater.rate(receipt_of(world, payment_of()), 5)
    assert refused.value.next_step
    assert (await listed(world))["totalRatings"] == 0


async def test_a_seller_that_is_not_listed_is_said_to_be_none(world: World, rater: RegistryRater) -> None:
    world.pay("0xaa", BOB)
    with pytest.raises(NotFound, match="not listed"):
        await rater.rate(receipt_of(world, payment_of(), endpoint="http://seller.test/another"), 5)
    with pytest.raises(NotFound, match="not listed"):
        await rater.rate(receipt_of(world, payment_of(payee=CAROL.public_id)), 5)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": PaymentState.REFUNDED},
        {"payer": CAROL.public_id},
        {"payer": "9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin"},
    ],
)
async def test_a_receipt_without_a_payment_of_ours_is_no_proof(
    world: World, rater: RegistryRater, changes: dict[str, object]
) -> None:
    with pytest.raises(NotFound, match="no payment that a registry could check"):
        await rater.rate(receipt_of(world, payment_of("0xaa", **changes)), 5)


async def test_a_receipt_on_which_nothing_moved_is_no_proof(world: World, rater: RegistryRater) -> None:
    for receipt in (receipt_of(world), receipt_of(world, payment_of(""))):
        with pytest.raises(NotFound, match="no payment that a registry could check"):
            await rater.rate(receipt, 5)


async def test_of_several_payments_the_one_that_was_kept_is_the_proof(world: World, rater: RegistryRater) -> None:
    world.pay("0xbb", BOB)
    lost = payment_of(state=PaymentState.REFUNDED)
    spelled = payment_of("0xbb", payer=BOB.public_id.upper().replace("0X", "0x"))
    await rater.rate(receipt_of(world, lost, spelled), 5)
    assert (await listed(world))["totalRatings"] == 1


async def test_a_long_comment_is_cut_before_it_is_signed(world: World, rater: RegistryRater) -> None:
    world.pay("0xaa", BOB)
    await rater.rate(receipt_of(world, payment_of()), 5, "x" * 2 * COMMENT_CHARACTERS_MAX)
    assert (await listed(world))["totalRatings"] == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(500, text="oops"), SellerFailed),
        (httpx.Response(200, text="<html>"), NotFound),
        (httpx.Response(200, json={"no": "list"}), NotFound),
        (httpx.Response(200, json=["x", {"url": 5}]), NotFound),
        (httpx.Response(404, json={"error": "no such path"}), NotFound),
        (None, Unavailable),
    ],
)
async def test_what_is_no_registry_is_an_error_with_words(
    world: World, answer: httpx.Response | None, error: type[NexusError]
) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        if answer is None:
            raise httpx.ConnectError("refused", request=request)
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(reply)) as http:
        odd = RegistryRater(REGISTRY, http, [BOB], world.clock)
        with pytest.raises(error) as raised:
            await odd.rate(receipt_of(world, payment_of()), 5)
    assert raised.value.message


async def test_an_id_of_the_registry_cannot_lead_elsewhere(world: World) -> None:
    asked: list[str] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        return httpx.Response(200, json=[{"url": entry(ALICE)["url"], "id": "../../admin?x="}])

    async with httpx.AsyncClient(transport=httpx.MockTransport(reply)) as http:
        await RegistryRater(REGISTRY + "/", http, [BOB], world.clock).rate(receipt_of(world, payment_of()), 5)
    assert asked[1] == "/services/..%2F..%2Fadmin%3Fx%3D/rate"
