"""Signed spending approvals: what they say, and the limits that they turn into. Pure, no I/O.

The vocabulary is that of AP2's open payment mandate (``vct``, ``cnf``, ``constraints[]`` of ``payment.*`` types);
limits that AP2 does not know are constraints of type ``agentnexus.limit``. What cannot be enforced here is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias, TypeVar

from pydantic import Field

from agentnexus.core.canonical import idempotency_key
from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import Asset, Money
from agentnexus.core.offers import Noun
from agentnexus.core.payments import Limits

CONSTRAINTS_MAX = 32
NAMES_MAX = 1000
WALLET = r"^(evm:0x[0-9a-f]{40}|ed25519:[0-9a-f]{64})$"
AP2_LIMITS = {"total": "payment.budget", "per_payment": "payment.amount_range"}
T = TypeVar("T")

ConstraintValue: TypeAlias = "str | tuple[str, ...]"
Constraint: TypeAlias = dict[str, ConstraintValue]


class Mandate(Noun):
    """An approval to spend.

    `jti` is the nonce: a wallet's approvals are told apart by it; `iss` is who signs (``evm:0x…`` or
    ``ed25519:<hex>``); `cnf` the node that may spend; `parent` the budget it is cut from ("": a tree of its own);
    `iat` and `exp` are Unix seconds. Each constraint is an object with ``type`` and text values; amounts are decimal
    text with ``currency`` as a CAIP-19 id.
    """

    vct: Literal["mandate.payment.open.1"] = "mandate.payment.open.1"
    jti: str = Field(min_length=1, max_length=200)
    iss: str = Field(pattern=WALLET)
    cnf: str = Field(min_length=1, max_length=200)
    parent: str = Field(default="", max_length=200)
    constraints: tuple[Constraint, ...] = Field(max_length=CONSTRAINTS_MAX)
    iat: int = Field(ge=0, lt=2**53)
    exp: int = Field(ge=0, lt=2**53)

    @property
    def grant_id(self) -> str:
        """Nobody else's approval can have it, whatever nonce he picks."""
        return "grant_" + idempotency_key("grant", self.iss, self.jti)[:32]

    @property
    def expires_at(self) -> datetime:
        try:
            return datetime.fromtimestamp(self.exp, UTC)
        except (ValueError, OverflowError) as error:
            raise InvalidInput("exp is not a time", field="exp", next_step="give Unix seconds") from error


class Revocation(Noun):
    """The wallet takes the approval with that nonce back. Anybody may deliver it, and it needs no other proof."""

    vct: Literal["agentnexus.revocation.1"] = "agentnexus.revocation.1"
    jti: str = Field(min_length=1, max_length=200)
    iss: str = Field(pattern=WALLET)


class WalletLink(Noun):
    """The wallet `iss` may approve spending of `owner` on the node `cnf`; `iat` (Unix seconds) dates the proof."""

    vct: Literal["agentnexus.wallet.1"] = "agentnexus.wallet.1"
    iss: str = Field(pattern=WALLET)
    owner: str = Field(min_length=1, max_length=200)
    cnf: str = Field(min_length=1, max_length=200)
    iat: int = Field(ge=0, lt=2**53)


@dataclass(frozen=True, slots=True)
class Permission:
    """What a mandate allows, in the ledger's own terms."""

    limits: Limits
    sellers: frozenset[str] | None
    capabilities: frozenset[str] | None


def constraints_of(permission: Permission, asset: Asset) -> tuple[Constraint, ...]:
    """The constraints that allow exactly this; `permission_of` reads them back."""
    found: list[Constraint] = []
    for name in Limits.model_fields:
        money: Money | None = getattr(permission.limits, name)
        if money is None:
            continue
        most = {"max": f"{money.decimal:f}", "currency": asset.caip19}
        kind = AP2_LIMITS.get(name)
        found.append({"type": kind, **most} if kind else {"type": "agentnexus.limit", "name": name, **most})
    for kind, names in (
        ("payment.allowed_payees", permission.sellers),
        ("agentnexus.allowed_capabilities", permission.capabilities),
    ):
        if names is not None:
            found.append({"type": kind, "allowed": tuple(sorted(names))})
    return tuple(found)


def permission_of(mandate: Mandate, asset: Asset) -> Permission:
    """Turn the constraints into limits in `asset`; raises `InvalidInput` for any unknown, doubled or unclear one."""
    limits: dict[str, Money] = {}
    names: dict[str, frozenset[str]] = {}
    for constraint in mandate.constraints:
        kind = constraint.get("type", "")
        match kind:
            case "payment.amount_range":
                _once(limits, "per_payment", _amount(constraint, asset, {"min"}))
                if constraint.get("min", "0") != "0":
                    raise _bad("payment.amount_range with a minimum cannot be enforced")
            case "payment.budget":
                _once(limits, "total", _amount(constraint, asset))
            case "agentnexus.limit":
                name = constraint.get("name")
                if not isinstance(name, str) or name not in Limits.model_fields:
                    raise _bad(f"there is no limit {name!r}")
                _once(limits, name, _amount(constraint, asset, {"name"}))
            case "payment.allowed_payees":
                _once(names, "sellers", _allowed(constraint))
            case "agentnexus.allowed_capabilities":
                _once(names, "capabilities", _allowed(constraint))
            case _:
                raise _bad(f"a constraint of type {kind!r} cannot be enforced here")
    return Permission(Limits(**limits), names.get("sellers"), names.get("capabilities"))


def _once(known: dict[str, T], name: str, value: T) -> None:
    if name in known:
        raise _bad(f"{name} is given twice")
    known[name] = value


def _amount(constraint: Constraint, asset: Asset, also: frozenset[str] | set[str] = frozenset()) -> Money:
    _only(constraint, {"max", "currency", *also})
    currency, most = constraint.get("currency"), constraint.get("max")
    if currency != asset.caip19 or not isinstance(most, str):
        raise _bad(f"{constraint.get('type')} needs max as text and currency {asset.caip19}")
    return asset.parse(most)


def _allowed(constraint: Constraint) -> frozenset[str]:
    _only(constraint, {"allowed"})
    allowed = constraint.get("allowed")
    if not isinstance(allowed, tuple) or len(allowed) > NAMES_MAX:
        raise _bad(f"{constraint.get('type')} needs a list of at most {NAMES_MAX} names")
    return frozenset(allowed)


def _only(constraint: Constraint, fields: set[str]) -> None:
    surplus = set(constraint) - fields - {"type"}
    if surplus:
        raise _bad(f"{constraint.get('type')} has unknown fields {sorted(surplus)}")


def _bad(message: str) -> InvalidInput:
    return InvalidInput(message, field="constraints", next_step="sign an approval with constraints the ledger enforces")
