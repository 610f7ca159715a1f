"""What is sponsored: for whom, calls of which contracts, and how much. Anybody may read it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from agentnexus.core.errors import InvalidInput
from agentnexus.core.money import AMOUNT, Asset
from agentnexus.core.payments import Limits
from agentnexus.rails.evm.contracts.abi import abi_of, decode_values
from agentnexus.rails.evm.encoding import WORD, ZERO_ADDRESS, address, selector, word_address
from agentnexus.rails.evm.paymaster.refusals import NotSponsored
from agentnexus.rails.evm.userops.model import UserOperation

SELF = "account"  # in a rule: the account that acts
CALLS_MAX = 32
_AFTERWARDS_GAS = 30_000  # of the contract, for giving back
_BATCH_MODE = b"\x01" + bytes(31)
_CALLS = "(address,uint256,bytes)[]"


def _lower_address(text: str) -> str:
    try:
        return text if text == SELF else address(text)
    except InvalidInput as error:
        raise ValueError(error.message) from error


def _function(text: str) -> str:
    if not text.isascii() or "(" not in text or not text.endswith(")") or " " in text:
        raise ValueError(f"{text!r} is not a function such as transfer(address,uint256)")
    return text


def _amount(text: str) -> str:
    if not AMOUNT.fullmatch(text) or text.strip().startswith("-"):
        raise ValueError(f"{text!r} is not an amount of coin")
    return text


AddressText = Annotated[str, AfterValidator(_lower_address)]
FunctionText = Annotated[str, AfterValidator(_function)]
AmountText = Annotated[str, AfterValidator(_amount)]


@dataclass(frozen=True, slots=True)
class AccountCall:
    """One call that an operation makes."""

    target: str
    data: bytes


class Rule(BaseModel):
    """Calls that are paid for.

    `functions` are signatures such as ``approve(address,uint256)``, None for all. `to` are the only addresses that the
    first argument may be, None for any. `contract` may be ``account``: the account's calls of itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    contract: AddressText
    functions: tuple[FunctionText, ...] | None = None
    to: tuple[AddressText, ...] | None = None

    def covers(self, call: AccountCall, sender: str) -> bool:
        """Whether this rule pays for that call of `sender`."""
        if call.target != (sender if self.contract == SELF else self.contract):
            return False
        if self.functions is not None and call.data[:4] not in {selector(each) for each in self.functions}:
            return False
        return self.to is None or _first_address(call.data) in self.to


class TokenPrice(BaseModel):
    """Gas that is sold: atomic units of a token for 10^18 wei. The account lets the paymaster take them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: AddressText
    per_native: int = Field(gt=0, le=10**30)

    def most(self, operation: UserOperation) -> int:
        """Atomic units that the paymaster takes before the operation runs; it gives back what was not used."""
        afterwards = _AFTERWARDS_GAS + operation.paymaster_post_op_gas_limit // 10  # a tenth of what is left over
        wei = operation.max_cost_wei + afterwards * operation.max_fee_per_gas
        return -(-wei * self.per_native // 10**18)


class SponsorPolicy(BaseModel):
    """Whose operations, which calls, how much. Amounts are decimal text in the chain's own coin.

    With `paid_in` the account pays its gas in a token; limits then bound what is laid out for it. `users` and `senders`
    are the only ones, None for all. An operation fits when a rule covers each of its calls. `newcomers_per_day` is for
    all together who never paid for anything. Of that, or of the day, at most half goes to what they have not signed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern="^[a-z0-9][a-z0-9-]{0,63}$")
    title: str = Field(max_length=200)
    rules: tuple[Rule, ...] = Field(min_length=1)
    users: tuple[str, ...] | None = None
    senders: tuple[AddressText, ...] | None = None
    factories: tuple[AddressText, ...] = ()
    delegates: tuple[AddressText, ...] = ()
    paid_in: TokenPrice | None = None
    per_operation: AmountText
    per_user_hour: AmountText | None = None
    per_user_day: AmountText
    per_day: AmountText
    newcomers_per_day: AmountText | None = None
    maximum_gas: int = Field(default=2_000_000, gt=0)
    # What is paid for bytes goes to the bundler whatever it spent, so it is bounded by itself.
    maximum_pre_verification_gas: int = Field(default=200_000, gt=0)

    def limits(self, coin: Asset) -> Limits:
        """Of all operations under this policy together."""
        return Limits(per_payment=coin.parse(self.per_operation), per_day=coin.parse(self.per_day))

    def user_limits(self, coin: Asset) -> Limits:
        """Of one user's operations."""
        hour = None if self.per_user_hour is None else coin.parse(self.per_user_hour)
        return Limits(per_hour=hour, per_day=coin.parse(self.per_user_day))

    def newcomers_limits(self, coin: Asset) -> Limits | None:
        """Of all newcomers' operations together; None where they are no others than everybody."""
        return None if self.newcomers_per_day is None else Limits(per_day=coin.parse(self.newcomers_per_day))

    def refusal(self, user_id: str, operation: UserOperation, calls: Sequence[AccountCall]) -> str:
        """Why this policy does not pay for the operation, whose calls `account_calls` reads; empty when it does."""
        return next(self._refusals(user_id, operation, calls), "")

    def _refusals(self, user_id: str, operation: UserOperation, calls: Sequence[AccountCall]) -> Iterator[str]:
        if self.users is not None and user_id not in self.users:
            yield "you are not among its users"
        if self.senders is not None and operation.sender not in self.senders:
            yield f"{operation.sender} is not among its accounts"
        if operation.factory is not None and operation.factory not in self.factories:
            yield f"it makes no accounts with factory {operation.factory}"
        if operation.delegate is not None and operation.delegate not in self.delegates:
            yield f"it sponsors no delegation to {operation.delegate}"
        if operation.gas_limit > self.maximum_gas:
            yield f"the gas limits add up to {operation.gas_limit}, over {self.maximum_gas}"
        if operation.pre_verification_gas > self.maximum_pre_verification_gas:
            yield f"preVerificationGas is over {self.maximum_pre_verification_gas}"
        for call in calls:
            if not any(rule.covers(call, operation.sender) for rule in self.rules):
                yield f"it covers no call of 0x{call.data[:4].hex()} of {call.target} with such arguments"


