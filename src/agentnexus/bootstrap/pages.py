"""The doors of the pages, each over the part that it leads to."""

from __future__ import annotations

from agentnexus.bootstrap.desks import webhook_trial
from agentnexus.bootstrap.parts import Parts, Reception
from agentnexus.identity.limits import Limiter
from agentnexus.identity.passkeys import PasskeyLogin
from agentnexus.ledger.outlook import Outlook
from agentnexus.platform.settings import Environment
from agentnexus.web.adapters.house import VIEWS_PER_MINUTE, house_doors
from agentnexus.web.adapters.money import HouseMoney
from agentnexus.web.adapters.prepaid import HousePrepaid, NoPrepaid
from agentnexus.web.adapters.purchases import HousePurchases
from agentnexus.web.adapters.saved import HouseSaved
from agentnexus.web.adapters.schedules import HouseSchedules
from agentnexus.web.adapters.undeployed import NoPurchases, NoWallets
from agentnexus.web.adapters.wallet import HouseWallet
from agentnexus.web.adapters.webhooks import HouseWebhooks
from agentnexus.web.doors import Doors, PurchasesDoor, WalletDoor


def open_doors(parts: Parts, reception: Reception) -> Doors:
    """All of them."""
    ground, asset, desk, workflows = parts.ground, parts.chain.usdc, parts.desk, parts.room.workflows
    wallet, purchases = _own_money(parts, reception.signing_in.passkeys)
    return house_doors(
        workflows=workflows,
        listings=parts.selling.listings,
        hiring=parts.buying.hiring,
        money=HouseMoney(
            reception.budgets,
            reception.economics,
            reception.grants,
            outlook=Outlook(ground.database, ground.clock),
            clock=ground.clock,
            ids=ground.ids,
        ),
        prepaid=NoPrepaid() if parts.escrow is None else HousePrepaid(parts.escrow),
        wallet=wallet,
        purchases=purchases,
        saved=HouseSaved(desk.templates, workflows),
        schedules=HouseSchedules(desk.schedules, desk.templates, workflows, asset),
        webhooks=HouseWebhooks(desk.webhooks, webhook_trial(ground, parts.buying)),
        sign_in=reception.signing_in.page_door(),
        callers=reception.callers,
        asset=asset,
        api_url=parts.api_url,
        limiter=reception.limiter,
        views=Limiter(ground.database, per_minute=VIEWS_PER_MINUTE),
    )


def _own_money(parts: Parts, passkeys: PasskeyLogin) -> tuple[WalletDoor, PurchasesDoor]:
    """People's own wallets, and what they buy with them."""
    if parts.wallets is None:
        return NoWallets(), NoPurchases()
    play_money = parts.ground.settings.environment is Environment.LOCAL
    own = HouseWallet(parts.wallets, passkeys.of, play_money=play_money)
    if parts.purchasing is None:
        return own, NoPurchases()
    return own, HousePurchases(parts.purchasing.purchases, parts.purchasing.entitlements, own)
