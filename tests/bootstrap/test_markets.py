"""Which places offers are looked for, and in which order they are trusted."""

from __future__ import annotations

import dataclasses

import httpx
import pytest

from agentnexus.bootstrap.buying import SOURCES, enabled_sources, markets
from agentnexus.bootstrap.ground import USDC_WORTH, Chain, Ground, dollar
from agentnexus.core.errors import InvalidInput
from agentnexus.markets.x402.market import X402Market


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("registry,bazaar,catalogue", SOURCES),
        (" Catalogue , registry,", ("catalogue", "registry")),
        ("bazaar,bazaar", ("bazaar",)),
    ],
)
def test_the_names_are_read_in_order(text: str, names: tuple[str, ...]) -> None:
    assert enabled_sources(text) == names


@pytest.mark.parametrize(("text", "named"), [("registry,ebay", "'ebay'"), ("", "no place"), (" , ", "no place")])
def test_an_unknown_name_and_none_at_all_are_refused_with_those_there_are(text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=named) as refused:
        enabled_sources(text)
    assert "registry, bazaar, catalogue" in refused.value.next_step


def test_by_default_all_are_asked(ground: Ground) -> None:
    assert enabled_sources(ground.settings.markets) == SOURCES


@pytest.mark.parametrize(
    ("text", "found", "sources"),
    [
        ("registry,bazaar,catalogue", ["x402", "catalogue"], ["x402-registry", "x402-bazaar"]),
        ("catalogue,bazaar,registry", ["catalogue", "x402"], ["x402-bazaar", "x402-registry"]),
        ("registry,catalogue,bazaar", ["x402", "catalogue"], ["x402-registry", "x402-bazaar"]),
        ("bazaar", ["x402"], ["x402-bazaar"]),
        ("catalogue", ["catalogue"], None),
    ],
)
async def test_markets_come_in_the_order_of_trust(
    ground: Ground, connected: Chain, text: str, found: list[str], sources: list[str] | None
) -> None:
    own = dataclasses.replace(ground, settings=ground.settings.model_copy(update={"markets": text}))
    async with httpx.AsyncClient() as http:
        made = markets(own, [connected.usdc], http, http, http)
    assert [market.name for market in made] == found
    x402 = next((market for market in made if isinstance(market, X402Market)), None)
    assert (None if x402 is None else [source.name for source in x402._sources]) == sources


def test_a_dollar_of_the_node_never_ages_and_says_why_it_is_one(ground: Ground, connected: Chain) -> None:
    rate = dollar(connected.usdc, ground.clock)
    assert (rate.usd, rate.source, rate.pegged) == (1, USDC_WORTH, True)


@pytest.mark.parametrize("firm", [False, True])
async def test_sellers_are_asked_for_firm_quotes_where_the_setting_says_so(
    ground: Ground, connected: Chain, firm: bool
) -> None:
    own = dataclasses.replace(ground, settings=ground.settings.model_copy(update={"firm_quotes": firm}))
    async with httpx.AsyncClient() as http:
        (x402,) = [each for each in markets(own, [connected.usdc], http, http, http) if isinstance(each, X402Market)]
    assert x402._firm_quotes is firm
