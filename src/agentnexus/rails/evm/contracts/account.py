"""Smart accounts and their factory: addresses before they exist, batches, owners, sessions and recovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts.abi import AbiValue, abi_of, encode_values
from agentnexus.rails.evm.contracts.contract import Call, Contract, as_bool, as_bytes, as_int, as_text, as_tuple
from agentnexus.rails.evm.contracts.sessions import Allowance, Grant
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, keccak, to_hex

_BATCH_MODE = b"\x01" + bytes(31)
# ERC-1167 with the implementation between the two, as OpenZeppelin's Clones writes it.
_CLONE_HEAD = bytes.fromhex("3d602d80600a3d3981f3363d3d373d3d3d363d73")
_CLONE_TAIL = bytes.fromhex("5af43d82803e903d91602b57fd5bf3")
_OWNER = "(address,bytes32,bytes32)"
VALID_SIGNATURE = bytes.fromhex("1626ba7e")


@dataclass(frozen=True, slots=True)
class Owner:
    """Who an account obeys: an ECDSA key's address, a P-256 point (passkey), or both."""

    key: str = ZERO_ADDRESS
    x: bytes = bytes(32)
    y: bytes = bytes(32)

    def __post_init__(self) -> None:
        if self.key == ZERO_ADDRESS and not self.has_point:
            raise InvalidInput("an account needs an owner", field="owner", next_step="give a key, a passkey, or both")

    @property
    def has_point(self) -> bool:
        return any(self.x) or any(self.y)

    def value(self) -> tuple[AbiValue, ...]:
        """For the ABI."""
        return (self.key, self.x, self.y)


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """All that an account's address depends on; `guardian_delay_seconds` is 1 to 60 days where there is a guardian."""

    owner: Owner
    guardian: str = ZERO_ADDRESS
    guardian_delay_seconds: int = 0
    salt: bytes = bytes(32)

    def values(self) -> tuple[AbiValue, ...]:
        """The arguments of ``createAccount``."""
        return (self.owner.value(), self.guardian, self.guardian_delay_seconds, self.salt)

    def address(self, factory: str, implementation: str) -> str:
        """Where this account is or will be, without asking the chain."""
        salt = keccak(encode_values([_OWNER, "address", "uint48", "bytes32"], self.values(), field="account"))
        code = _CLONE_HEAD + bytes.fromhex(implementation[2:]) + _CLONE_TAIL
        return create2_address(factory, salt, code)


@dataclass(frozen=True, slots=True)
class Guardian:
    """Who may propose new owners, and how long the present ones can say no."""

    address: str
    delay_seconds: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """New owners that wait; anybody may finish from `ready_at` (Unix seconds)."""

    owner: Owner
    ready_at: int


class Account(Contract):
    """One smart account. Calls to itself (owners, guardian, sessions) go into `execute` of an owner's operation."""

    NAME: ClassVar[str] = "Account"

    def execute(self, calls: Sequence[Call]) -> Call:
        """Run calls, all or none; the calldata of a user operation."""
        return Call(self.address, execute_data(calls))

    async def owner(self) -> Owner:
        key, x, y = as_tuple(await self.read("owner"))
        return Owner(as_text(key), as_bytes(x), as_bytes(y))

    async def guardian(self) -> Guardian | None:
        guardian, delay = as_tuple(await self.read("guardian"))
        return None if guardian == ZERO_ADDRESS else Guardian(as_text(guardian), as_int(delay))

    async def pending_recovery(self) -> Recovery | None:
        owner, ready_at = as_tuple(await self.read("pendingRecovery"))
        if not as_int(ready_at):
            return None
        key, x, y = as_tuple(owner)
        return Recovery(Owner(as_text(key), as_bytes(x), as_bytes(y)), as_int(ready_at))

    async def session(self, key: str) -> tuple[int, int] | None:
        """From when until when (Unix seconds) a key's session is good; None when it has none."""
        valid_after, valid_until, _ = as_tuple(await self.read("session", key))
        return (as_int(valid_after), as_int(valid_until)) if as_int(valid_until) else None

    async def session_permits(self, key: str, target: str, selector: bytes) -> bool:
        return as_bool(await self.read("sessionPermits", key, target, selector))

    async def session_allowance(self, key: str, token: str = ZERO_ADDRESS) -> Allowance:
        limit, spent = as_tuple(await self.read("sessionAllowance", key, token))
        return Allowance(as_int(limit), as_int(spent))

    async def is_valid_signature(self, digest: bytes, signature: bytes) -> bool:
        """ERC-1271."""
        return as_bytes(await self.read("isValidSignature", digest, signature)) == VALID_SIGNATURE

    def set_owner(self, owner: Owner) -> Call:
        """New owners; ends all sessions and any recovery that waits."""
        return self.call("setOwner", owner.value())

    def set_guardian(self, guardian: str, delay_seconds: int) -> Call:
        return self.call("setGuardian", guardian, delay_seconds)

    def propose_recovery(self, owner: Owner) -> Call:
        """Start the guardian's delay; sent by the guardian."""
        return self.call("proposeRecovery", owner.value())

    def cancel_recovery(self) -> Call:
        """By an owner (through `execute`) or the guardian."""
        return self.call("cancelRecovery")

    def finish_recovery(self) -> Call:
        """By anybody, once the delay is over."""
        return self.call("finishRecovery")

    def grant_session(self, grant: Grant) -> Call:
        return self.call("grantSession", *grant.values())

    def revoke_session(self, key: str) -> Call:
        return self.call("revokeSession", key)


class AccountFactory(Contract):
    """Makes accounts; anybody may call it, and a second call only answers the address."""

    NAME: ClassVar[str] = "AccountFactory"

    async def implementation(self) -> str:
        """The code all accounts share, and what an ordinary key delegates to (EIP-7702)."""
        return as_text(await self.read("IMPLEMENTATION"))

    async def address_of(self, plan: AccountPlan) -> str:
        return as_text(await self.read("addressOf", *plan.values()))

    def create(self, plan: AccountPlan) -> Call:
        return self.call("createAccount", *plan.values())


def execute_data(calls: Sequence[Call]) -> bytes:
    """Calldata of an account that runs these calls (ERC-7821, plain batch mode)."""
    if not calls:
        raise InvalidInput("an operation needs at least one call", field="calls")
    batch = encode_values(["(address,uint256,bytes)[]"], [[(each.target, each.value, each.data) for each in calls]])
    return abi_of("Account").encode("execute", (_BATCH_MODE, batch))


def create2_address(deployer: str, salt: bytes, creation: bytes) -> str:
    """Where CREATE2 puts a contract."""
    return to_hex(keccak(b"\xff" + bytes.fromhex(deployer[2:]) + salt + keccak(creation))[12:])
