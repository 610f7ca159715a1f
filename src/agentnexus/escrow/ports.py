"""What a prepaid account needs from a chain: to know a deposit, to know an owner, and a rail to send money back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from agentnexus.core.money import Asset, Money
from agentnexus.core.ports import Rail


@dataclass(frozen=True, slots=True)
class SeenDeposit:
    """A transfer to the treasury as the chain knows it, final and without error."""

    signature: str
    sender: str
    amount: Money
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class SeenDeparture:
    """A transfer out of the treasury, final and without error. `receiver` is "" where several were paid together."""

    signature: str
    receiver: str
    amount: Money
    key: str | None  # what this node's rail was given for it; None when it was sent elsewhere


class Treasury(Protocol):
    """The wallet of this node that holds its users' prepaid money on one network."""

    @property
    def network(self) -> str:
        """CAIP-2."""

    @property
    def address(self) -> str:
        """Where users send to; tokens go to its associated accounts."""

    @property
    def assets(self) -> Sequence[Asset]:
        """What is taken."""

    @property
    def claim_within(self) -> timedelta:
        """How old a transfer may be when it is claimed."""

    @property
    def rail(self) -> Rail:
        """Sends withdrawals from `address`."""

    async def deposit(self, signature: str, sender: str) -> SeenDeposit:
        """Look a transfer up on the chain.

        Raises `InvalidInput` with ``details.reason`` (malformed, unknown, failed, foreign, wrong_recipient,
        wrong_asset, too_old) and `Conflict` with reason ``unconfirmed`` while it is not final.
        """

    async def arrived(self, asset: Asset) -> Money:
        """Everything that ever came to the treasury and is final, claimed or not."""

    async def arrivals(self, asset: Asset, limit: int) -> Sequence[SeenDeposit]:
        """The newest of it. `sender` is "" where several paid together."""

    async def departure(self, signature: str) -> SeenDeparture:
        """Look a transfer out of the treasury up on the chain. Raises as `deposit` does."""

    def is_wallet(self, address: str) -> bool:
        """Whether `address` can be a user's wallet on this network."""

    def proves(self, wallet: str, message: str, signature: str) -> bool:
        """Whether the owner of `wallet` signed `message`."""
