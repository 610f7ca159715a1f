"""What every role starts with: settings that are missing or wrong are named, with the variable to set."""

from __future__ import annotations

import pytest

from agentnexus.bootstrap.ground import Chain, Ground, open_chain, open_ground
from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.settings import Settings
from agentnexus.rails.evm.errors import WrongNetwork


async def test_without_a_database_the_advice_is_up_or_a_variable() -> None:
    with pytest.raises(Unavailable) as error:
        async with open_ground(Settings.model_validate({"database_url": None})):
            pytest.fail("opened")
    assert "nexus up" in error.value.next_step
    assert "DATABASE_URL" in error.value.next_step


async def test_a_database_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="database does not answer"):
        async with open_ground(Settings.model_validate({"database_url": "postgresql://postgres@127.0.0.1:1/x"})):
            pytest.fail("opened")


@pytest.mark.parametrize("missing", ["evm_rpc_url", "usdc_address"])
async def test_a_chain_that_is_not_configured_is_named(facts: dict[str, str], missing: str) -> None:
    settings = Settings.model_validate({**facts, missing: None})
    async with open_ground(settings) as ground:
        with pytest.raises(Unavailable, match="no EVM chain is configured") as error:
            async with open_chain(ground):
                pytest.fail("opened")
    assert "NEXUS_EVM_RPC_URL" in error.value.next_step


async def test_a_chain_that_does_not_answer_is_unavailable(facts: dict[str, str]) -> None:
    async with open_ground(Settings.model_validate({**facts, "evm_rpc_url": "http://127.0.0.1:1"})) as ground:
        with pytest.raises(Unavailable):
            async with open_chain(ground):
                pytest.fail("opened")


async def test_a_node_on_another_chain_than_configured_is_refused(facts: dict[str, str]) -> None:
    async with open_ground(Settings.model_validate({**facts, "evm_chain_id": 8453})) as ground:
        with pytest.raises(WrongNetwork, match="not 8453"):
            async with open_chain(ground):
                pytest.fail("opened")


async def test_keys_that_are_missing_are_named(ground: Ground, connected: Chain) -> None:
    with pytest.raises(InvalidInput) as error:
        connected.signer(None, "buyer_key")
    assert "NEXUS_BUYER_KEY" in error.value.next_step
    with pytest.raises(InvalidInput) as error:
        connected.sellers(None)
    assert "NEXUS_SELLER_KEYS" in error.value.next_step
    assert len(connected.sellers(ground.settings.seller_keys)) == 4


async def test_a_payment_counts_only_between_its_own_parties(chain: DevelopmentChain, connected: Chain) -> None:
    alice, bob = (chain.accounts[name].address for name in ("alice", "bob"))
    await chain.mint(alice, 5)
    (log,) = await _transfers(chain)
    transaction = str(log["transactionHash"])
    nobody = "0x" + "0" * 40
    network = chain.network.caip2
    paid = await connected.paid(network, transaction, nobody, alice)
    assert paid is not None
    assert (paid.asset, paid.amount, paid.returned) == (chain.usdc.reference, 5, 0)
    assert not await connected.paid(network, transaction, nobody, bob)
    assert not await connected.paid(network, transaction, alice, alice)
    assert not await connected.paid("eip155:1", transaction, nobody, alice)
    assert not await connected.paid(network, "0x" + "ab" * 32, nobody, alice)
    assert not await connected.paid(network, "not a hash", nobody, alice)


async def _transfers(chain: DevelopmentChain) -> list[dict[str, object]]:
    found = await chain.rpc.call(
        "eth_getLogs", {"fromBlock": "latest", "toBlock": "latest", "address": chain.usdc.reference}
    )
    assert isinstance(found, list)
    return found  # type: ignore[return-value]  # JSON
