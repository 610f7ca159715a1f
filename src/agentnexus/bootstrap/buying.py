"""The buying side of a node: markets, rails, books and hiring, wired together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from agentnexus.bootstrap.ground import USDC_WORTH, Chain, Ground, dollar
from agentnexus.core.errors import InvalidInput, Unavailable
from agentnexus.core.money import Asset, Parity
from agentnexus.core.ports import Market
from agentnexus.hiring.cache import OfferCache
from agentnexus.hiring.cashier import Wallet
from agentnexus.hiring.gather import Gatherer
from agentnexus.hiring.hire import Hiring
from agentnexus.hiring.model import Rates
from agentnexus.ledger.books import Books
from agentnexus.markets.catalogue.market import CatalogueMarket
from agentnexus.markets.x402.buy import X402Client
from agentnexus.markets.x402.discover import BazaarSource, OfferSource, RegistrySource
from agentnexus.markets.x402.following import Follower
from agentnexus.markets.x402.market import X402Market
from agentnexus.markets.x402.policy import PaymentPolicy
from agentnexus.markets.x402.rating import RegistryRater
from agentnexus.platform.cache import Cache
from agentnexus.platform.outbound import OutboundTransport
from agentnexus.platform.redis_level import RedisLevel
from agentnexus.platform.settings import Environment, Settings
from agentnexus.platform.signing import Ed25519Signer
from agentnexus.rails.evm.wallet import EvmRail

if TYPE_CHECKING:
    from agentnexus.bootstrap.solana_buying import SolanaBuyer

SELLER_SECONDS = 300.0
SILENCE_SECONDS = 45.0  # of a run that is listened to: three of the heartbeats that our sellers send
CONNECT_SECONDS = 5.0
CONNECTIONS_MAX = 100
SOLD_BELOW = "/x402/"
REGISTRY, BAZAAR, CATALOGUE = "registry", "bazaar", "catalogue"
SOURCES = (REGISTRY, BAZAAR, CATALOGUE)


@dataclass(frozen=True, slots=True)
class Buying:
    """What the faces and the workers need to buy.

    `solana` is None where no wallet there is configured, `rater` where no registry is; `parity` says which assets count
    one for one (decision 0011).
    """

    books: Books
    hiring: Hiring
    rail: EvmRail
    wallet: Wallet
    signer: Ed25519Signer
    http: httpx.AsyncClient
    offers: OfferCache
    parity: Parity
    solana: SolanaBuyer | None = None
    rater: RegistryRater | None = None


@asynccontextmanager
async def open_buying(ground: Ground, chain: Chain) -> AsyncIterator[Buying]:
    """Raises `Unavailable` or `InvalidInput` for what is not configured."""
    settings = ground.settings
    signer = Ed25519Signer.load_or_create(settings.home / "receipt-key.pem")
    rail = EvmRail(
        chain.sender,
        chain.signer(settings.buyer_key, "buyer_key"),
        relayer=chain.signer(settings.relayer_key, "relayer_key"),
    )
    wallet = Wallet(rail, rail.address, frozenset({rail.network.caip2}))
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                timeout=httpx.Timeout(SELLER_SECONDS, connect=CONNECT_SECONDS),
                limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
                follow_redirects=False,
            )
        )
        sellers = await stack.enter_async_context(_strangers(ground, SELLER_SECONDS))
        listening = await stack.enter_async_context(_strangers(ground, SILENCE_SECONDS))
        solana = await stack.enter_async_context(on_solana(ground))
        parity = Parity(chain.usdc, () if solana is None else (solana.usdc,), USDC_WORTH)
        wallets = {rail.name: wallet} | ({} if solana is None else {solana.rail.name: solana.wallet})
        books = await stack.enter_async_context(Books(ground.database, ground.clock, ground.ids, parity=parity))
        cache = Cache(second=RedisLevel.connect(settings.redis_url) if settings.redis_url else None)
        offers = OfferCache(cache)
        hiring = await stack.enter_async_context(
            Hiring(
                gatherer=Gatherer(markets(ground, parity.assets, http, sellers, listening), offers, clock=ground.clock),
                books=books,
                database=ground.database,
                wallets=wallets,
                signer=signer,
                rates=Rates(tuple(dollar(each, ground.clock) for each in parity.assets)),
                clock=ground.clock,
                ids=ground.ids,
                entropy=ground.entropy,
                parity=parity,
            )
        )
        yield Buying(books, hiring, rail, wallet, signer, http, offers, parity, solana, _rater(ground, chain, http))


@asynccontextmanager
async def on_solana(ground: Ground) -> AsyncIterator[SolanaBuyer | None]:
    """The node's wallet there, None where none is configured. Raises `Unavailable` when its libraries are missing."""
    if ground.settings.solana_buyer_keypair is None:
        yield None
        return
    try:
        from agentnexus.bootstrap.solana_buying import open_solana_buyer
    except ImportError as error:
        raise Unavailable(
            "the Solana parts are not installed", next_step="install them: uv sync --extra solana"
        ) from error
    async with open_solana_buyer(ground) as buyer:
        yield buyer


