"""Who else may act for a person's account: `nexus wallet guardian` and `nexus wallet session`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import click

from agentnexus.cli.account import WALLET, carry
from agentnexus.cli.grant import Duration
from agentnexus.cli.operations import How, how_options

if TYPE_CHECKING:
    from agentnexus.cli.approving import Asked, Tokens
    from agentnexus.rails.evm.contracts.abi import AbiValue

Json = dict[str, object]
NOBODY = "none"


class Permission(click.ParamType[tuple[str, str]]):
    """``0x…:transfer(address,uint256)``; an address alone is plain coin sent there."""

    name = "contract:function"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        contract, _, function = str(value).partition(":")
        if not contract.startswith("0x") or (function and not function.endswith(")")):
            self.fail(f"{value!r} is no call; write for example 0x…:transfer(address,uint256)", param, ctx)
        return contract.lower(), function


@click.command()
@click.argument("address", required=False)
@click.option("--delay", type=Duration(), default="3d", show_default=True, help="how long you can say no: 1d to 60d")
@click.option("--refuse", is_flag=True, help="refuse the new owner that your guardian has proposed")
@how_options
def guardian(address: str | None, delay: int, refuse: bool, how: How) -> int:
    """Let ADDRESS propose a new owner of your account, in case you lose your key; `none` ends that."""
    if (address is None) != refuse:
        raise click.UsageError("give an ADDRESS, or none, or --refuse")
    if address is None:
        return carry("POST", f"{WALLET}/recovery/cancel", {}, how, _setting("cancelRecovery"))
    from agentnexus.rails.evm.encoding import ZERO_ADDRESS
    from agentnexus.rails.evm.encoding import address as read_address

    who = None if address == NOBODY else read_address(address, field="address")
    seconds = 0 if who is None else delay
    body: Json = {"guardian": who, "delay_seconds": seconds}
    return carry("POST", f"{WALLET}/guardian", body, how, _setting("setGuardian", who or ZERO_ADDRESS, seconds))


@click.group()
def session() -> None:
    """Keys that may act for your account, within limits and for a time."""


@session.command(name="grant")
@click.argument("key")
@click.option("--call", "calls", multiple=True, required=True, type=Permission(), help="what it may call; repeatable")
@click.option("--limit", "limits", multiple=True, metavar="ASSET=AMOUNT", help="the most it may spend; repeatable")
@click.option("--for", "seconds", type=Duration(), default="1d", show_default=True, help="how long: 30m, 12h, 7d")
@click.option("--sponsored/--own-gas", default=True, help="whether the node may pay its gas (the default)")
@how_options
def grant_session(
    key: str, calls: tuple[tuple[str, str], ...], limits: tuple[str, ...], seconds: int, sponsored: bool, how: How
) -> int:
    """Let the key of address KEY make these calls for you; what is not limited it cannot spend."""
    until = int((datetime.now(UTC) + timedelta(seconds=seconds)).timestamp())
    spending = [_limit(each) for each in limits]
    body: Json = {
        "key": key,
        "valid_until": datetime.fromtimestamp(until, UTC).isoformat(),
        "permissions": [{"contract": contract, "function": function} for contract, function in calls],
        "limits": [{"asset": asset, "amount": amount} for asset, amount in spending],
        "sponsored": sponsored,
    }

    def check(asked: Asked, tokens: Tokens) -> None:
        from agentnexus.cli.approving import asset_of, atomic

        wanted = []
        for asset, amount in spending:
            token, decimals = asset_of(asset, tokens, asked.chain_id)
            wanted.append((token, atomic(amount, decimals)))
        _require_grant(asked, (key.lower(), 0, until), calls, wanted, sponsored=sponsored)

    return carry("POST", f"{WALLET}/sessions", body, how, check)


@session.command()
@click.argument("key")
@how_options
def revoke(key: str, how: How) -> int:
    """End what KEY may do."""
    return carry("DELETE", f"{WALLET}/sessions/{key.lower()}", None, how, _setting("revokeSession", key.lower()))


def _limit(text: str) -> tuple[str, str]:
    from agentnexus.cli.account import ANY

    asset, sign, amount = text.partition("=")
    if not sign or not asset:
        raise click.BadParameter(f"{text!r} is not ASSET=AMOUNT", param_hint="--limit")
    return asset, ANY.convert(amount, None, None)


def _require_grant(
    asked: Asked,
    terms: tuple[str, int, int],
    calls: Sequence[tuple[str, str]],
    limits: Sequence[tuple[str, int]],
    *,
    sponsored: bool,
) -> None:
    """Raises `NotAllowed` for a session of anything else; a sponsored one may also leave its gas to a paymaster."""
    from agentnexus.rails.evm.contracts.abi import abi_of, decode_values
    from agentnexus.rails.evm.contracts.contract import Call
    from agentnexus.rails.evm.encoding import selector

    permissions: list[tuple[str, bytes]] = [(to, selector(name) if name else bytes(4)) for to, name in calls]
    grant, pays = abi_of("Account").function("grantSession"), abi_of("Paymaster").function("validatePaymasterUserOp")
    if sponsored and len(asked.calls) == 1 and asked.calls[0].data[:4] == grant.selector:
        told = decode_values(grant.inputs, asked.calls[0].data[4:])
        last_to, last_function = cast("Sequence[tuple[str, bytes]]", told[3])[-1]
        permissions += [(last_to, pays.selector)] if last_function == pays.selector else []
    values: tuple[AbiValue, ...] = (*terms, permissions, list(limits))
    asked.require_calls([Call(asked.sender, abi_of("Account").encode("grantSession", values))])


def _setting(function: str, *values: AbiValue) -> Callable[[Asked, Tokens], None]:
    """Only this call of the account to itself may be signed."""

    def check(asked: Asked, _tokens: Tokens) -> None:
        from agentnexus.rails.evm.contracts.abi import abi_of
        from agentnexus.rails.evm.contracts.contract import Call

        asked.require_calls([Call(asked.sender, abi_of("Account").encode(function, values))])

    return check
