"""The wallet's pages over sample data: of every kind, before one is made, and where the node keeps none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from agentnexus.core.errors import NotFound
from agentnexus.web.adapters.undeployed import NoWallets
from agentnexus.web.qr import qr_svg
from agentnexus.web.views.runs import Problem
from agentnexus.web.views.signing import Signed, SigningView
from agentnexus.web.views.wallet import (
    KINDS,
    GasView,
    MovementView,
    OperationView,
    OwnWallet,
    PasskeyChoice,
    SendTyped,
    TokenView,
    WalletPage,
    operation_state,
)

NOW = datetime(2026, 11, 21, 9, 41, tzinfo=UTC)
ADDRESS = "0x52908400098527886e0f7030069857d2e4169ee7"
FRIEND = "0x8617e340b3d01fa5f11f306f4090fd50e238070d"
OWNER = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
TRANSACTION = "0x" + "9b" * 32
SECRET = "0x" + "4c" * 32
HASH = "0x" + "ab" * 32
CHALLENGE = "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s"
CREDENTIAL = "Y3JlZGVudGlhbC1vZi1hLXBhc3NrZXk"
FAUCET = f"nexus wallet top-up 5 --to {ADDRESS}"
HOSTILE = '<script>alert("wallet")</script>'
TYPED_DATA = '{"domain":{"name":"ERC4337","version":"1","chainId":31337},"primaryType":"PackedUserOperation"}'
GAS = GasView(
    "paid by AgentNexus (0.19 ETH left today)",
    [("Accounts, purchases and transfers of this market", ["at most 0.01 ETH for one operation"])],
    [("sponsor", "AgentNexus pays"), ("usdc", "The wallet pays, in USDC"), ("account", "The wallet pays, in ETH")],
    sold=True,
)


def wallet(kind: str = "server") -> OwnWallet:
    label, text = KINDS[kind]
    owner = OWNER if kind == "key" else ""
    return OwnWallet(
        ADDRESS, "local chain (eip155:31337)", kind, label, text, NOW - timedelta(days=2), qr_svg(ADDRESS), owner=owner
    )


def movements() -> list[MovementView]:
    def line(hours: int, label: str, amount: str, other: str, state: str = "succeeded", link: str = "") -> MovementView:
        at = NOW - timedelta(hours=hours)
        known = TRANSACTION if state == "succeeded" else ""
        return MovementView(
            label, amount, amount.startswith("+"), other, known, "", operation_state(state), at, link=link
        )

    return [
        line(0, "Send 1 USDC", "-1 USDC", FRIEND, "unsigned", "/wallet/operations/op_unsigned"),
        line(1, "Buy 5 runs of PDF extractor", "-0.1 USDC", "", "succeeded", "/wallet/operations/op_succeeded"),
        line(2, "Send 3 USDC", "", "", "discarded", "/wallet/operations/op_discarded"),
        line(3, "Received", "+25 USDC", FRIEND),
    ]


def page(kind: str = "server") -> WalletPage:
    return WalletPage(
        wallet=wallet(kind), total="24.90 USD", gas=GAS,
        tokens=[TokenView("USDC", "24.9", "24.90 USD"), TokenView("ETH", "0.0005")], history=movements(), older="more",
    )  # fmt: skip


def operation(state: str, kind: str = "passkey") -> OperationView:
    identifier = f"op_{state}"
    sign = None
    if state == "unsigned":
        action = f"/wallet/operations/{identifier}/signature"
        key = kind != "passkey"
        sign = SigningView(
            action, kind, CHALLENGE, HASH, CREDENTIAL, OWNER if key else "", TYPED_DATA if key else "",
            '{"chainId":31337}' if kind == "delegated" else "", f"nexus wallet sign {identifier} --key-file FILE",
        )  # fmt: skip
    sent = state in ("succeeded", "failed")
    problem = None
    if state == "failed":
        problem = Problem("Its calls failed on the chain: nothing of them happened.", "Look at the amount.", "conflict")
    if state == "discarded":
        problem = Problem("You discarded it.", "Nothing happened: begin it again.", "payment_failed")
    if state == "rejected":
        problem = Problem("AgentNexus does not pay for this.", "Pay for the gas in USDC.", "not_allowed")
    return OperationView(
        identifier, "Send 1 USDC", operation_state(state), state not in ("unsigned", "signed"), "AgentNexus",
        NOW - timedelta(minutes=1), TRANSACTION if sent else "", "", "0.00012 ETH" if sent else "", problem, sign,
    )  # fmt: skip


@dataclass
class PreviewWallet:
    """Keeps what was asked of it. `refuse` is raised by everything that changes something."""

    shown: WalletPage = field(default_factory=page)
    operations: dict[str, OperationView] = field(default_factory=dict)
    made: list[tuple[str, str, str]] = field(default_factory=list)
    sent: list[SendTyped] = field(default_factory=list)
    guardians: list[tuple[str, str, str]] = field(default_factory=list)
    allowed: list[tuple[str, str]] = field(default_factory=list)
    refused_recovery: list[str] = field(default_factory=list)
    signed: list[Signed] = field(default_factory=list)
    exported: int = 0
    refuse: Exception | None = None
    asked_before: str = ""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        for state in ("unsigned", "signed", "succeeded", "failed", "rejected", "discarded"):
            self.operations[f"op_{state}"] = operation(state)
        self.operations["op_key"] = replace(operation("unsigned", "key"), id="op_key")
        self.operations["op_delegated"] = replace(operation("unsigned", "delegated"), id="op_delegated")

    def before_making(self, *passkeys: PasskeyChoice) -> None:
        self.shown = WalletPage(gas=GAS, passkeys=passkeys)

    async def not_kept(self) -> None:
        self.shown = await NoWallets().page("local")

    async def page(self, user_id: str, before: str = "") -> WalletPage:
        self.asked_before = before
        return self.shown

    async def create(self, user_id: str, kind: str, *, credential_id: str = "", address: str = "") -> None:
        self._may()
        self.made.append((kind, credential_id, address))
        self.shown = replace(page(kind), history=(), tokens=(), total="0.00 USD", faucet=FAUCET, older="")

    async def send(self, user_id: str, typed: SendTyped) -> str:
        self._may()
        self.sent.append(typed)
        return "op_signed"

    async def signed_here(self, user_id: str) -> bool:
        return self.shown.wallet is not None and self.shown.wallet.kind == "server"

    async def set_guardian(self, user_id: str, guardian: str, days: str, key: str) -> str:
        self._may()
        self.guardians.append((guardian, days, key))
        return "op_unsigned"

    async def allow_gas(self, user_id: str, amount: str, key: str) -> str:
        self._may()
        self.allowed.append((amount, key))
        return "op_unsigned"

    async def cancel_recovery(self, user_id: str, key: str) -> str:
        self._may()
        self.refused_recovery.append(key)
        return "op_unsigned"

    async def operation(self, user_id: str, operation_id: str) -> OperationView:
        if operation_id not in self.operations:
            raise NotFound("there is no operation with that id", next_step="look for it on the wallet's page")
        return self.operations[operation_id]

    async def follow(self, user_id: str, operation_id: str) -> AsyncIterator[OperationView]:
        while True:
            view = await self.operation(user_id, operation_id)
            yield view
            if view.final:
                return
            async with self.changed:
                await self.changed.wait_for(lambda old=view: self.operations[operation_id] != old)

    async def advance(self, operation_id: str, view: OperationView) -> None:
        async with self.changed:
            self.operations[operation_id] = replace(view, id=operation_id)
            self.changed.notify_all()

    async def sign(self, user_id: str, operation_id: str, signed: Signed) -> None:
        self._may()
        self.signed.append(signed)
        await self.advance(operation_id, operation("signed"))

    async def discard(self, user_id: str, operation_id: str) -> None:
        self._may()
        await self.advance(operation_id, replace(operation("discarded"), id=operation_id))

    async def export(self, user_id: str) -> str:
        self._may()
        self.exported += 1
        return SECRET

    def _may(self) -> None:
        if self.refuse:
            raise self.refuse
