"""Why a contract said no: its custom errors by name and arguments, each with what to do about it."""

from __future__ import annotations

import re
from functools import cache

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.contracts.abi import AbiValue, ErrorType, abi_of, decode_values
from agentnexus.rails.evm.errors import Reverted

CONTRACTS = ("Escrow", "Entitlements", "Account", "AccountFactory", "Paymaster", "EntryPoint", "TestUSDC")
_PLAIN = bytes.fromhex("08c379a0")  # Error(string), what `require` with a text gives
_PANIC = bytes.fromhex("4e487b71")
_WRAPPED = {"FailedOpWithRevert": "inner", "PostOpReverted": "returnData"}

_NEXT_STEPS = {
    "AccessControlUnauthorizedAccount": "send it from an address that has the role, or have the admin grant it",
    "AccountUnauthorized": "only the account itself does this: send it as a user operation that an owner signed",
    "CapReached": "the class is sold out: raise its cap, or burn what is over",
    "ClassInactive": "the class is switched off; its registrar can switch it on",
    "DealExists": "these terms were used: take another salt",
    "DealNotExpired": "wait until the time in details.arguments, or have a party end the deal",
    "DealNotOpen": "read the deal: it has ended, or was never opened",
    "DepositsArePaused": "deposits are stopped; try again later",
    "ERC20InsufficientAllowance": "approve the amount first, in the same operation",
    "ERC20InsufficientBalance": "the account has too few tokens: send it some",
    "FeeIsNow": "read the fee again and make new terms",
    "InvalidDelay": "give the guardian a delay of 1 to 60 days",
    "InvalidGuardian": "an account is no guardian of itself: name another address",
    "NoRecovery": "have the guardian propose new owners first",
    "NoSession": "grant the key a session first",
    "NotAllowed": "only a party of the deal or the orchestrator does this",
    "NotGuardian": "only the account's guardian proposes: send it from that address",
    "NotPermitted": "the session key may not make this call: let an owner sign it, or grant it",
    "OverLimit": "the session's allowance is used up: let an owner sign it, or grant more",
    "RecoveryNotReady": "wait until the time in details.arguments",
    "Soulbound": "this token stays with its holder",
    "VoucherAlreadyUsed": "the voucher was brought before; look at the holder's balance",
    "VoucherExpired": "ask for a new voucher",
}
# EntryPoint's codes (ERC-4337): the first digit says who failed: 1 factory, 2 account, 3 paymaster, 4 gas, 9 bundler.
_FAILED_OPERATION = {
    "AA10": "the account exists already: leave the factory out",
    "AA13": "the factory made no account: check its data and the verification gas limit",
    "AA14": "the factory makes another account than the sender",
    "AA20": "the account does not exist: name its factory",
    "AA21": "the account cannot pay its gas: use a paymaster, or send it coin",
    "AA22": "the signature or session has expired, or is not due yet",
    "AA23": "the account refused: details.inner has its reason",
    "AA24": "sign the operation's hash with a key of the account",
    "AA25": "the nonce is used: read it again and sign anew",
    "AA26": "raise the verification gas limit",
    "AA31": "the paymaster's deposit is used up: add to it",
    "AA32": "the sponsorship has expired: ask for it again",
    "AA33": "the paymaster refused: details.inner has its reason",
    "AA34": "the policy service's signature does not fit the operation: ask for it again",
    "AA36": "raise the paymaster's verification gas limit",
    "AA40": "raise the verification gas limit",
    "AA41": "raise the verification gas limit",
    "AA50": "the paymaster could not settle: does the account let it take the tokens that the gas costs?",
    "AA51": "the operation's gas limits do not cover its cost",
    "AA95": "the bundler gave too little gas: send it with more",
}
_OPERATION_CODE = re.compile(r"AA\d\d")
_OTHERWISE = "read the contract's reason in details"


class ContractRefused(Reverted):
    """A contract refused with a reason we know. Details: ``error``, ``arguments`` by name, ``reason`` (raw hex)."""

    def __init__(self, error: str, arguments: dict[str, AbiValue], data: bytes) -> None:
        told = ", ".join(f"{name} {_shown(value)}" for name, value in arguments.items())
        super().__init__(f"{error}({told})", data)
        self.error = error
        self.arguments = arguments
        self.next_step = _next_step(error, arguments)
        self.details |= {"error": error, "arguments": {name: _shown(value) for name, value in arguments.items()}}
        inner = arguments.get(_WRAPPED.get(error, ""))
        self.inner = refusal(inner) if isinstance(inner, bytes) and inner else None
        if self.inner is not None:
            self.message = f"{error}({arguments.get('reason', '')}): {self.inner.message}"
            self.args = (self.message,)
            self.details["inner"] = self.inner.to_json()

    @property
    def code_name(self) -> str:
        """EntryPoint's code (``AA25``) for a refused user operation, otherwise the error's name."""
        reason = self.arguments.get("reason")
        return reason[:4] if self.error.startswith("FailedOp") and isinstance(reason, str) else self.error


def refusal(data: bytes) -> Reverted:
    """The error that revert data stands for; a plain `Reverted` when no contract of ours has it."""
    if data[:4] == _PLAIN:
        return _told("Error", (("message", "string"),), data)
    if data[:4] == _PANIC:
        return _told("Panic", (("code", "uint256"),), data)
    declared = _errors().get(data[:4])
    if declared is None:
        return Reverted(f"reverted without a reason we know ({data[:4].hex() or 'empty'})", data)
    return _told(declared.name, declared.inputs, data)


def explained(error: Reverted) -> Reverted:
    """The same refusal, with its reason read where it gave one."""
    return refusal(error.data) if error.data else error


def _told(name: str, inputs: tuple[tuple[str, str], ...], data: bytes) -> Reverted:
    try:
        values = decode_values([kind for _, kind in inputs], data[4:], field=name)
    except InvalidInput:
        return Reverted(f"reverted with a damaged {name}", data)
    names = [label or f"argument {at}" for at, (label, _) in enumerate(inputs)]
    return ContractRefused(name, dict(zip(names, values, strict=True)), data)


@cache
def _errors() -> dict[bytes, ErrorType]:
    return {selector: error for name in CONTRACTS for selector, error in abi_of(name).errors.items()}


def _next_step(error: str, arguments: dict[str, AbiValue]) -> str:
    reason = arguments.get("reason")
    if error.startswith("FailedOp") and isinstance(reason, str):
        return operation_next_step(reason)
    return _NEXT_STEPS.get(error, _OTHERWISE)


def names_operation_code(text: str) -> bool:
    """Whether a message has a code of EntryPoint's that we know what to do about."""
    found = _OPERATION_CODE.search(text)
    return found is not None and found[0] in _FAILED_OPERATION


def operation_next_step(text: str) -> str:
    """What to do about a refused operation, by EntryPoint's code anywhere in a message."""
    found = _OPERATION_CODE.search(text)
    return _FAILED_OPERATION.get(found[0], _OTHERWISE) if found else _OTHERWISE


def _shown(value: AbiValue) -> object:
    """A value as JSON has it; integers beyond a double's precision as text."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    return [_shown(each) for each in value]
