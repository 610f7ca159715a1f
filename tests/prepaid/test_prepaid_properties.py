"""The prepaid rail under any order of operations: no money is made or lost, and every hold ends once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import Conflict, InsufficientFunds, InvalidInput
from agentnexus.core.money import Asset, Money
from agentnexus.core.payments import PaymentRequest, PaymentState, PayMode
from agentnexus.rails.prepaid.posting import InMemoryPosting
from agentnexus.rails.prepaid.wallet import PrepaidRail

CREDITS = Asset("USDC", 6, "eip155:31337/erc20:0x" + "11" * 20)
OTHERS = Asset("EURC", 6, "eip155:31337/erc20:0x" + "22" * 20)
BUYER, SELLER = "user:buyer", "seller:evm:0xabc"
ENDS = (PaymentState.CONFIRMED, PaymentState.REFUNDED)
STEPS = st.tuples(st.sampled_from(["send", "open", "settle", "cancel"]), st.integers(0, 4), st.integers(0, 60))


def request(mode: PayMode, amount: int, payee: str = SELLER) -> PaymentRequest:
    money = Money(CREDITS, amount)
    return PaymentRequest(rail="prepaid", amount=money, payee=payee, mode=mode, reference={}, binding="job:1")


@given(st.lists(STEPS, max_size=25))
async def test_whatever_happens_the_money_stays_whole(steps: list[tuple[str, int, int]]) -> None:
    posting = InMemoryPosting({BUYER: Money(CREDITS, 100)})
    rail = PrepaidRail(BUYER, posting)
    holds, ended = {}, {}
    for step, number, amount in steps:
        key = f"k{number}"
        try:
            if step == "send":
                await rail.send(request(PayMode.PAY, amount), key)
            elif step == "open":
                holds[key] = await rail.open(request(PayMode.HOLD, amount), key)
            elif key in holds:
                end = rail.cancel(holds[key]) if step == "cancel" else rail.settle(holds[key], {})
                state = (await end).state
                assert state in ENDS
                # A key that was also sent with is found as sent; a hold's own end never changes.
                assert ended.setdefault(key, state) == state or await posting.find(f"send:{key}")
        except (InsufficientFunds, Conflict):
            continue
    accounts = [BUYER, SELLER, *(f"hold:k{number}" for number in range(5))]
    balances = [(await posting.balance(account, CREDITS)).atomic for account in accounts]
    assert sum(balances) == 100
    assert min(balances) >= 0


@pytest.mark.parametrize("amount", [-1, -100, -(10**30)])
async def test_a_negative_payment_takes_nothing_from_the_payee(amount: int) -> None:
    posting = InMemoryPosting({BUYER: Money(CREDITS, 5), SELLER: Money(CREDITS, 500)})
    rail = PrepaidRail(BUYER, posting)
    for pay in (rail.send(request(PayMode.PAY, amount), "a"), rail.open(request(PayMode.HOLD, amount), "b")):
        with pytest.raises(InvalidInput, match="would take money") as caught:
            await pay
        assert caught.value.details == {"field": "amount"}
    assert (await posting.balance(SELLER, CREDITS)).atomic == 500


@pytest.mark.parametrize(("amount", "fits"), [(0, True), (99, True), (100, True), (101, False)])
async def test_an_account_pays_its_last_unit_and_not_one_more(amount: int, fits: bool) -> None:
    posting = InMemoryPosting({BUYER: Money(CREDITS, 100)})
    rail = PrepaidRail(BUYER, posting)
    if fits:
        assert (await rail.send(request(PayMode.PAY, amount), "k")).state is PaymentState.CONFIRMED
    else:
        with pytest.raises(InsufficientFunds) as caught:
            await rail.send(request(PayMode.PAY, amount), "k")
        assert caught.value.next_step == f"top up {BUYER}"
    assert (await rail.balance(CREDITS)).atomic == (100 - amount if fits else 100)


@pytest.mark.parametrize(
    "change",
    [{"debit": SELLER, "credit": BUYER}, {"credit": "x"}, {"amount": Money(CREDITS, 2)}, {"amount": Money(OTHERS, 1)}],
)
async def test_a_key_means_one_transfer(change: dict[str, object]) -> None:
    posting = InMemoryPosting({BUYER: Money(CREDITS, 100), SELLER: Money(CREDITS, 100)})
    terms: dict[str, object] = {"debit": BUYER, "credit": SELLER, "amount": Money(CREDITS, 1)}
    first = await posting.post("k", **terms)  # type: ignore[arg-type]  # terms by name
    assert await posting.post("k", **terms) == first  # type: ignore[arg-type]  # likewise
    with pytest.raises(Conflict, match="another transfer"):
        await posting.post("k", **{**terms, **change})  # type: ignore[arg-type]  # likewise
    assert (await posting.balance(SELLER, CREDITS)).atomic == 101


async def test_assets_have_balances_of_their_own() -> None:
    posting = InMemoryPosting({BUYER: Money(CREDITS, 100)})
    posting.top_up(BUYER, Money(OTHERS, 7))
    assert (await posting.balance(BUYER, OTHERS)).atomic == 7
    with pytest.raises(InsufficientFunds):
        await posting.post("k", debit=BUYER, credit=SELLER, amount=Money(OTHERS, 8))
    assert (await posting.balance(BUYER, CREDITS)).atomic == 100
    assert await posting.find("k") is None