def account_calls(operation: UserOperation) -> list[AccountCall]:
    """The calls inside an operation of our accounts.

    Raises `NotSponsored` for calldata that is anything else, for over `CALLS_MAX` calls, and for a batch in the batch:
    rules are about calls, and its calls would pass as one of the account itself.
    """
    execute = abi_of("Account").function("execute")
    if operation.call_data[:4] != execute.selector:
        raise _unreadable()
    try:
        mode, batch = decode_values(execute.inputs, operation.call_data[4:])
        assert isinstance(batch, bytes)
        _check_length(batch)
        (calls,) = decode_values([_CALLS], batch)
    except InvalidInput:
        raise _unreadable() from None
    assert isinstance(calls, tuple)
    if mode != _BATCH_MODE or not calls:
        raise _unreadable()
    found = []
    for each in calls:
        assert isinstance(each, tuple)
        target, _, data = each
        assert isinstance(target, str)
        assert isinstance(data, bytes)
        # The account reads "nobody" as itself.
        call = AccountCall(operation.sender if target == ZERO_ADDRESS else target.lower(), data)
        if call.target == operation.sender and data[:4] == execute.selector:
            raise NotSponsored(
                "a batch inside the batch is not sponsored", next_step="put its calls into the batch itself"
            )
        found.append(call)
    return found


def _check_length(batch: bytes) -> None:
    """Before decoding: all places of an array may hold one and the same large call, which is copied for each."""
    at = int.from_bytes(batch[:WORD], "big")
    if int.from_bytes(batch[at : at + WORD], "big") > CALLS_MAX:
        raise NotSponsored(
            f"more than {CALLS_MAX} calls are not sponsored", next_step="send them in several operations"
        )


def choose(
    policies: Sequence[SponsorPolicy],
    user_id: str,
    operation: UserOperation,
    calls: Sequence[AccountCall],
    wanted: str = "",
) -> SponsorPolicy:
    """The policy asked for, or the first that fits. Raises `NotSponsored` saying why each does not."""
    asked = [each for each in policies if wanted in ("", each.id)]
    if not asked:
        raise InvalidInput(
            f"there is no policy {wanted}",
            field="policyId",
            next_step="leave it out, or GET this address for their names",
        )
    reasons = {}
    for policy in asked:
        reasons[policy.id] = policy.refusal(user_id, operation, calls)
        if not reasons[policy.id]:
            return policy
    raise NotSponsored(
        "no policy pays for this operation: " + "; ".join(f"{name}: {reason}" for name, reason in reasons.items()),
        next_step="pay its gas from the account, or change its calls to those that GET at this address lists",
        reasons=reasons,
    )


def read_policies(path: Path) -> tuple[SponsorPolicy, ...]:
    """Policies of a JSON file, ``[{id, title, rules, …}]``. Raises `InvalidInput` naming what is wrong in it."""
    try:
        found = TypeAdapter(tuple[SponsorPolicy, ...]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise InvalidInput(
            f"{path.name} has no usable policies: {problem}",
            field="paymaster_policies",
            next_step="see docs/contracts.md",
        ) from error
    if len({each.id for each in found}) != len(found):
        raise InvalidInput(f"{path.name} has two policies of one id", field="paymaster_policies")
    return found


def _first_address(data: bytes) -> str:
    argument = data[4 : 4 + WORD]
    return word_address(argument) if len(argument) == WORD and not any(argument[:12]) else ""


def _unreadable() -> NotSponsored:
    return NotSponsored(
        "only batches of an AgentNexus account are sponsored, and this is none",
        next_step="call execute(bytes32,bytes) in batch mode (ERC-7821)",
    )