def markets(
    ground: Ground,
    payable: Sequence[Asset],
    http: httpx.AsyncClient,
    sellers: httpx.AsyncClient,
    listening: httpx.AsyncClient,
) -> list[Market]:
    """Every market this node buys on, in the order of trust of ``NEXUS_MARKETS``; registry and Bazaar are one market.

    Args:
        payable: what our wallets pay in; among equal prices of one offer the first is taken.
        http: asks the places that the operator configured.
        sellers: asks the addresses that offers name.
        listening: hears what those tell while they work; of its own, so that listeners take no purchase's connection.
    """
    settings, assets = ground.settings, {asset.caip19: asset for asset in payable}
    policy = PaymentPolicy(assets, allow_local_http=_is_local(ground), local_paths=_local_paths(settings))
    client = X402Client(sellers, policy, ground.clock)
    enabled = enabled_sources(settings.markets)
    kinds: dict[str, type[RegistrySource] | type[BazaarSource]] = {REGISTRY: RegistrySource, BAZAAR: BazaarSource}
    sources: list[OfferSource] = [
        kinds[name](settings.registry_url, http, ground.clock, assets)
        for name in enabled
        if name in kinds and settings.registry_url
    ]
    x402 = X402Market(
        client, sources, ground.clock, firm_quotes=settings.firm_quotes, follower=Follower(listening, policy)
    )
    found: dict[str, Market] = {}
    for name in enabled:
        if name in kinds:
            found.setdefault(x402.name, x402)
        elif settings.api_url:
            found[name] = CatalogueMarket(settings.api_url, http, x402, ground.clock, assets)
    return list(found.values())


def enabled_sources(text: str) -> tuple[str, ...]:
    """The names in ``NEXUS_MARKETS``, in order; raises `InvalidInput` for one that is not known, or for none."""
    names = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip().lower())))
    unknown = [name for name in names if name not in SOURCES]
    if unknown or not names:
        raise InvalidInput(
            f"{unknown[0]!r} is no place that offers are looked for" if unknown else "no place to look for offers",
            field="markets",
            next_step=f"set NEXUS_MARKETS to some of {', '.join(SOURCES)}, the most trusted first",
        )
    return names


def _rater(ground: Ground, chain: Chain, http: httpx.AsyncClient) -> RegistryRater | None:
    """The registry knows payments on the EVM chain, so that wallet rates."""
    if not ground.settings.registry_url:
        return None
    payer = chain.signer(ground.settings.buyer_key, "buyer_key")
    return RegistryRater(ground.settings.registry_url, http, [payer], ground.clock)


def _strangers(ground: Ground, seconds: float) -> httpx.AsyncClient:
    """Connections to addresses that offers name; `seconds` is how long each may be silent."""
    trusted = [urlsplit(ground.settings.api_url or "").hostname or ""]
    return httpx.AsyncClient(
        timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
        transport=OutboundTransport(allow_loopback=_is_local(ground), trusted=trusted, connections_max=CONNECTIONS_MAX),
        follow_redirects=False,
    )


def _is_local(ground: Ground) -> bool:
    return ground.settings.environment is Environment.LOCAL


def _local_paths(settings: Settings) -> dict[int, str | None]:
    """On this machine an offer may lead to our paid routes and to strangers' ports, never to our other parts."""
    paths: dict[int, str | None] = {}
    for url in (settings.registry_url, settings.facilitator_url, settings.evm_rpc_url, settings.solana_rpc_url):
        if url and (port := urlsplit(url).port):
            paths[port] = None
    if settings.api_url and (port := urlsplit(settings.api_url).port):
        paths[port] = SOLD_BELOW
    return paths
