"""HTTP of users' wallets: made, asked, sent from, signed for, and set; everything belongs to the caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from agentnexus.core.errors import InvalidInput, NexusError, NotFound, PaymentUnknown, Unavailable
from agentnexus.identity.caller import Caller, caller
from agentnexus.rails.evm.contracts.contract import Call
from agentnexus.rails.evm.contracts.sessions import Grant, Limit, Permission
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, address, from_hex, selector
from agentnexus.wallets.model import GasPayer, Operation, OperationState, PasskeyKey, Transfer, WalletKind
from agentnexus.wallets.service import CALLS_MAX, KEY_CHARACTERS_MAX, Wallets
from agentnexus.wallets.views import (
    SignatureBody,
    balances_json,
    history_json,
    operation_json,
    signing_json,
    wallet_json,
)

Who = Annotated[Caller, Depends(caller)]
Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=KEY_CHARACTERS_MAX)]
Text = Annotated[str, Field(max_length=100)]
_FUNCTION_CHARACTERS = 200
_U128 = 1 << 128


class KnownPasskey(Protocol):
    """A passkey that somebody registered."""

    @property
    def id(self) -> str:
        """base64url"""

    @property
    def public_key(self) -> bytes: ...


Passkeys = Callable[[str], Awaitable[Sequence[KnownPasskey]]]


class CreateBody(BaseModel):
    """`credential_id` of a registered passkey, or `address` of the owner's key, as the kind needs."""

    model_config = ConfigDict(extra="forbid")

    kind: WalletKind
    credential_id: str | None = Field(default=None, max_length=2_000)
    address: Text | None = None


class CallBody(BaseModel):
    """A transfer (`amount` of `asset`), or a call as it is (`value_wei`, `data`)."""

    model_config = ConfigDict(extra="forbid")

    to: Text
    amount: Text | None = None
    asset: Text = "USDC"
    value_wei: str | None = Field(default=None, pattern="^[0-9]{1,39}$")
    data: str | None = Field(default=None, max_length=65_536)

    def item(self) -> Transfer | Call:
        """Raises `InvalidInput`."""
        if self.amount is not None:
            if self.data is not None or self.value_wei is not None:
                raise InvalidInput(
                    "a call has an amount, or data and value_wei", field="calls", next_step="leave one of them out"
                )
            return Transfer(self.to, self.amount, self.asset)
        if self.data is None and self.value_wei is None:
            raise InvalidInput(
                "a call needs an amount, or data or value_wei", field="calls", next_step="say what is to be sent"
            )
        return Call(address(self.to, field="to"), from_hex(self.data or "0x", field="data"), int(self.value_wei or "0"))


class SendBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    calls: list[CallBody] = Field(min_length=1, max_length=CALLS_MAX)
    gas: GasPayer = GasPayer.SPONSOR


class ExportBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    confirm: bool = False


class SettingBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    gas: GasPayer = GasPayer.SPONSOR


class GuardianBody(SettingBody):
    """`guardian` null dismisses the one there is."""

    guardian: Text | None
    delay_seconds: int = Field(default=3 * 86_400, ge=0, le=2**47)


class PermissionBody(BaseModel):
    """One function, such as ``transfer(address,uint256)``, of one contract; "" is plain coin."""

    model_config = ConfigDict(extra="forbid")

    contract: Text
    function: str = Field(max_length=_FUNCTION_CHARACTERS, pattern=r"^([A-Za-z_$][A-Za-z0-9_$]*\([^ ]*\))?$")


class LimitBody(BaseModel):
    """The most it may spend in all, of USDC, the coin or a token."""

    model_config = ConfigDict(extra="forbid")

    asset: Text
    amount: Text


class SessionBody(SettingBody):
    """`key` may make these calls until then; `sponsored` lets the paymaster pay its gas."""

    key: Text
    valid_until: AwareDatetime
    permissions: list[PermissionBody] = Field(min_length=1, max_length=32)
    limits: list[LimitBody] = Field(default_factory=list, max_length=8)
    sponsored: bool = True


class AllowanceBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    amount: Text


