"""Things that happened, ordered per subject without gaps, and the names they may have."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class EventName(StrEnum):
    """Every event name in one place; the table in ``docs/events.md`` is made from it."""

    WORKFLOW_PLANNING = "workflow.planning"
    WORKFLOW_PLAN_READY = "workflow.plan_ready"
    WORKFLOW_AWAITING_APPROVAL = "workflow.awaiting_approval"
    WORKFLOW_APPROVED = "workflow.approved"
    WORKFLOW_EXECUTING = "workflow.executing"
    WORKFLOW_ROLLING_BACK = "workflow.rolling_back"
    WORKFLOW_COMPLETED = "workflow.completed"
    WORKFLOW_FAILED = "workflow.failed"
    WORKFLOW_CANCELLED = "workflow.cancelled"
    STEP_STARTED = "step.started"
    STEP_PROGRESS = "step.progress"
    STEP_COMPLETED = "step.completed"
    STEP_FAILED = "step.failed"
    STEP_RETRYING = "step.retrying"
    STEP_SKIPPED = "step.skipped"
    STEP_COMPENSATED = "step.compensated"
    PAYMENT_RESERVED = "payment.reserved"
    PAYMENT_SETTLED = "payment.settled"
    PAYMENT_REFUNDED = "payment.refunded"
    EXECUTION_STARTED = "execution.started"
    EXECUTION_LOG = "execution.log"
    EXECUTION_PROGRESS = "execution.progress"
    EXECUTION_ARTIFACT = "execution.artifact"
    EXECUTION_COMPLETED = "execution.completed"
    EXECUTION_FAILED = "execution.failed"
    PURCHASE_INITIATED = "purchase.initiated"
    PURCHASE_VALIDATING = "purchase.validating"
    PURCHASE_PROCESSING = "purchase.processing"
    PURCHASE_PROGRESS = "purchase.progress"
    PURCHASE_COMPLETED = "purchase.completed"
    PURCHASE_FAILED = "purchase.failed"
    PURCHASE_REFUNDED = "purchase.refunded"
    DISCOVERY_CACHE_HIT = "discovery.cache_hit"
    LEDGER_DIFFERENCE = "ledger.difference"
    LISTING_CHANGED = "listing.changed"


class Event(BaseModel):
    """One thing that happened to `subject` (a workflow, an execution, …)."""

    model_config = ConfigDict(frozen=True)

    name: EventName
    subject: str
    sequence: int = Field(ge=1)
    at: datetime
    data: dict[str, object] = Field(default_factory=dict)
