"""The node hires a seller of which every part is the official Python package, on Solana."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from tests.x402.svm.peers.official import OfficialFacilitator, official_server
from tests.x402.svm.support import NETWORK, PRICE
from tests.x402.svm.test_buying_on_solana import Square, square
from tests.x402.test_peers import serving

__all__ = ["square"]
pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """The official clients leave their connections to the collector; a later test must not be blamed for them."""
    yield
    gc.collect()


@pytest.mark.parametrize("hints", [True, False])
async def test_an_all_official_seller_on_solana_is_hired_by_the_node(square: Square, hints: bool) -> None:
    runs: list[str] = []
    rpc_url = square.stage.chain.rpc_url
    facilitator = OfficialFacilitator(square.stage.sponsor, rpc_url)
    app = official_server(facilitator, square.stage.asked(), runs, rpc_url if hints else None, method="POST")
    url = await square.shops.enter_async_context(serving(app))
    await square.enter(f"{url}/report", square.stage.asked())
    hired = await square.hire()
    assert hired.output == {"run": 1}
    assert (hired.receipt.payments[0].network, await square.stage.paid()) == (NETWORK, PRICE)
    await square.assert_books_agree_with_the_chains()
