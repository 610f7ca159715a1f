"""The facilitator role with a Solana fee payer: both networks behind one address, limits from the settings."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import httpx
import pytest
from tests.x402.svm.support import NETWORK, PRICE, Stage, presented

from agentnexus.bootstrap.ground import open_ground
from agentnexus.bootstrap.sponsors import open_sponsor, solana_limits
from agentnexus.core.errors import InvalidInput, NotAllowed, Unavailable
from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.markets.x402.facilitator_client import FacilitatorClient
from agentnexus.markets.x402.svm.pricing import fee_payer_of
from agentnexus.markets.x402.svm.settlements import Settlements
from agentnexus.platform.process import free_port, port_open, wait_until_ready
from agentnexus.platform.settings import Settings
from agentnexus.rails.solana.networks import NetworkKind
from agentnexus.rails.solana.signer import LocalSigner


@pytest.fixture
def facts(stage: Stage, database_url: str, tmp_path: Path) -> dict[str, str]:
    """Settings by name, as they come from the environment."""
    keypair = tmp_path / "sponsor.json"
    LocalSigner(bytes(stage.sponsor), NetworkKind.TESTNET).write_keypair_file(keypair)
    return {
        "home": str(tmp_path),
        "database_url": database_url,
        "solana_rpc_url": stage.chain.rpc_url,
        "solana_sponsor_keypair": str(keypair),
    }


async def test_the_role_settles_on_both_networks_behind_one_address(
    stage: Stage, facts: dict[str, str], chain: DevelopmentChain
) -> None:
    port = free_port()
    settings = {
        **facts,
        "evm_rpc_url": chain.rpc_url,
        "usdc_address": chain.usdc.reference,
        "relayer_key": chain.accounts["relayer"].private_key,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "DATABASE_URL"))}
    environment = inherited | {f"NEXUS_{name.upper()}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentnexus.cli", "facilitator", "--port", str(port), env=environment
    )
    try:
        await wait_until_ready(lambda: port_open("127.0.0.1", port), what="the facilitator", timeout_seconds=60)
        async with httpx.AsyncClient() as http:
            client = await FacilitatorClient.connect(f"http://127.0.0.1:{port}", http)
            networks = {kind.network for kind in client.get_supported().kinds}
            assert {NETWORK, "solana-devnet", chain.usdc.network} <= networks
            assert fee_payer_of(client.get_supported(), NETWORK) == str(stage.sponsor.pubkey())
            asked = stage.asked()
            payment = presented(asked, await stage.payload())
            assert (await client.verify(payment, asked)).is_valid
            settled = await client.settle_for(payment, asked, "claim-1")
            again = await client.settle_for(payment, asked, "claim-1")
    finally:
        process.terminate()
        await process.wait()
    assert settled.success
    assert again.transaction == settled.transaction
    assert await stage.paid() == PRICE


async def test_a_round_of_upkeep_ends_what_was_left_and_waits_for_a_node_that_is_away(
    stage: Stage, facts: dict[str, str]
) -> None:
    asked = stage.asked()
    payment = presented(asked, await stage.payload())
    async with (
        open_ground(Settings.model_validate(facts)) as ground,
        open_sponsor(ground, "127.0.0.1") as sponsor,
    ):
        assert (await sponsor.facilitator.settle_for(payment, asked, "claim-1")).success
        async with stage.database.connection() as connection:
            await connection.execute(
                "update x402svm.settlement set state = 'sending', updated_at = now() - interval '1 hour'"
            )
        await sponsor.keep()
        assert await Settlements(stage.database).left_behind(NETWORK, 0.0) == []
        async with stage.database.connection() as connection:
            await connection.execute("update x402svm.settlement set updated_at = now() - interval '8 days'")
        await sponsor.keep()
        async with stage.database.connection() as connection:
            assert await connection.fetchval("select count(*) from x402svm.settlement") == 0
    away = {**facts, "solana_rpc_url": "http://127.0.0.1:1"}
    async with open_ground(Settings.model_validate(away)) as ground, open_sponsor(ground, "127.0.0.1") as sponsor:
        with pytest.raises(Unavailable):
            await sponsor.facilitator.verify(payment, asked)
        await sponsor.keep()


async def test_a_fee_payer_must_be_configured_and_its_file_private(stage: Stage, facts: dict[str, str]) -> None:
    for name in ("solana_rpc_url", "solana_sponsor_keypair"):
        settings = Settings.model_validate({key: value for key, value in facts.items() if key != name})
        async with open_ground(settings) as ground:
            with pytest.raises(Unavailable, match="configured"):
                await open_sponsor(ground, "127.0.0.1").__aenter__()
    Path(facts["solana_sponsor_keypair"]).chmod(0o644)
    async with open_ground(Settings.model_validate(facts)) as ground:
        with pytest.raises(NotAllowed):
            await open_sponsor(ground, "127.0.0.1").__aenter__()


def test_only_the_local_economy_sponsors_everybody(facts: dict[str, str], stage: Stage) -> None:
    local = solana_limits(Settings.model_validate(facts), "127.0.0.1")
    assert (local.payees, local.minimum, local.gas_per_hour) == (None, 0, None)
    with pytest.raises(InvalidInput, match="whose payments"):
        solana_limits(Settings.model_validate(facts), "0.0.0.0")
    seller = str(stage.seller.pubkey())
    named = solana_limits(Settings.model_validate({**facts, "solana_sponsored_payees": f"{seller}, "}), "0.0.0.0")
    assert named.payees == {seller.lower()}
    assert named.minimum == 1000
    assert named.gas_per_payer_hour
    named.check(seller, 1000)
    with pytest.raises(InvalidInput):
        solana_limits(Settings.model_validate({**facts, "solana_sponsored_payees": "nobody"}), "0.0.0.0")
