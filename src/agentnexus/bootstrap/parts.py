"""What the API process is put together from: the opened parts, and who comes in by which rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from agentnexus.bootstrap.buying import Buying
from agentnexus.bootstrap.granting import open_grants
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.purchasing import Purchasing
from agentnexus.bootstrap.selling import Selling
from agentnexus.bootstrap.signing_in import SigningIn, open_signing_in
from agentnexus.escrow.service import Escrow
from agentnexus.identity.caller import Callers
from agentnexus.identity.limits import Limiter
from agentnexus.identity.tokens import Tokens
from agentnexus.ledger.economics import Economics
from agentnexus.ledger.grants import Grants
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.platform.settings import Environment
from agentnexus.wallets.service import Wallets
from agentnexus.workflows.desk import Desk
from agentnexus.workflows.worker import WorkflowRoom


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that was opened. `escrow`, `wallets`, `purchasing`: None where they are not configured."""

    ground: Ground
    chain: Chain
    buying: Buying
    selling: Selling
    room: WorkflowRoom
    desk: Desk
    escrow: Escrow | None = None
    wallets: Wallets | None = None
    purchasing: Purchasing | None = None

    @property
    def api_url(self) -> str:
        return self.ground.settings.api_url or ""


@dataclass(frozen=True, slots=True)
class Reception:
    """Callers and what is theirs; the same for programs and pages."""

    tokens: Tokens
    callers: Callers
    limiter: Limiter
    signing_in: SigningIn
    budgets: PersonalBudgets
    grants: Grants
    economics: Economics

    @classmethod
    def of(cls, parts: Parts) -> Self:
        ground, chain, buying, settings = parts.ground, parts.chain, parts.buying, parts.ground.settings
        local_user = settings.local_user if settings.environment is Environment.LOCAL else None
        tokens = Tokens(ground.database, ground.entropy)
        callers = Callers(tokens, local_user=local_user)
        limiter = Limiter(ground.database, per_minute=settings.requests_per_minute)
        return cls(
            tokens=tokens,
            callers=callers,
            limiter=limiter,
            signing_in=open_signing_in(ground, chain, callers, tokens, limiter),
            budgets=PersonalBudgets(buying.books, chain.usdc),
            grants=open_grants(ground, chain, buying),
            economics=Economics(ground.database, chain.usdc, buying.parity),
        )
