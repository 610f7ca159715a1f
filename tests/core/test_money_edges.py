"""Amounts at the edges: the last digit an asset carries, the largest amount, hostile JSON, rates and identities."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import ATOMIC_MAX, Asset, Money, Rate, total

TOKEN = "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"
USDC = Asset("USDC", 6, f"eip155:8453/erc20:{TOKEN}")
ETH = Asset("ETH", 18, "eip155:8453/slip44:60")
SATS = Asset("sat", 0, "bip122:000000000019d6689c085ae165831e93/slip44:0")
WIDE = Asset("WIDE", 36, "eip155:1/erc20:0x1")
GOOD = {"asset": USDC.caip19, "symbol": "USDC", "decimals": 6, "atomic": "5"}
ATOMICS = st.integers(-ATOMIC_MAX, ATOMIC_MAX)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Bill(BaseModel):
    lines: list[Money]


@pytest.mark.parametrize(
    ("asset", "text", "atomic"),
    [
        (USDC, "0.000001", 1),
        (USDC, "0.0000010", 1),
        (USDC, "1.0000000000000000", 1_000_000),
        (USDC, "-0.000001", -1),
        (USDC, "+0.5", 500_000),
        (USDC, "-0", 0),
        (USDC, "000001", 1_000_000),
        (USDC, "1E2", 100_000_000),
        (USDC, "1e-6", 1),
        (USDC, "10e-7", 1),
        (USDC, "123456789012345678901234567890.123456", 123456789012345678901234567890123456),
        (ETH, "0.000000000000000001", 1),
        (ETH, "1.000000000000000001", 10**18 + 1),
        (SATS, "21e14", 2_100_000_000_000_000),
        (SATS, "7.0", 7),
        (WIDE, "0." + "0" * 35 + "1", 1),
        (WIDE, "9" * 42, int("9" * 42) * 10**36),
    ],
)
def test_every_digit_that_the_asset_carries_is_kept(asset: Asset, text: str, atomic: int) -> None:
    assert asset.parse(text) == Money(asset, atomic)


@pytest.mark.parametrize(
    ("asset", "text", "why"),
    [
        (USDC, "0.0000001", "more digits"),
        (USDC, "1.0000005", "more digits"),
        (SATS, "0.5", "more digits"),
        (SATS, "1e-1", "more digits"),
        (WIDE, "9" * 43, "more than any amount"),
        (WIDE, "1e42", "more than any amount"),
        (USDC, "1e72", "more than any amount"),
        (USDC, "-1e72", "more than any amount"),
        (USDC, "1,000", "not an amount"),
        (USDC, "1.0.0", "not an amount"),
        (USDC, "--1", "not an amount"),
        (USDC, "1 000", "not an amount"),
        (USDC, "$1", "not an amount"),
        (USDC, "1e100", "not an amount"),
        (USDC, "\uff11", "not an amount"),
        (USDC, "\u00bd", "not an amount"),
        (USDC, "1\x00", "not an amount"),
        (USDC, "e5", "not an amount"),
        (USDC, "inf", "not an amount"),
        (USDC, "0b1", "not an amount"),
    ],
)
def test_what_is_no_amount_is_refused_with_its_reason(asset: Asset, text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        asset.parse(text)
    assert caught.value.details == {"field": "amount"}


def test_the_largest_amount_is_parsed_and_one_more_is_not() -> None:
    assert SATS.parse(str(ATOMIC_MAX)).atomic == ATOMIC_MAX
    with pytest.raises(InvalidInput):
        SATS.parse(str(ATOMIC_MAX) + "0")


@given(ATOMICS, st.sampled_from([USDC, ETH, SATS, WIDE]))
def test_what_a_person_reads_is_what_a_person_may_type(atomic: int, asset: Asset) -> None:
    money = Money(asset, atomic)
    number, symbol = str(money).split(" ")
    assert symbol == asset.symbol
    assert asset.parse(number) == money
    assert money.decimal == Decimal(atomic) / Decimal(10**asset.decimals) or abs(atomic) > 10**27


@given(st.lists(ATOMICS, max_size=12))
def test_a_total_is_the_sum_whatever_the_order(atomics: list[int]) -> None:
    amounts = [Money(ETH, atomic) for atomic in atomics]
    assert total(amounts, ETH).atomic == sum(atomics)
    assert total(reversed(amounts), ETH) == total(amounts, ETH)


@given(ATOMICS, ATOMICS)
def test_exactly_one_of_less_equal_and_more_holds(a: int, b: int) -> None:
    one, other = Money(USDC, a), Money(USDC, b)
    assert [one < other, one == other, one > other].count(True) == 1
    assert (one <= other) == (not one > other)
    assert (one >= other) == (not one < other)


@given(ATOMICS, st.integers(-1000, 1000))
def test_times_is_repeated_adding(atomic: int, times: int) -> None:
    assert (Money(USDC, atomic) * times).atomic == atomic * times
    assert Money(USDC, atomic) * times == -(Money(USDC, atomic) * -times)


@pytest.mark.parametrize("times", [0.5, 1.0, "2", None, Decimal(2)])
def test_money_times_a_fraction_is_a_mistake(times: object) -> None:
    with pytest.raises(TypeError):
        Money(USDC, 3) * times  # type: ignore[operator]  # the point of the test


def test_a_total_of_two_assets_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot mix"):
        total([Money(USDC, 1), Money(ETH, 1)], USDC)


def test_assets_are_told_apart_by_their_id_and_not_by_their_symbol() -> None:
    bridged = Asset("USDC", 6, "eip155:8453/erc20:0xd9aaec86b65d86f6a7b5b1b0c42ffa531710b6ca")
    assert Money(USDC, 1) != Money(bridged, 1)
    with pytest.raises(TypeError, match="cannot mix"):
        Money(USDC, 1) + Money(bridged, 1)


def test_two_names_of_one_asset_add_up() -> None:
    renamed = Asset("USDbC", 6, USDC.caip19)
    assert (Money(USDC, 1) + Money(renamed, 2)).atomic == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("decimals", None),
        ("decimals", "6"),
        ("decimals", 6.0),
        ("decimals", 6.7),
        ("decimals", True),
        ("decimals", float("inf")),
        ("decimals", []),
        ("decimals", -1),
        ("decimals", 37),
        ("decimals", 10**30),
        ("asset", None),
        ("asset", "USDC"),
        ("asset", 5),
        ("asset", USDC.caip19 + "\n"),
        ("asset", USDC.caip19 + " "),
        ("asset", "eip155:1/erc20:" + "a" * 129),
        ("symbol", None),
        ("symbol", 5),
        ("symbol", {"a": 1}),
        ("atomic", None),
        ("atomic", 5),
        ("atomic", 5.0),
        ("atomic", True),
        ("atomic", ""),
        ("atomic", "-"),
        ("atomic", "+5"),
        ("atomic", " 5"),
        ("atomic", "5\n"),
        ("atomic", "0x5"),
        ("atomic", "1e3"),
        ("atomic", "1_0"),
        ("atomic", "\u0665"),
        ("atomic", "9" * 79),
    ],
)
def test_hostile_json_money_is_a_validation_error_at_its_place(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Bill.model_validate({"lines": [GOOD, {**GOOD, field: value}]})
    assert caught.value.errors()[0]["loc"] == ("lines", 1)


@pytest.mark.parametrize("missing", ["asset", "symbol", "decimals", "atomic"])
def test_a_missing_part_of_money_is_named(missing: str) -> None:
    with pytest.raises(ValidationError, match=f"lacks '{missing}'"):
        Bill.model_validate({"lines": [{key: value for key, value in GOOD.items() if key != missing}]})


@pytest.mark.parametrize("value", [None, [], "5 USDC", 5, 5.0, True])
def test_money_is_an_object(value: object) -> None:
    with pytest.raises(ValidationError, match="must be an object"):
        Bill.model_validate({"lines": [value]})


@given(ATOMICS, st.sampled_from([USDC, ETH, SATS, WIDE]))
def test_json_travels_as_text_and_comes_back(atomic: int, asset: Asset) -> None:
    money = Money(asset, atomic)
    assert money.to_json()["atomic"] == str(atomic)
    adapter = TypeAdapter(Money)
    assert adapter.validate_json(adapter.dump_json(money)) == money
    assert adapter.validate_python(money) is money


@pytest.mark.parametrize(
    ("caip19", "network", "reference"),
    [
        (f"eip155:1/erc20:{TOKEN}", "eip155:1", TOKEN),
        ("eip155:8453/slip44:60", "eip155:8453", "60"),
        (
            "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp/token:EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
            "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
            "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
        ),
        ("cosmos:cosmoshub-3/slip44:118", "cosmos:cosmoshub-3", "118"),
        ("bip122:000000000019d6689c085ae165831e93/slip44:0", "bip122:000000000019d6689c085ae165831e93", "0"),
    ],
)
def test_assets_of_the_standards_examples_are_read(caip19: str, network: str, reference: str) -> None:
    asset = Asset("X", 6, caip19)
    assert (asset.network, asset.reference) == (network, reference)
    assert asset.zero() == Money(asset, 0)


@pytest.mark.parametrize(
    "caip19",
    [
        "", "eip155:1", "eip155:1/", "eip155/erc20:0x1", "e:1/erc20:0x1", "ei:1/erc20:0x1", "eip155155:1/erc20:0x1",
        "eip155:/erc20:0x1", "eip155:" + "1" * 33 + "/erc20:0x1", "eip155:1/ERC20:0x1", "eip155:1/erc20:0x1\n",
        "eip155:1/erc20:0x1/7", "eip155:1/erc20:\u00e9", " eip155:1/erc20:0x1",
    ],
)  # fmt: skip
def test_what_is_no_asset_id_is_refused(caip19: str) -> None:
    with pytest.raises(InvalidInput, match="CAIP-19") as caught:
        Asset("X", 6, caip19)
    assert caught.value.details == {"field": "asset"}


@pytest.mark.parametrize(("decimals", "allowed"), [(-1, False), (0, True), (36, True), (37, False)])
def test_decimals_stay_in_their_range(decimals: int, allowed: bool) -> None:
    if allowed:
        assert Asset("X", decimals, USDC.caip19).decimals == decimals
        return
    with pytest.raises(InvalidInput, match="out of range"):
        Asset("X", decimals, USDC.caip19)


@pytest.mark.parametrize(
    ("asset", "atomic", "usd", "value"),
    [
        (USDC, 1_500_000, "1", "1.5"),
        (USDC, 1, "0.9998", "9.998E-7"),
        (ETH, 10**18, "3456.78", "3456.78"),
        (ETH, 1, "3000", "3E-15"),
        (SATS, 100_000_000, "0.001", "100000"),
        (USDC, -2_000_000, "1.01", "-2.02"),
        (USDC, 0, "5", "0"),
    ],
)
def test_a_rate_values_an_amount_without_floats(asset: Asset, atomic: int, usd: str, value: str) -> None:
    rate = Rate(asset, Decimal(usd), "test", NOW)
    assert rate.to_usd(Money(asset, atomic)) == Decimal(value)


def test_money_is_a_key_and_cannot_be_changed() -> None:
    prices = {Money(USDC, 1): "one"}
    assert prices[Money(USDC, 1)] == "one"
    with pytest.raises(AttributeError):
        Money(USDC, 1).atomic = 2  # type: ignore[misc]  # the point of the test
