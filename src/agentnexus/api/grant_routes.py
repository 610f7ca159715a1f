"""Session approvals over HTTP: draft one, let a wallet sign it, list, see its uses, take it back; and the wallets."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from agentnexus.api.wallet_forms import signature_text, wallet_id
from agentnexus.core.payments import Limits
from agentnexus.core.ports import Ids
from agentnexus.identity.caller import Caller, caller
from agentnexus.ledger.grants import USES_MAX, Grants, revocation_of
from agentnexus.ledger.mandates import Mandate, Permission, WalletLink
from agentnexus.ledger.model import Reservation
from agentnexus.ledger.personal import PersonalBudgets
from agentnexus.ledger.wallet_signatures import to_sign

Who = Annotated[Caller, Depends(caller)]
DAY_SECONDS = 86_400


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class DraftBody(Body):
    """What to allow; amounts are decimal text. Without `capabilities` or `sellers` any may be paid."""

    wallet: str = Field(max_length=200, description="an EVM or Solana address")
    total: str = Field(max_length=100)
    per_payment: str | None = Field(default=None, max_length=100)
    per_hour: str | None = Field(default=None, max_length=100)
    per_day: str | None = Field(default=None, max_length=100)
    capabilities: list[str] | None = Field(default=None, max_length=1000)
    sellers: list[str] | None = Field(default=None, max_length=1000)
    lasts_seconds: int = Field(default=DAY_SECONDS, ge=60, le=366 * DAY_SECONDS)


class SignedBody(Body):
    mandate: Mandate
    signature: str = Field(max_length=20_000)


class RevocationBody(Body):
    signature: str = Field(max_length=20_000)


class ProofBody(Body):
    wallet: str = Field(max_length=200)


class LinkBody(Body):
    """`by` and `by_signature`: a linked wallet over the same proof with its own name as ``iss``; not for the first."""

    proof: WalletLink
    signature: str = Field(max_length=20_000)
    by: str = Field(default="", max_length=200)
    by_signature: str = Field(default="", max_length=20_000)


def grant_routes(grants: Grants, budgets: PersonalBudgets, ids: Ids) -> APIRouter:
    """``/grants`` and ``/wallets`` below the prefix it is mounted at."""
    router = APIRouter(tags=["session approvals"])
    _add_grants(router, grants, budgets, ids)
    _add_revocations(router, grants)
    _add_wallets(router, grants)
    return router


def _add_grants(router: APIRouter, grants: Grants, budgets: PersonalBudgets, ids: Ids) -> None:
    @router.post("/grants/draft")
    async def draft(who: Who, body: DraftBody) -> dict[str, object]:
        """The mandate, and what the wallet has to sign for it (EIP-712 or a message); nothing is kept."""
        amounts = {
            name: None if (text := getattr(body, name)) is None else grants.asset.parse(text)
            for name in ("total", "per_payment", "per_hour", "per_day")
        }
        permission = Permission(Limits(**amounts), _names(body.sellers), _names(body.capabilities))
        parent = (await budgets.current(who.user_id)).id
        mandate = grants.draft(wallet_id(body.wallet), parent, permission, body.lasts_seconds, ids.new("session"))
        return _data(
            {
                "id": mandate.grant_id,
                "mandate": mandate.model_dump(mode="json"),
                "network": grants.asset.network,
                "sign": to_sign(mandate, grants.asset.network),
            }
        )

    @router.post("/grants", status_code=201)
    async def approve(who: Who, body: SignedBody) -> dict[str, object]:
        """Take a signed mandate; the same one again changes nothing."""
        signature = signature_text(body.mandate.iss, body.signature)
        status = await grants.approve(body.mandate, signature, owner=who.user_id)
        return _data((await grants.get(status.id)).to_json(status))

    @router.get("/grants")
    async def list_grants(who: Who) -> dict[str, object]:
        """Yours, newest first, with what is left of each."""
        return _data([grant.to_json(status) for grant, status in await grants.list(who.user_id)])

    @router.get("/grants/{grant_id}")
    async def show(who: Who, grant_id: str) -> dict[str, object]:
        """One of them, with what its wallet would sign to take it back."""
        grant = await grants.get(grant_id, who.user_id)
        shown = grant.to_json(await grants.status(grant_id))
        return _data({**shown, "to_revoke": to_sign(revocation_of(grant.mandate), grants.asset.network)})

    @router.get("/grants/{grant_id}/uses")
    async def uses(who: Who, grant_id: str, limit: Annotated[int, Query(ge=1, le=USES_MAX)] = 100) -> dict[str, object]:
        """Every payment that it allowed, newest first."""
        await grants.get(grant_id, who.user_id)
        return _data([use_json(use) for use in await grants.uses(grant_id, limit)])


def _add_revocations(router: APIRouter, grants: Grants) -> None:
    @router.post("/grants/{grant_id}/revoke")
    async def revoke(who: Who, grant_id: str) -> dict[str, object]:
        """From now on nothing is reserved under it."""
        status = await grants.revoke(grant_id, who.user_id)
        return _data((await grants.get(grant_id)).to_json(status))

    @router.post("/grants/{grant_id}/revocation")
    async def revoke_signed(request: Request, grant_id: str, body: RevocationBody) -> dict[str, object]:
        """The same by the wallet's own signature: whoever brings it needs no token."""
        await request.app.state.limiter.take(f"revocation:{request.client.host if request.client else ''}")
        wallet = (await grants.get(grant_id)).mandate.iss
        status = await grants.revoke_signed(grant_id, signature_text(wallet, body.signature))
        return _data({"id": status.id, "state": "revoked"})


