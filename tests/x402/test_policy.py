"""What is never signed: hosts, addresses, assets, prices and validity that the buyer did not agree to."""

from __future__ import annotations

import pytest
from tests.x402.support import PAYEE, PRICE, TOKEN, requirement
from x402.schemas import PaymentRequired
from x402.schemas.v1 import PaymentRequiredV1

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.core.money import Asset, Money
from agentnexus.markets.x402.policy import PaymentPolicy, TermsRefused
from agentnexus.markets.x402.wire import Resource, to_v1

USDC = Asset("USDC", 6, f"eip155:31337/erc20:{TOKEN}")
CAP = Money(USDC, PRICE)
POLICY = PaymentPolicy(assets={USDC.caip19: USDC})


def test_https_is_needed_except_on_this_machine() -> None:
    POLICY.check_url("https://shop.example/x")
    for local in ("http://localhost:1/x", "http://127.0.0.1/x", "http://[::1]:80/x", "http://a.localhost/"):
        POLICY.check_url(local)
    for plain in ("http://shop.example/x", "http://10.0.0.1/", "http://localhost.shop.example/"):
        with pytest.raises(NotAllowed, match="plain http"):
            POLICY.check_url(plain)
    with pytest.raises(NotAllowed):
        PaymentPolicy(assets={}, allow_local_http=False).check_url("http://localhost/x")


@pytest.mark.parametrize("url", ["", "shop.example", "ftp://shop.example/", "file:///etc/passwd", "https://"])
def test_only_web_addresses_are_bought_from(url: str) -> None:
    with pytest.raises(InvalidInput):
        POLICY.check_url(url)


def test_an_address_with_a_password_is_refused() -> None:
    with pytest.raises(NotAllowed, match="password"):
        POLICY.check_url("https://me:secret@shop.example/")


def test_denied_hosts_win_over_allowed_ones() -> None:
    policy = PaymentPolicy(assets={}, hosts_allowed=("*.example",), hosts_denied=("bad.example",))
    policy.check_url("https://good.example/")
    with pytest.raises(NotAllowed, match="deny list"):
        policy.check_url("https://BAD.example/")
    with pytest.raises(NotAllowed, match="allow list"):
        policy.check_url("https://good.example.evil.test/")


def test_the_cheapest_entry_that_fits_is_chosen() -> None:
    required = PaymentRequired(accepts=[requirement(900), requirement(500), requirement(700)])
    terms = POLICY.choose(required, CAP)
    assert (terms.price, terms.version) == (Money(USDC, 500), 2)


def test_v1_terms_are_chosen_alike() -> None:
    required = PaymentRequiredV1(accepts=[to_v1(requirement(), Resource("http://h/x", "d"))])
    terms = POLICY.choose(required, CAP, {PAYEE})
    assert (terms.version, terms.requirement) == (1, requirement())


REFUSED = [
    ({"scheme": "upto"}, "scheme 'upto'"),
    ({"network": "eip155:1"}, "not one we pay in"),
    ({"network": "solana:x"}, "not one we pay in"),
    ({"asset": "0x" + "99" * 20}, "not one we pay in"),
    ({"amount": str(PRICE + 1)}, "more than the"),
    ({"amount": "-1"}, "not an atomic amount"),
    ({"amount": "1e3"}, "not an atomic amount"),
    ({"pay_to": "merchant"}, "not an address"),
    ({"pay_to": "0x" + "99" * 20}, "not the address of the offer"),
    ({"max_timeout_seconds": 901}, "outside the limit"),
    ({"max_timeout_seconds": 0}, "outside the limit"),
    ({"extra": {"paymentFlow": "escrow"}}, "payment flow"),
    ({"extra": {"assetTransferMethod": "permit2"}}, "transfer method"),
]


@pytest.mark.parametrize(("change", "why"), REFUSED)
def test_terms_outside_the_rules_are_refused_with_the_rule(change: dict[str, object], why: str) -> None:
    required = PaymentRequired(accepts=[requirement().model_copy(update=change)])
    with pytest.raises(TermsRefused, match=why) as caught:
        POLICY.choose(required, CAP, {PAYEE})
    assert not caught.value.retryable
    assert len(caught.value.details["reasons"]) == 1  # type: ignore[arg-type]  # a list of texts


def test_one_bad_entry_does_not_spoil_the_others() -> None:
    bad = requirement().model_copy(update={"amount": "lots"})
    assert POLICY.choose(PaymentRequired(accepts=[bad, requirement()]), CAP).price == CAP


def test_a_price_in_another_asset_than_the_quote_is_refused() -> None:
    other = Asset("USDC", 6, "eip155:1/erc20:" + TOKEN)
    with pytest.raises(TermsRefused, match="agreed"):
        POLICY.choose(PaymentRequired(accepts=[requirement()]), Money(other, PRICE))


@pytest.mark.parametrize(
    ("url", "is_asked"),
    [
        ("http://127.0.0.1:5000/x402/agents/a", True),
        ("http://127.0.0.1:4711/anything", True),
        ("https://seller.example:5000/workflows/w/cancel", True),
        ("http://127.0.0.1:5000/workflows/w/cancel", False),
        ("http://localhost:5000/api/v1/hire", False),
        ("http://[::1]:5000/files", False),
        ("http://127.0.0.1:8545/", False),
        ("http://127.0.0.1:99999/", False),
        ("http://[::1/", False),
    ],
)
def test_an_offer_does_not_lead_the_node_to_its_own_parts(url: str, is_asked: bool) -> None:
    policy = PaymentPolicy({}, local_paths={5000: "/x402/", 8545: None})
    if is_asked:
        policy.check_url(url)
        return
    with pytest.raises((NotAllowed, InvalidInput)):
        policy.check_url(url)
