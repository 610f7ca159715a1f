"""Money as an integer of an asset's smallest unit, and rates to compare assets in USD.

Nothing in this module is a float: a `Money` is `atomic` units of one `Asset`, mixing assets
is an error, and decimals appear only when a person reads or types an amount.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from typing import Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from agentnexus.core.errors import InvalidInput

# Python's default of 28 digits would round large token amounts.
EXACT = Context(prec=200)
# What people and programs type; the bounds keep a short text from becoming a number of a billion digits.
AMOUNT = re.compile(r"\s*[+-]?(?:[0-9]{1,78}(?:\.[0-9]{0,78})?|\.[0-9]{1,78})(?:[eE][+-]?[0-9]{1,2})?\s*", re.ASCII)
ATOMIC_MAX = 10**78 - 1
CAIP19 = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}/[-a-z0-9]{3,8}:[-.%a-zA-Z0-9]{1,128}")


def spelled(amount: Decimal, decimals: int = 2) -> str:
    """An amount for people, everywhere: ``5.00``, ``0.02``, ``0.0125``; two places at least, where there are two."""
    whole, _, part = f"{amount:f}".partition(".")
    part = part.rstrip("0").ljust(min(2, decimals), "0")
    return f"{whole}.{part}" if part else whole


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset on one network.

    Args:
        symbol: for people, e.g. ``USDC``; two assets may share one.
        decimals: digits after the point in a whole unit (USDC 6, sats 0, ETH 18).
        caip19: the identity, e.g. ``eip155:8453/erc20:0x8335…`` (CAIP-19, lower-case address).
    """

    symbol: str
    decimals: int
    caip19: str

    def __post_init__(self) -> None:
        if not CAIP19.fullmatch(self.caip19):
            raise InvalidInput(f"not a CAIP-19 asset id: {self.caip19!r}", field="asset")
        if not 0 <= self.decimals <= 36:
            raise InvalidInput(f"decimals of {self.symbol} out of range: {self.decimals}", field="decimals")

    @property
    def network(self) -> str:
        """CAIP-2 network, e.g. ``eip155:31337``."""
        return self.caip19.partition("/")[0]

    @property
    def reference(self) -> str:
        """What names the asset on its network, e.g. a token's contract address."""
        return self.caip19.rpartition(":")[2]

    def zero(self) -> Money:
        return Money(self, 0)

    def parse(self, amount: str) -> Money:
        """Money from a decimal text such as ``0.05``; more digits than the asset has is an error."""
        if not AMOUNT.fullmatch(amount):
            raise InvalidInput(
                f"not an amount of {self.symbol}: {amount[:100]!r}", field="amount", next_step="write it as 2.50"
            )
        scaled = Decimal(amount).scaleb(self.decimals, EXACT)
        if scaled.copy_abs() > ATOMIC_MAX:  # abs() would round to 28 digits
            raise InvalidInput(
                f"{amount[:100]!r} is more than any amount of {self.symbol}", field="amount", next_step="give less"
            )
        if scaled != scaled.to_integral_value(context=EXACT):
            raise InvalidInput(
                f"{amount[:100]!r} has more digits than {self.symbol} carries",
                field="amount",
                next_step=f"give at most {self.decimals} after the point",
            )
        return Money(self, int(scaled))


