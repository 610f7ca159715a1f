"""Our contracts on the configured chain, followed by the worker; and whose gas there we pay, decided by the API."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.upkeep import repeat
from agentnexus.core.errors import InvalidInput, NotFound, Unavailable
from agentnexus.ledger.books import Books
from agentnexus.platform.http import Check
from agentnexus.platform.settings import Environment
from agentnexus.rails.evm.contracts.abi import abi_of
from agentnexus.rails.evm.deployment import Manifest
from agentnexus.rails.evm.encoding import word_address
from agentnexus.rails.evm.indexer.events import Source, source
from agentnexus.rails.evm.indexer.indexer import Indexer
from agentnexus.rails.evm.indexer.store import IndexerStore, Scope
from agentnexus.rails.evm.paymaster.accounts import GasAccounts
from agentnexus.rails.evm.paymaster.policy import SELF, Rule, SponsorPolicy, TokenPrice, read_policies
from agentnexus.rails.evm.paymaster.routes import no_paymaster_routes, paymaster_routes
from agentnexus.rails.evm.paymaster.senders import implementation_of
from agentnexus.rails.evm.paymaster.service import Chain as GasChain
from agentnexus.rails.evm.paymaster.service import PaymasterService
from agentnexus.rails.evm.paymaster.settling import Settling, sources_of
from agentnexus.wallets.store import WalletStore

INDEXER = "contracts"
FOLLOWED = ("Escrow", "Entitlements")
KEEP_SECONDS = 5.0
LATE_SECONDS = 120.0
USDC_PER_COIN = 3_000_000_000  # what gas is sold for in the local economy: atomic USDC for a whole coin
PAID_USDC_MIN = "0.01"  # who has bought less than that is a newcomer: a run of a cheap agent


def load_contracts(ground: Ground) -> Manifest | None:
    """Where our contracts are on the configured chain; None where `nexus contracts deploy` has not been."""
    try:
        return Manifest.load(ground.settings.home, ground.settings.evm_chain_id)
    except NotFound:
        return None


def open_indexer(ground: Ground, chain: Chain, manifest: Manifest) -> Indexer:
    """All that happens at our contracts. Others may subscribe before it runs."""
    start = ground.settings.contracts_start_block
    if start is None and ground.settings.environment is Environment.LOCAL:
        start = 0
    sources: list[Source] = sources_of(manifest.address("Paymaster"), start)
    for name in FOLLOWED:
        abi = abi_of(name)
        events = [each.name for each in abi.events.values()]
        sources += [source(manifest.address(name), abi, event, start_block=start) for event in events]
    sender = chain.sender
    return Indexer(ground.database, sender.rpc, sender.network, sources, name=INDEXER, clock=ground.clock)


async def follow_contracts(ground: Ground, chain: Chain, books: Books, manifest: Manifest, indexer: Indexer) -> None:
    """For ever: index, charge sponsored operations, give back what expired."""
    sender = chain.sender
    accounts = GasAccounts(books, sender.network, manifest.address("Paymaster"))
    settling = Settling(ground.database, accounts, sender.rpc, indexer, clock=ground.clock, tokens=[chain.usdc])
    settling.follow()
    async with asyncio.TaskGroup() as group:
        group.create_task(indexer.run(), name="indexer")
        group.create_task(repeat("sponsored-operations", settling.keep, KEEP_SECONDS), name="sponsored-operations")


def contracts_checks(ground: Ground, manifest: Manifest | None) -> dict[str, Check]:
    """Whether a worker follows our contracts; nothing to check where there are none."""
    if manifest is None:
        return {}
    store = IndexerStore(ground.database, Scope(INDEXER, ground.settings.evm_network), "")
    began = ground.clock.now()  # a worker that starts with us has some time

    async def followed() -> None:
        try:
            status = await store.status()
            last, reasons = status.followed_at or began, [each.last_error for each in status.handlers if each.failures]
        except NotFound:
            last, reasons = began, []
        if reasons or (ground.clock.now() - max(last, began)).total_seconds() > LATE_SECONDS:
            raise Unavailable(
                "; ".join(reasons) or f"our contracts have not been read since {last}", next_step="see the worker's log"
            )

    return {"contracts": followed}


def gas_routes(service: PaymasterService | None) -> APIRouter:
    """The paymaster service, or what says that there is none."""
    return no_paymaster_routes() if service is None else paymaster_routes(service)


def open_paymaster(ground: Ground, chain: Chain, books: Books) -> PaymasterService | None:
    """None without contracts, and in production without policies: nobody pays for strangers by default.

    Raises `InvalidInput` for a key that the paymaster does not obey, or policies that cannot be read.
    """
    settings, manifest = ground.settings, load_contracts(ground)
    if manifest is None or (settings.paymaster_policies is None and settings.environment is not Environment.LOCAL):
        return None
    key = settings.paymaster_key or settings.relayer_key
    if key is None:
        return None
    signer = chain.signer(key, "paymaster_key")
    arguments = manifest.contracts["Paymaster"].arguments
    if arguments and word_address(arguments[:32]) != signer.public_id:
        raise InvalidInput(
            f"the paymaster obeys {word_address(arguments[:32])}, and the key is {signer.public_id}",
            next_step="set NEXUS_PAYMASTER_KEY to the policy signer's, or deploy a paymaster for this key",
            field="paymaster_key",
        )
    policies = (
        read_policies(settings.paymaster_policies)
        if settings.paymaster_policies is not None
        else market_policies(manifest, chain.usdc.reference)
    )
    paymaster, factory = manifest.address("Paymaster"), manifest.address("AccountFactory")
    where = GasChain(chain.sender.rpc, chain.sender.network, paymaster, signer, factory)
    wallets = WalletStore(ground.database, where.network.caip2)

    async def paid(user_id: str) -> bool:
        """By what left their wallet for purchases, less what came back."""
        wallet = await wallets.of_user(user_id)
        if wallet is None:
            return False
        spent = await books.balance(f"external:wallet:{where.network.caip2}:{wallet.address}", chain.usdc)
        return -spent.posted.atomic >= chain.usdc.parse(PAID_USDC_MIN).atomic

    return PaymasterService(ground.database, books, where, policies, clock=ground.clock, paid=paid)


def market_policies(manifest: Manifest, usdc: str) -> tuple[SponsorPolicy, ...]:
    """What the local economy pays for: making accounts, using them, buying, and sending USDC; or sells gas for."""
    escrow, factory = manifest.address("Escrow"), manifest.address("AccountFactory")
    paymaster = manifest.address("Paymaster")
    given = SponsorPolicy(
        id="market",
        title="Accounts, purchases and transfers of this market",
        rules=(
            Rule(contract=usdc, functions=("approve(address,uint256)",), to=(escrow, paymaster)),
            Rule(contract=usdc, functions=("transfer(address,uint256)",)),
            Rule(contract=escrow),
            Rule(contract=manifest.address("Entitlements")),
            Rule(contract=SELF),
        ),
        factories=(factory,),
        delegates=(implementation_of(factory),),
        per_operation="0.01",
        per_user_hour="0.05",
        per_user_day="0.2",
        per_day="5",
        newcomers_per_day="1",
    )
    sold = given.model_copy(
        update={
            "id": "market-in-usdc",
            "title": "The same, paid in USDC",
            "paid_in": TokenPrice(token=usdc, per_native=USDC_PER_COIN),
            "per_user_hour": "0.5",
            "per_user_day": "2",
        }
    )
    return given, sold