def wallet_routes(wallets: Wallets, passkeys: Passkeys) -> APIRouter:
    """``/wallet`` below the prefix it is mounted at. `passkeys` are those a person has registered."""
    router = APIRouter(prefix="/wallet", tags=["wallet"])

    @router.post("", status_code=201)
    async def create(body: CreateBody, who: Who) -> dict[str, object]:
        """Make your account, without any coin; the same again is the same account."""
        chosen = await _passkey(passkeys, who.user_id, body.credential_id)
        made = await wallets.create(who.user_id, body.kind, passkey=chosen, address=body.address)
        return _data(wallet_json(made, await wallets.state(who.user_id)))

    @router.get("/account")
    async def account(who: Who) -> dict[str, object]:
        """Address, who signs, guardian, and a recovery that waits."""
        return _data(wallet_json(await wallets.of(who.user_id), await wallets.state(who.user_id)))

    @router.get("/balance")
    async def balance(who: Who) -> dict[str, object]:
        """What it holds, in tokens and dollars."""
        held = await wallets.balances(who.user_id)
        return _data(balances_json(held, (await wallets.of(who.user_id)).address))

    @router.get("/transactions")
    async def transactions(
        who: Who,
        before: Annotated[str, Query(max_length=200)] = "",
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> dict[str, object]:
        """What came in and went out, and own operations, newest first; `before` is the last answer's `next`."""
        page = await wallets.history(who.user_id, before, limit)
        return _data({"transactions": history_json(page.lines), "next": page.before or None, "complete": page.complete})

    @router.get("/gas")
    async def gas(who: Who) -> dict[str, object]:
        """Who pays for gas, by which rules, and what is left of it for you."""
        return _data(await wallets.gas_policy(who.user_id))

    _add_export(router, wallets)
    _add_operations(router, wallets)
    _add_settings(router, wallets)
    return router


def _add_export(router: APIRouter, wallets: Wallets) -> None:
    @router.post("/export")
    async def export(body: ExportBody, who: Who, response: Response) -> dict[str, object]:
        """The key of a wallet that this node signs for, for who has just signed in. Whoever has it has the wallet."""
        who.require_recent()
        if not body.confirm:
            raise InvalidInput(
                "whoever has the key has the wallet",
                field="confirm",
                next_step='send {"confirm": true} to get it, and keep it safe',
            )
        response.headers["Cache-Control"] = "no-store"
        key = await wallets.export(who.user_id)
        wallet = await wallets.of(who.user_id)
        return _data({"key": key, "owner": wallet.owner.key, "address": wallet.address})


def _add_operations(router: APIRouter, wallets: Wallets) -> None:
    @router.post("/user-operations", status_code=202)
    async def send(body: SendBody, who: Who, key: Key) -> dict[str, object]:
        """Transfers, or calls as they are: all happen, or none. What is to be signed is in `sign`."""
        items = [each.item() for each in body.calls]
        begun = await wallets.send(who.user_id, items, key=key, gas=body.gas)
        return await _answer(wallets, begun)

    @router.get("/user-operations/{operation_id}")
    async def show(operation_id: str, who: Who, wait: Annotated[float, Query(ge=0, le=30)] = 0) -> dict[str, object]:
        """How far it got; with `wait` after so many seconds at most, or as soon as the chain has it."""
        found = await wallets.operation(operation_id, who.user_id)
        if wait and found.state is OperationState.SIGNED:
            try:
                found = await wallets.settle(operation_id, timeout_seconds=wait)
            except PaymentUnknown:
                found = await wallets.operation(operation_id, who.user_id)
        return await _answer(wallets, found, lenient=True)

    @router.post("/user-operations/{operation_id}/signature")
    async def sign(operation_id: str, body: SignatureBody, who: Who) -> dict[str, object]:
        """Your signature over what `sign` asked for. A wrong one changes nothing."""
        return await _answer(wallets, await wallets.sign(who.user_id, operation_id, body.answer()))

    @router.delete("/user-operations/{operation_id}")
    async def discard(operation_id: str, who: Who) -> dict[str, object]:
        """Forget what waits for your signature: none is taken for it afterwards. What was signed is a conflict."""
        return _data({**operation_json(await wallets.discard(who.user_id, operation_id)), "sign": None})


def _add_settings(router: APIRouter, wallets: Wallets) -> None:
    @router.post("/guardian", status_code=202)
    async def guardian(body: GuardianBody, who: Who, key: Key) -> dict[str, object]:
        """Who may propose a new owner of your account; you have the delay to refuse."""
        await _require_owner(wallets, who)
        begun = await wallets.set_guardian(
            who.user_id, body.guardian or ZERO_ADDRESS, body.delay_seconds, key=key, gas=body.gas
        )
        return await _answer(wallets, begun)

    @router.post("/recovery/cancel", status_code=202)
    async def cancel(body: SettingBody, who: Who, key: Key) -> dict[str, object]:
        """Refuse new owners that your guardian proposed."""
        return await _answer(wallets, await wallets.cancel_recovery(who.user_id, key=key, gas=body.gas))

    @router.post("/sessions", status_code=202)
    async def grant(body: SessionBody, who: Who, key: Key) -> dict[str, object]:
        """Let a key act for your account within limits."""
        await _require_owner(wallets, who)
        begun = await wallets.grant_session(who.user_id, await _grant(wallets, body), key=key, gas=body.gas)
        return await _answer(wallets, begun)

    @router.delete("/sessions/{session_key}", status_code=202)
    async def revoke(session_key: str, who: Who, key: Key, gas: GasPayer = GasPayer.SPONSOR) -> dict[str, object]:
        """End what a key may do."""
        return await _answer(wallets, await wallets.revoke_session(who.user_id, session_key, key=key, gas=gas))

    @router.post("/gas", status_code=202)
    async def allow_gas(body: AllowanceBody, who: Who, key: Key) -> dict[str, object]:
        """Let the paymaster take up to so much USDC for gas that you pay with it (`gas: usdc`)."""
        return await _answer(wallets, await wallets.allow_gas(who.user_id, body.amount, key=key))


async def _require_owner(wallets: Wallets, who: Caller) -> None:
    """Who else may act for an account is its owner's to say: they sign, or have just signed in where this node does."""
    if (await wallets.of(who.user_id)).kind is WalletKind.SERVER:
        who.require_recent()


async def _grant(wallets: Wallets, body: SessionBody) -> Grant:
    """Raises `InvalidInput`."""
    permissions = [
        Permission(address(each.contract, field="contract"), selector(each.function) if each.function else bytes(4))
        for each in body.permissions
    ]
    if body.sponsored and wallets.paymaster is not None:
        permissions.append(Permission.paymaster(wallets.paymaster.chain.paymaster))
    limits = []
    for each in body.limits:
        money = await wallets.money(each.amount, each.asset)
        if money.atomic >= _U128:
            raise InvalidInput("the limit is more than a session can have", field="limits")
        token = ZERO_ADDRESS if money.asset == wallets.chain.network.native else money.asset.reference
        limits.append(Limit(money.atomic, token))
    return Grant(address(body.key, field="key"), int(body.valid_until.timestamp()), permissions, limits)


async def _passkey(passkeys: Passkeys, user_id: str, credential_id: str | None) -> PasskeyKey | None:
    """The caller's own passkey of that id."""
    if credential_id is None:
        return None
    for each in await passkeys(user_id):
        if each.id == credential_id.rstrip("="):
            return PasskeyKey(each.id, each.public_key)
    raise NotFound("you have no passkey of that id here", next_step="register it first, on the page /connect")


async def _answer(wallets: Wallets, operation: Operation, *, lenient: bool = False) -> dict[str, object]:
    """The operation, and what its owner is to sign. `lenient`: what cannot be built anew is only told."""
    request, error = None, operation.error
    if operation.state is OperationState.UNSIGNED:
        try:
            request = await wallets.signing_request(operation.user_id, operation.id)
            operation = await wallets.operation(operation.id)
        except NexusError as problem:
            if not lenient:
                raise
            error = problem.to_json()
    return _data({**operation_json(operation), "error": error, "sign": signing_json(request)})


def no_wallet_routes() -> APIRouter:
    """``/wallet/…`` of a node without contracts: every question is answered with what is missing."""
    router = APIRouter(prefix="/wallet", tags=["wallet"])

    async def not_kept() -> None:
        raise Unavailable(
            "this node has no contracts on its network, so it keeps no wallets",
            next_step="its operator runs nexus contracts deploy and restarts the node",
        )

    router.add_api_route("", not_kept, methods=["POST"], include_in_schema=False)
    router.add_api_route("/{path:path}", not_kept, methods=["GET", "POST", "DELETE"], include_in_schema=False)
    return router


def _data(value: dict[str, object]) -> dict[str, object]:
    return {"success": True, "data": value}
