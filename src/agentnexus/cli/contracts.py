"""`nexus contracts`: put them on a chain, say where they are, check that they are what they should be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from agentnexus.cli.options import json_option

if TYPE_CHECKING:
    from agentnexus.rails.evm.deployment import Design, Manifest
    from agentnexus.rails.evm.networks import Network
    from agentnexus.rails.evm.rpc import Rpc
    from agentnexus.rails.evm.signer import EvmSigner

T = TypeVar("T")
KEY = click.Path(exists=True, dir_okay=False, path_type=Path)
_network = click.option(
    "--network", default="local", show_default=True, help="its name (base-sepolia) or number (eip155:84532)"
)
_rpc = click.option("--rpc", "rpc_url", help="a node of it; NEXUS_EVM_RPC_URL, or the running `nexus up`, if not given")
_ROLES = ("admin", "operator", "policy_signer", "fee_recipient")


class Coin(click.ParamType[int]):
    """Decimal text of the chain's coin, as wei."""

    name = "amount"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            wei = Decimal(str(value)) * 10**18
        except InvalidOperation:
            self.fail(f"{value!r} is no amount", param, ctx)
        if not wei.is_finite() or wei < 0 or wei != int(wei):
            self.fail(f"{value!r} is no amount", param, ctx)
        return int(wei)


@click.group()
def contracts() -> None:
    """The contracts of purchases on a chain: escrow, entitlements, accounts, paymaster."""


@contracts.command()
@_network
@_rpc
@click.option("--key", type=KEY, help="keystore file that pays for it; the development deployer on a local chain")
@click.option("--password", envvar="NEXUS_KEYSTORE_PASSWORD", help="of the keystore; asked for if not given")
@click.option("--token", help="what the escrow holds; NEXUS_USDC_ADDRESS if not given")
@click.option("--admin", help="grants roles and sets the fee: a multisig")
@click.option("--operator", help="settles deals and mints")
@click.option("--arbiter", help="decides disputes; the admin if not given")
@click.option("--policy-signer", help="whose signature sponsors gas, for good")
@click.option("--fee-recipient", help="where fees go; the admin if not given")
@click.option("--paymaster-deposit", type=Coin(), default=0, help="fill the paymaster up to this much of the coin")
@click.option("--yes", is_flag=True, help="do not ask")
@json_option
def deploy(
    network: str,
    rpc_url: str | None,
    key: Path | None,
    password: str | None,
    yes: bool,
    as_json: bool,
    **options: object,
) -> int:
    """Put on the chain what is not there yet; the same again changes nothing."""
    from agentnexus.rails.evm.networks import NetworkKind, network_by_name

    chain = network_by_name(network)
    signer, design = _party(chain, key, password, options)
    if chain.kind is NetworkKind.MAINNET and not yes:
        if as_json:
            raise click.UsageError("say --yes to spend real money")
        click.confirm(f"Deploy on {chain.name} with {signer.public_id}?", abort=True)
    tell: Callable[[str], None] = (lambda _line: None) if as_json else click.echo

    async def work(rpc: Rpc) -> Manifest:
        from agentnexus.rails.evm.deployment import deploy as put

        deposit = options["paymaster_deposit"]
        assert isinstance(deposit, int)
        return await put(rpc, chain, signer, design, paymaster_deposit_wei=deposit, tell=tell)

    manifest = asyncio.run(_on_chain(chain, rpc_url, work))
    path = manifest.save(_home())
    if as_json:
        click.echo(manifest.to_json())
        return 0
    _list(manifest)
    click.echo(f"kept in {path}")
    return 0


@contracts.command()
@_network
@json_option
def show(network: str, as_json: bool) -> int:
    """Say where they are on a network."""
    manifest = _manifest(network)
    if as_json:
        click.echo(manifest.to_json())
    else:
        _list(manifest)
    return 0


