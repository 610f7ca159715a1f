"""Workflows wired to hiring, books and the engine; the same in the API process and in the workers."""

from __future__ import annotations

from agentnexus.bootstrap.buying import Buying
from agentnexus.bootstrap.counting import CountedHiring
from agentnexus.bootstrap.granting import open_grants
from agentnexus.bootstrap.ground import Chain, Ground
from agentnexus.bootstrap.prepaid import prepaid_funds
from agentnexus.bootstrap.uploads import open_uploads
from agentnexus.core.ports import Blobs
from agentnexus.escrow.service import Escrow
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.workflows.engine.port import Engine
from agentnexus.workflows.funds import BudgetFunds
from agentnexus.workflows.planner.chats import ANTHROPIC_URL, open_chat
from agentnexus.workflows.planner.llm import LlmPlanner
from agentnexus.workflows.planner.offline import OfflinePlanner
from agentnexus.workflows.planner.port import Planner
from agentnexus.workflows.worker import WorkflowRoom, open_room


def open_workflows(
    ground: Ground, chain: Chain, buying: Buying, blobs: Blobs, engine: Engine, *, escrow: Escrow | None = None
) -> WorkflowRoom:
    """Each workflow's budget is a child of its owner's own; who has a prepaid account works from that as well."""
    personal = PersonalBudgets(buying.books, chain.usdc)
    hirer = CountedHiring(buying.hiring, buying.parity, ground.clock)

    async def root_budget(user_id: str) -> str:
        return (await personal.current(user_id)).id

    budget_funds = BudgetFunds(personal.current)
    funds = None if escrow is None else prepaid_funds(escrow, budget_funds, chain.usdc, ground.clock)
    return open_room(
        engine,
        hirer=hirer,
        fee=hirer.fee,
        budgets=buying.books.budgets,
        blobs=blobs,
        clock=ground.clock,
        planners=planners(ground),
        root_budget=root_budget,
        database=ground.database,
        approval_funds=funds or budget_funds,
        funds=funds,
        approvals=open_grants(ground, chain, buying),
        uploads=open_uploads(ground),
    )


def planners(ground: Ground) -> list[Planner]:
    """A language model plans where one is configured; the offline planner answers when it does not."""
    settings = ground.settings
    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else ""
    known = ANTHROPIC_URL if settings.llm_protocol == "anthropic" and key else None
    base_url = settings.llm_base_url or known
    if base_url is None:
        return [OfflinePlanner()]
    chat = open_chat(settings.llm_protocol, base_url, settings.llm_model, key)
    return [LlmPlanner(chat, settings.llm_model), OfflinePlanner()]
