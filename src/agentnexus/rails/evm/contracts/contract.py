"""What all contract clients share: calls as data, reads, batches of reads, and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts.abi import Abi, AbiValue, Event, abi_of
from agentnexus.rails.evm.contracts.refusals import explained
from agentnexus.rails.evm.encoding import address as read_address
from agentnexus.rails.evm.encoding import keccak
from agentnexus.rails.evm.errors import Reverted
from agentnexus.rails.evm.receipts import Log
from agentnexus.rails.evm.rpc import Call as RpcCall
from agentnexus.rails.evm.rpc import Rpc, RpcValue, call_data, eth_call
from agentnexus.rails.evm.transactions import Intent

DEFAULT_ADMIN_ROLE = bytes(32)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a contract: by a transaction of its own, or as a part of a user operation.

    Args:
        target: lower-case address.
        data: calldata.
        value: coin sent along, in wei.
    """

    target: str
    data: bytes = b""
    value: int = 0

    def intent(self, gas: int) -> Intent:
        """The same as a transaction of an ordinary key."""
        return Intent(self.target, self.data, gas, self.value)


class Contract:
    """A contract at an address. Subclasses name their artifact and give its functions types.

    Reads raise `Reverted` (`ContractRefused` where the reason is known), `ChainUnavailable`, `NodeError`, and
    `InvalidInput` when what is at the address answers something else.
    """

    NAME: ClassVar[str]

    def __init__(self, rpc: Rpc, address: str) -> None:
        self.rpc = rpc
        self.address = read_address(address)

    @property
    def abi(self) -> Abi:
        return abi_of(self.NAME)

    def call(self, name: str, *values: AbiValue, value: int = 0) -> Call:
        """A call of a function by its name (or full signature, where there are several)."""
        return Call(self.address, self.abi.encode(name, values), value)

    async def read(self, name: str, *values: AbiValue, block: str = "latest") -> AbiValue:
        """The one value that a function returns."""
        (answer,) = await self.read_many((name, values), block=block)
        return answer

    async def read_many(self, *reads: tuple[str, Sequence[AbiValue]], block: str = "latest") -> tuple[AbiValue, ...]:
        """The values of several functions of one return value each, in one round trip."""
        calls = [eth_call(self.address, self.abi.encode(name, values), block=block) for name, values in reads]
        answers = await self.rpc.batch(calls)
        found = []
        for (name, _), answer in zip(reads, answers, strict=True):
            try:
                data = call_data(answer)
            except Reverted as error:
                raise explained(error) from None
            (value,) = self.abi.decode(name, data)
            found.append(value)
        return tuple(found)

    async def try_call(
        self, call: Call, sender: str, *, block: str = "latest", overrides: dict[str, RpcValue] | None = None
    ) -> bytes:
        """Run a call without sending it; what it returns. `overrides` is state as the node's ``eth_call`` takes it."""
        transaction: dict[str, RpcValue] = {
            "from": sender,
            "to": call.target,
            "data": "0x" + call.data.hex(),
            "value": hex(call.value),
        }
        parameters: tuple[RpcValue, ...] = (transaction, block, overrides) if overrides else (transaction, block)
        try:
            return call_data((await self.rpc.batch([RpcCall("eth_call", parameters)]))[0])
        except Reverted as error:
            raise explained(error) from None

    def events(self, logs: Sequence[Log]) -> list[Event]:
        """This contract's events among logs; what other contracts told is left out."""
        mine = (self.abi.event(log) for log in logs if log.contract == self.address)
        return [event for event in mine if event is not None]

    def grant_role(self, role: str, account: str) -> Call:
        """Give an address a role, by the role's name (``MINTER_ROLE``); from the admin."""
        return self.call("grantRole", role_id(role), account)

    async def has_role(self, role: str, account: str) -> bool:
        return as_bool(await self.read("hasRole", role_id(role), account))


def role_id(name: str) -> bytes:
    """The bytes32 that stands for a role."""
    return DEFAULT_ADMIN_ROLE if name == "DEFAULT_ADMIN_ROLE" else keccak(name.encode())


def as_int(value: AbiValue) -> int:
    if isinstance(value, int):
        return value
    raise InvalidInput(f"the contract returned {value!r} where a number belongs")


def as_bool(value: AbiValue) -> bool:
    return bool(as_int(value))


def as_text(value: AbiValue) -> str:
    if isinstance(value, str):
        return value
    raise InvalidInput(f"the contract returned {value!r} where text belongs")


def as_bytes(value: AbiValue) -> bytes:
    if isinstance(value, bytes):
        return value
    raise InvalidInput(f"the contract returned {value!r} where bytes belong")


def as_tuple(value: AbiValue) -> Sequence[AbiValue]:
    if isinstance(value, tuple | list):
        return value
    raise InvalidInput(f"the contract returned {value!r} where several values belong")
