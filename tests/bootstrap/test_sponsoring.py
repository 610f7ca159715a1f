"""Whose gas the facilitator pays by default, and when the operator says so."""

from __future__ import annotations

import pytest

from agentnexus.bootstrap.ground import Chain
from agentnexus.bootstrap.sponsoring import is_loopback, sponsor_limits
from agentnexus.core.errors import InvalidInput
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.devnet.economy import SELLERS
from agentnexus.platform.settings import Settings

HERE = "127.0.0.1"
STRANGER = "0x" + "AB" * 20


def settings(facts: dict[str, str], **more: object) -> Settings:
    return Settings.model_validate({**facts, **more})


def test_on_a_laptop_everybody_is_sponsored(facts: dict[str, str], connected: Chain) -> None:
    limits = sponsor_limits(settings(facts), connected, HERE)
    assert (limits.payees, limits.minimum, limits.gas_per_payer_hour, limits.gas_per_hour) == (None, 0, None, None)


@pytest.mark.parametrize(("environment", "host"), [("production", HERE), ("local", "0.0.0.0")])
def test_where_others_can_come_our_own_sellers_are_sponsored_within_limits(
    facts: dict[str, str], connected: Chain, chain: DevelopmentChain, environment: str, host: str
) -> None:
    limits = sponsor_limits(settings(facts, environment=environment), connected, host)
    assert limits.payees == {chain.accounts[name].address for name in SELLERS}
    assert limits.minimum == 1000
    assert limits.gas_per_payer_hour
    assert limits.gas_per_hour
    assert limits.gas_per_payer_hour < limits.gas_per_hour


def test_the_operator_has_the_last_word(facts: dict[str, str], connected: Chain) -> None:
    chosen = settings(
        facts,
        environment="production",
        sponsored_payees=f"own, {STRANGER}",
        sponsored_minimum="0.05",
        sponsored_gas_per_payment=100_000,
        sponsored_gas_per_payer_hour=0,
        sponsored_gas_per_hour=7_000_000,
    )
    limits = sponsor_limits(chosen, connected, HERE)
    assert limits.payees is not None
    assert STRANGER.lower() in limits.payees
    assert len(limits.payees) == len(SELLERS) + 1
    assert (limits.minimum, limits.gas_per_payment) == (50_000, 100_000)
    assert (limits.gas_per_payer_hour, limits.gas_per_hour) == (None, 7_000_000)
    anybody = settings(facts, environment="production", sponsored_payees="any")
    assert sponsor_limits(anybody, connected, HERE).payees is None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"sponsored_payees": "0x12"}, "sponsored_payees"),
        ({"sponsored_payees": " , "}, "names nobody"),
        ({"sponsored_minimum": "a little"}, "not an amount"),
        ({"environment": "production", "seller_keys": None}, "whose payments"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    facts: dict[str, str], connected: Chain, wrong: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        sponsor_limits(settings(facts, **wrong), connected, HERE)


@pytest.mark.parametrize(
    ("host", "only_here"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("nexus.example", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here
