"""Money counts in integers and never mixes assets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset, Money, Rate, spelled, total

USDC = Asset("USDC", 6, "eip155:31337/erc20:0x5fbdb2315678afecb367f032d93f642f64180aa3")
SATS = Asset("sat", 0, "bip122:000000000019d6689c085ae165831e93/slip44:0")
AMOUNTS = st.integers(-(10**30), 10**30)


class Holder(BaseModel):
    money: Money


@given(AMOUNTS, AMOUNTS)
def test_adding_and_taking_away_gives_the_same_money_back(a: int, b: int) -> None:
    assert Money(USDC, a) + Money(USDC, b) - Money(USDC, b) == Money(USDC, a)
    assert (Money(USDC, a) < Money(USDC, b)) == (a < b)
    assert -Money(USDC, a) == Money(USDC, -a)


@given(AMOUNTS)
def test_json_and_text_keep_every_digit(atomic: int) -> None:
    money = Money(USDC, atomic)
    assert Holder.model_validate_json(Holder(money=money).model_dump_json()).money == money
    assert USDC.parse(f"{money.decimal:f}") == money


def test_two_assets_never_mix() -> None:
    for operation in ("__add__", "__sub__", "__lt__", "__le__", "__gt__", "__ge__"):
        with pytest.raises(TypeError, match="cannot mix"):
            getattr(Money(USDC, 1), operation)(Money(SATS, 1))


@pytest.mark.parametrize("wrong", [1.0, "1", None, True])
def test_only_an_integer_is_money(wrong: object) -> None:
    with pytest.raises(TypeError, match="integers"):
        Money(USDC, wrong)  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize(
    "wrong",
    [
        "0.0000001", "NaN", "Infinity", "one", "", "1e-7", "1e80", "1e400", "1e999999", "1e1000000000", "9" * 5000,
        "9" * 78, "-" + "9" * 78, "1_000", "\N{ARABIC-INDIC DIGIT ONE}", "0x10", "1\n2", ".", "+", "1e", "sNaN",
    ],
)  # fmt: skip
def test_an_amount_that_the_asset_cannot_carry_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        USDC.parse(wrong)
    assert caught.value.details["field"] == "amount"
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("text", "atomic"), [(" 1 ", 10**6), ("1.", 10**6), (".5", 500_000), ("1e-06", 1), ("-2", -2 * 10**6)]
)
def test_amounts_are_read_as_people_and_programs_write_them(text: str, atomic: int) -> None:
    assert USDC.parse(text) == Money(USDC, atomic)


@pytest.mark.parametrize(
    "wrong",
    [
        5,
        {},
        {"asset": USDC.caip19, "symbol": "USDC", "decimals": 6, "atomic": 5},
        {"asset": USDC.caip19, "symbol": "USDC", "decimals": 6, "atomic": "5.0"},
        {"asset": USDC.caip19, "symbol": "USDC", "decimals": 6, "atomic": "9" * 80},
        {"asset": USDC.caip19, "symbol": "USDC", "atomic": "5"},
    ],
)
def test_malformed_json_money_is_a_validation_error(wrong: object) -> None:
    with pytest.raises(ValidationError):
        Holder.model_validate({"money": wrong})


@pytest.mark.parametrize("wrong", ["USDC", "eip155:1", "eip155:1/erc20:", "EIP155:1/erc20:0x1", "a:b/c:d e"])
def test_an_asset_needs_a_caip19_id(wrong: str) -> None:
    with pytest.raises(InvalidInput):
        Asset("X", 6, wrong)


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [
        ("5", 6, "5.00"), ("5.0", 6, "5.00"), ("0.030000", 6, "0.03"), ("0.0125", 6, "0.0125"), ("-0.5", 6, "-0.50"),
        ("0", 6, "0.00"), ("0E-6", 6, "0.00"), ("1e-9", 9, "0.000000001"), ("1E+3", 6, "1000.00"), ("7", 0, "7"),
        ("7.5", 1, "7.5"), ("0.000001", 6, "0.000001"),
    ],
)  # fmt: skip
def test_amounts_are_spelled_in_one_way(amount: str, decimals: int, text: str) -> None:
    assert spelled(Decimal(amount), decimals) == text
    if decimals == USDC.decimals:
        assert str(USDC.parse(amount.replace("0E-6", "0").replace("1E+3", "1000"))) == f"{text} USDC"


def test_parts_of_the_id_and_decimals() -> None:
    assert USDC.network == "eip155:31337"
    assert USDC.reference == "0x5fbdb2315678afecb367f032d93f642f64180aa3"
    assert str(USDC.parse("0.05")) == "0.05 USDC"
    with pytest.raises(InvalidInput):
        Asset("X", 37, USDC.caip19)


def test_a_rate_turns_its_own_asset_into_dollars_only() -> None:
    rate = Rate(SATS, Decimal("0.001"), "test", datetime(2026, 1, 1, tzinfo=UTC))
    assert rate.to_usd(Money(SATS, 1500)) == Decimal("1.5")
    with pytest.raises(TypeError):
        rate.to_usd(Money(USDC, 1))


def test_a_sum_of_nothing_is_zero() -> None:
    assert total([], USDC) == Money(USDC, 0)
    assert total([Money(USDC, 1), Money(USDC, 2)], USDC).atomic == 3
    assert not Money(USDC, 0)


def test_a_rate_ages_from_when_it_was_read_unless_it_is_pegged() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert Rate(SATS, Decimal(1), "test", at).age_seconds(at + timedelta(minutes=1)) == 60
    assert Rate(SATS, Decimal(1), "test", at).age_seconds(at - timedelta(minutes=1)) == 0
    assert Rate(SATS, Decimal(1), "test", at, pegged=True).age_seconds(at + timedelta(days=9)) == 0


def test_a_rate_from_nowhere_is_none() -> None:
    with pytest.raises(InvalidInput, match="has no source"):
        Rate(SATS, Decimal(1), "", datetime(2026, 1, 1, tzinfo=UTC))