@contracts.command()
@_network
@_rpc
@json_option
def verify(network: str, rpc_url: str | None, as_json: bool) -> int:
    """Check that the code at each address is what this program's artifacts make; fails when one is not."""
    from agentnexus.rails.evm.deployment import CodeState, verify_code
    from agentnexus.rails.evm.networks import network_by_name

    manifest = _manifest(network)
    checks = asyncio.run(_on_chain(network_by_name(network), rpc_url, lambda rpc: verify_code(rpc, manifest)))
    if as_json:
        rows = {each.name: {"address": each.address, "expected": each.expected, "state": each.state} for each in checks}
        click.echo(json.dumps(rows))
    else:
        for each in checks:
            click.echo(f"{each.name:<15} {each.address}  {each.state}")
    return 0 if all(each.state is CodeState.AS_BUILT for each in checks) else 1


def _party(
    chain: Network, key: Path | None, password: str | None, options: dict[str, object]
) -> tuple[EvmSigner, Design]:
    """Who deploys what. A local chain without a key is the development economy's, with its design."""
    from agentnexus.rails.evm.networks import NetworkKind

    if chain.kind is NetworkKind.LOCAL and key is None:
        from agentnexus.devnet.chain import DevelopmentChain
        from agentnexus.devnet.contracts import development_design

        development = DevelopmentChain()
        return development.accounts["deployer"].signer, development_design(development)
    if key is None:
        raise click.UsageError(f"{chain.name} needs --key: a keystore file with {chain.native_symbol} for gas")
    from agentnexus.rails.evm.signer import signer_from_keystore

    known = password if password is not None else click.prompt("Password of the keystore", hide_input=True, err=True)
    return signer_from_keystore(key, known, chain.kind), _design(options)


def _design(options: dict[str, object]) -> Design:
    from agentnexus.platform.settings import Settings
    from agentnexus.rails.evm.deployment import Design
    from agentnexus.rails.evm.encoding import address

    token = options["token"] or Settings().usdc_address
    given = {**options, "token": token, "fee_recipient": options["fee_recipient"] or options["admin"]}
    missing = [name for name in ("token", *_ROLES) if not given[name]]
    if missing:
        raise click.UsageError("say " + ", ".join("--" + name.replace("_", "-") for name in missing))
    token, admin, operator, policy_signer, fee_recipient = (
        address(given[name], field=name) for name in ("token", *_ROLES)
    )
    arbiter = address(options["arbiter"], field="arbiter") if options["arbiter"] else admin
    return Design(token, admin, operator, arbiter, policy_signer, fee_recipient)


def _manifest(network: str) -> Manifest:
    from agentnexus.rails.evm.deployment import Manifest
    from agentnexus.rails.evm.networks import network_by_name

    return Manifest.load(_home(), network_by_name(network).chain_id)


def _home() -> Path:
    from agentnexus.platform.settings import Settings

    return Settings().home


async def _on_chain(chain: Network, url: str | None, work: Callable[[Rpc], Awaitable[T]]) -> T:
    from agentnexus.rails.evm.checked import CheckedRpc

    async with CheckedRpc(_url(chain, url), chain) as rpc:
        return await work(rpc)


def _url(chain: Network, url: str | None) -> str:
    from agentnexus.platform.settings import Settings
    from agentnexus.rails.evm.networks import NetworkKind

    known = url or Settings().evm_rpc_url
    if known:
        return known
    if chain.kind is not NetworkKind.LOCAL:
        raise click.UsageError(f"say where a node of {chain.name} is: --rpc or NEXUS_EVM_RPC_URL")
    from agentnexus.cli.node import find_node

    facts = find_node().facts.get("evm")
    if not isinstance(facts, dict):
        raise click.UsageError("say where the local chain's node is: --rpc")
    return str(facts["rpc_url"])


def _list(manifest: Manifest) -> None:
    for name, address in manifest.addresses().items():
        click.echo(f"{name:<15} {address}")