def _add_wallets(router: APIRouter, grants: Grants) -> None:
    @router.get("/wallets")
    async def wallets(who: Who) -> dict[str, object]:
        """The wallets that may approve your spending."""
        return _data([each.to_json() for each in await grants.approvers.of(who.user_id)])

    @router.post("/wallets/proof")
    async def proof(who: Who, body: ProofBody) -> dict[str, object]:
        """What a wallet has to sign to be linked, within ten minutes."""
        made = grants.approvers.proof(who.user_id, wallet_id(body.wallet))
        return _data(
            {
                "proof": made.model_dump(mode="json"),
                "network": grants.asset.network,
                "sign": to_sign(made, grants.asset.network),
            }
        )

    @router.post("/wallets", status_code=201)
    async def link(who: Who, body: LinkBody) -> dict[str, object]:
        """Let a wallet approve your spending."""
        who.require_owner(body.proof.owner, "user")
        voucher = wallet_id(body.by) if body.by else ""
        vouching = (voucher, signature_text(voucher, body.by_signature)) if voucher else None
        signature = signature_text(body.proof.iss, body.signature)
        return _data((await grants.approvers.link(body.proof, signature, vouching=vouching)).to_json())

    @router.delete("/wallets/{wallet}")
    async def unlink(who: Who, wallet: str) -> dict[str, object]:
        """It approves nothing any more, and what it approved is taken back."""
        dropped = await grants.drop_wallet(who.user_id, wallet_id(wallet))
        return _data({"wallet": wallet_id(wallet), "revoked": list(dropped)})


def use_json(use: Reservation) -> dict[str, object]:
    """A payment under a grant; `workflow` is the task that it was for, if it was for one."""
    _, _, workflow = (use.terms.budget_id or "").partition("workflow:")
    return {
        "key": use.key,
        "at": use.created_at.isoformat(),
        "state": use.state.value,
        "reserved": use.terms.amount.to_json(),
        "paid": use.captured_money.to_json(),
        "seller": use.terms.seller,
        "capability": use.terms.capability,
        "workflow": workflow or None,
    }


def _names(names: Collection[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _data(value: object) -> dict[str, object]:
    return {"success": True, "data": value}