@dataclass(frozen=True, slots=True)
class Money:
    """`atomic` smallest units of `asset`. Arithmetic only within one asset.

    JSON form: ``{"asset": caip19, "symbol": "USDC", "decimals": 6, "atomic": "50000"}``; the
    integer travels as text because RFC 8785 numbers stop at 2**53.
    """

    asset: Asset
    atomic: int

    def __post_init__(self) -> None:
        if type(self.atomic) is not int:
            raise TypeError(f"money is counted in integers, not {type(self.atomic).__name__}")

    def _same(self, other: Money) -> int:
        if other.asset.caip19 != self.asset.caip19:
            raise TypeError(f"cannot mix {self.asset.caip19} with {other.asset.caip19}")
        return other.atomic

    def __add__(self, other: Money) -> Money:
        return Money(self.asset, self.atomic + self._same(other))

    def __sub__(self, other: Money) -> Money:
        return Money(self.asset, self.atomic - self._same(other))

    def __mul__(self, times: int) -> Money:
        return Money(self.asset, self.atomic * times)

    def __neg__(self) -> Money:
        return Money(self.asset, -self.atomic)

    def __lt__(self, other: Money) -> bool:
        return self.atomic < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.atomic <= self._same(other)

    def __gt__(self, other: Money) -> bool:
        return self.atomic > self._same(other)

    def __ge__(self, other: Money) -> bool:
        return self.atomic >= self._same(other)

    def __bool__(self) -> bool:
        return self.atomic != 0

    @property
    def decimal(self) -> Decimal:
        """Whole units as a Decimal, for showing and for rates."""
        return Decimal(self.atomic).scaleb(-self.asset.decimals, EXACT)

    def __str__(self) -> str:
        return f"{spelled(self.decimal, self.asset.decimals)} {self.asset.symbol}"

    def to_json(self) -> dict[str, str | int]:
        return {
            "asset": self.asset.caip19,
            "symbol": self.asset.symbol,
            "decimals": self.asset.decimals,
            "atomic": str(self.atomic),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form back; raises `ValueError` (so pydantic names the field) on anything else."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise ValueError("money must be an object {asset, symbol, decimals, atomic}")
        try:
            symbol, decimals, caip19, atomic = (value[name] for name in ("symbol", "decimals", "asset", "atomic"))
        except KeyError as error:
            raise ValueError(f"money lacks {error}") from error
        if not isinstance(atomic, str) or not re.fullmatch(r"-?[0-9]{1,78}", atomic):
            raise ValueError("money.atomic must be an integer in text")
        if not isinstance(symbol, str) or not isinstance(caip19, str) or type(decimals) is not int:
            raise ValueError("money.symbol and money.asset must be text, money.decimals an integer")
        try:
            return cls(Asset(symbol, decimals, caip19), int(atomic))
        except InvalidInput as error:
            raise ValueError(error.message) from error

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.from_json,
            serialization=core_schema.plain_serializer_function_ser_schema(cls.to_json),
        )


def total(amounts: Iterable[Money], asset: Asset) -> Money:
    """Sum of amounts of one asset; zero of it when there are none."""
    result = asset.zero()
    for amount in amounts:
        result = result + amount
    return result


@dataclass(frozen=True, slots=True)
class Rate:
    """USD per whole unit of an asset, with where and when it was read.

    `pegged`: laid down by somebody, whom `source` names, and read nowhere; it does not age.
    """

    asset: Asset
    usd: Decimal
    source: str
    observed_at: datetime
    pegged: bool = False

    def __post_init__(self) -> None:
        if not self.source:
            raise InvalidInput(
                f"the rate of {self.asset.symbol} has no source", field="source", next_step="say who gave it"
            )

    def age_seconds(self, now: datetime) -> float:
        """Since it was read; 0 for one that does not age."""
        return 0.0 if self.pegged else max(0.0, (now - self.observed_at).total_seconds())

    def to_usd(self, money: Money) -> Decimal:
        """Value in USD; the caller checks the rate's age where it matters."""
        if money.asset.caip19 != self.asset.caip19:
            raise TypeError(f"rate of {self.asset.caip19} used for {money.asset.caip19}")
        return money.decimal * self.usd


@dataclass(frozen=True, slots=True)
class Parity:
    """Assets that somebody vouches count one for one, such as USDC on two networks; `source` says who and why.

    `unit` is the one that budgets and prices are counted in. All have its number of decimals, so that an amount of one
    is the same integer in another.
    """

    unit: Asset
    others: tuple[Asset, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        for other in self.others:
            if other.decimals != self.unit.decimals:
                raise InvalidInput(
                    f"{other.caip19} has {other.decimals} decimals, {self.unit.caip19} has {self.unit.decimals}",
                    field="decimals",
                    next_step="only assets with equal decimals count one for one",
                )

    @property
    def assets(self) -> tuple[Asset, ...]:
        """The unit first."""
        return (self.unit, *self.others)

    def equal(self, one: Asset, other: Asset) -> bool:
        """Whether an amount of one counts as the same amount of the other."""
        if one.caip19 == other.caip19:
            return True
        known = {asset.caip19 for asset in self.assets}
        return one.caip19 in known and other.caip19 in known

    def counted(self, money: Money) -> Money:
        """The amount in the unit; as it is for an asset that nobody vouches for."""
        return Money(self.unit, money.atomic) if self.equal(money.asset, self.unit) else money
