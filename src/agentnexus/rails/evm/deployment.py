"""Putting our contracts on a chain, the manifest of where they are, and the check that they are what they should be.

Everything goes through the CREATE2 deployer that all chains have: an address then says which code was put there, a
second deployment finds the first, and one that was cut off goes on where it stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from agentnexus.core.errors import InvalidInput, NotFound, PaymentFailed, Unavailable
from agentnexus.rails.evm.contracts import AccountFactory, Call, Contract, Entitlements, EntryPoint, Escrow, Paymaster
from agentnexus.rails.evm.contracts.abi import AbiValue, abi_of, encode_values
from agentnexus.rails.evm.contracts.account import create2_address
from agentnexus.rails.evm.contracts.artifacts import load_artifact
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.encoding import ZERO_ADDRESS, from_hex, keccak, to_hex
from agentnexus.rails.evm.encoding import address as read_address
from agentnexus.rails.evm.fees import FeeLimits
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.nonces import check_chain
from agentnexus.rails.evm.rpc import Call as RpcCall
from agentnexus.rails.evm.rpc import Rpc, call_data
from agentnexus.rails.evm.sending import send_directly
from agentnexus.rails.evm.signer import EvmSigner

CREATE2_DEPLOYER = "0x4e59b44847b379578588920ca78fbf26c0b4956c"
PERMIT2 = "0x000000000022d473030f116ddee9f6b43ac78ba3"
_ENTRY_POINT_SALT = bytes.fromhex("0a59dbff790c23c976a548690c27297883cc66b4c67024f9117b0238995e35e9")
_ENTRY_POINT_PACKAGE = "node_modules/@account-abstraction/contracts/artifacts/EntryPoint.json"
_SALT = keccak(b"AgentNexus 1")
DEPLOYMENT_GAS_MAX = 16_000_000  # a transaction may not have more (EIP-7825)
ADMIN_DELAY_SECONDS = 2 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Design:
    """What a deployment is made of; equal designs have equal addresses on every chain.

    Args:
        token: what the escrow holds; the zero address for the chain's coin.
        admin: grants roles and sets the fee; a multisig, but for a development chain.
        operator: orchestrates deals, keeps classes, mints, and takes back.
        arbiter: decides disputes.
        policy_signer: whose signature sponsors gas; in the paymaster's code for good.
        fee_recipient: where fees go.
        admin_delay_seconds: how long handing the administration on takes.
        metadata_uri: of entitlements without their own, with ``{id}`` in it.
    """

    token: str
    admin: str
    operator: str
    arbiter: str
    policy_signer: str
    fee_recipient: str
    admin_delay_seconds: int = ADMIN_DELAY_SECONDS
    metadata_uri: str = ""

    def arguments(self) -> dict[str, tuple[AbiValue, ...]]:
        """Constructor arguments by contract, in the order they are deployed."""
        delay = self.admin_delay_seconds
        return {
            "AccountFactory": (),
            "Escrow": (self.token, PERMIT2, self.fee_recipient, self.admin, delay),
            "Entitlements": (self.metadata_uri, self.admin, delay),
            "Paymaster": (self.policy_signer, self.admin, delay),
        }

    def roles(self) -> list[tuple[str, str, str]]:
        """(contract, role, holder): what the admin grants after deployment."""
        escrow = [("Escrow", "ORCHESTRATOR_ROLE", self.operator), ("Escrow", "ARBITER_ROLE", self.arbiter)]
        names = ("REGISTRAR_ROLE", "MINTER_ROLE", "REVOKER_ROLE")
        return [*escrow, *(("Entitlements", name, self.operator) for name in names)]


@dataclass(frozen=True, slots=True)
class Deployed:
    """One contract on the chain. `arguments` are the constructor's, as ABI bytes; `code_hash` of its running code."""

    address: str
    arguments: bytes = b""
    code_hash: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Where our contracts are on one chain; kept as JSON beside the program's other state."""

    chain_id: int
    contracts: Mapping[str, Deployed]

    def address(self, name: str) -> str:
        """Raises `NotFound` for a contract that is not deployed."""
        if name not in self.contracts:
            raise NotFound(
                f"{name} is not deployed on chain {self.chain_id}", next_step="run `nexus contracts deploy` for it"
            )
        return self.contracts[name].address

    def addresses(self) -> dict[str, str]:
        return {name: deployed.address for name, deployed in self.contracts.items()}

    def escrow(self, rpc: Rpc) -> Escrow:
        return Escrow(rpc, self.address("Escrow"))

    def entitlements(self, rpc: Rpc) -> Entitlements:
        return Entitlements(rpc, self.address("Entitlements"))

    def factory(self, rpc: Rpc) -> AccountFactory:
        return AccountFactory(rpc, self.address("AccountFactory"))

    def paymaster(self, rpc: Rpc) -> Paymaster:
        return Paymaster(rpc, self.address("Paymaster"))

    def entry_point(self, rpc: Rpc) -> EntryPoint:
        return EntryPoint(rpc, self.address("EntryPoint"))

    @staticmethod
    def path(home: Path, chain_id: int) -> Path:
        return home / "contracts" / f"{chain_id}.json"

    @classmethod
    def load(cls, home: Path, chain_id: int) -> Self:
        """The manifest kept for a chain; raises `NotFound` when nothing was deployed from here."""
        path = cls.path(home, chain_id)
        if not path.exists():
            raise NotFound(
                f"no contracts are known on chain {chain_id}", next_step="run `nexus contracts deploy` for it"
            )
        return cls.from_json(path.read_text(encoding="utf-8"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        try:
            document = json.loads(text)
            contracts = {
                str(name): Deployed(
                    read_address(entry["address"]), from_hex(entry.get("arguments", "0x")), str(entry.get("code_hash"))
                )
                for name, entry in document["contracts"].items()
            }
            return cls(int(document["chain_id"]), contracts)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(
                f"the contracts' manifest cannot be read: {error}", next_step="deploy again; what is there is found"
            ) from error

    def to_json(self) -> str:
        entries = {
            name: {"address": each.address, "arguments": to_hex(each.arguments), "code_hash": each.code_hash}
            for name, each in self.contracts.items()
        }
        return json.dumps({"chain_id": self.chain_id, "contracts": entries}, indent=2) + "\n"

    def save(self, home: Path) -> Path:
        """Atomically; the old one stays until the new one is whole."""
        path = self.path(home, self.chain_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(self.to_json(), encoding="utf-8")
        fresh.replace(path)
        return path


class CodeState(StrEnum):
    AS_BUILT = "as built"
    MISSING = "missing"  # nothing is at the address
    OTHER = "other"  # something is, and it is not what this program's artifacts make


@dataclass(frozen=True, slots=True)
class CodeCheck:
    """One contract of a manifest beside the artifacts of this program. `expected` is where they would be."""

    name: str
    address: str
    expected: str
    state: CodeState


def expected_address(name: str, arguments: bytes = b"") -> str:
    """Where a contract of our artifacts is on every chain, with these constructor arguments."""
    if name == "EntryPoint":
        return ENTRY_POINT
    return create2_address(CREATE2_DEPLOYER, _SALT, load_artifact(name).bytecode + arguments)


async def deploy(
    rpc: Rpc,
    network: Network,
    signer: EvmSigner,
    design: Design,
    *,
    paymaster_deposit_wei: int = 0,
    tell: Callable[[str], None] = lambda _line: None,
) -> Manifest:
    """Put on the chain what is not there yet, grant roles where `signer` is the admin, and fill the paymaster.

    Raises `WrongNetwork`, `PaymentFailed` when a transaction fails, `InsufficientFunds` when the key cannot pay, and
    `Unavailable` when EntryPoint is not on the chain and its package not installed.
    """
    await check_chain(rpc, network)
    work = _Deployment(rpc, network, signer, tell)
    contracts = {"EntryPoint": await work.put_entry_point()}
    for name, values in design.arguments().items():
        contracts[name] = await work.put(name, encode_values(abi_of(name).constructor, values, field=name))
    manifest = Manifest(network.chain_id, contracts)
    clients: dict[str, Contract] = {"Escrow": manifest.escrow(rpc), "Entitlements": manifest.entitlements(rpc)}
    for name, role, holder in design.roles():
        await work.grant(clients[name], role, holder, design.admin)
    await work.fill(manifest, paymaster_deposit_wei)
    return manifest


async def verify_code(rpc: Rpc, manifest: Manifest) -> list[CodeCheck]:
    """Whether each contract of a manifest is the code of this program's artifacts with the arguments it names.

    No compiler is needed: CREATE2 makes an address of the code, so the right address with any code has the right code.
    """
    names = list(manifest.contracts)
    answers = await rpc.batch([RpcCall("eth_getCode", (manifest.address(name), "latest")) for name in names])
    checks = []
    for name, answer in zip(names, answers, strict=True):
        deployed = manifest.contracts[name]
        expected = expected_address(name, deployed.arguments)
        state = CodeState.AS_BUILT if expected == deployed.address else CodeState.OTHER
        checks.append(CodeCheck(name, deployed.address, expected, state if call_data(answer) else CodeState.MISSING))
    return checks


def entry_point_creation() -> bytes:
    """EntryPoint's creation code from its npm package; raises `Unavailable` where that is not installed."""
    for root in (Path.cwd(), *Path(__file__).resolve().parents):
        source = root / _ENTRY_POINT_PACKAGE
        if source.is_file():
            return from_hex(json.loads(source.read_text(encoding="utf-8"))["bytecode"], field="bytecode")
    raise Unavailable(
        "EntryPoint v0.8 is not on this chain, and its package is not installed",
        next_step="run `npm ci` in the project folder",
    )


class _Deployment:
    """One run of `deploy`: looks first, sends only what is missing."""

    def __init__(self, rpc: Rpc, network: Network, signer: EvmSigner, tell: Callable[[str], None]) -> None:
        self._rpc, self._network, self._signer, self._tell = rpc, network, signer, tell

    async def put_entry_point(self) -> Deployed:
        code = await self._code(ENTRY_POINT)
        if not code:
            await self._create("EntryPoint", _ENTRY_POINT_SALT, entry_point_creation())
            code = await self._code(ENTRY_POINT)
        if not code:
            raise Unavailable("the EntryPoint package is not v0.8.0", next_step="run `npm ci` in the project folder")
        return Deployed(ENTRY_POINT, code_hash=to_hex(keccak(code)))

    async def put(self, name: str, arguments: bytes) -> Deployed:
        address = expected_address(name, arguments)
        code = await self._code(address)
        if not code:
            await self._create(name, _SALT, load_artifact(name).bytecode + arguments)
            code = await self._code(address)
        if not code:
            raise PaymentFailed(f"{name} was deployed and is not there", next_step="deploy again; what is there stays")
        return Deployed(address, arguments, to_hex(keccak(code)))

    async def grant(self, contract: Contract, role: str, holder: str, admin: str) -> None:
        if holder == ZERO_ADDRESS or await contract.has_role(role, holder):
            return
        if admin != self._signer.public_id:
            self._tell(f"{contract.NAME}: the admin {admin} has yet to grant {role} to {holder}")
            return
        self._tell(f"{contract.NAME}: {role} to {holder}")
        await self._send(contract.grant_role(role, holder))

    async def fill(self, manifest: Manifest, wei: int) -> None:
        paymaster = manifest.paymaster(self._rpc)
        there = await manifest.entry_point(self._rpc).deposit_of(paymaster.address)
        if there < wei:
            self._tell(f"Paymaster: deposit of {wei - there} wei")
            await self._send(paymaster.deposit(wei - there))

    async def _create(self, name: str, salt: bytes, creation: bytes) -> None:
        self._tell(f"{name}: deploying")
        await self._send(Call(CREATE2_DEPLOYER, salt + creation))

    async def _send(self, call: Call) -> None:
        limits = FeeLimits(maximum_gas=DEPLOYMENT_GAS_MAX)
        await send_directly(self._rpc, self._network, self._signer, call, limits)

    async def _code(self, address: str) -> bytes:
        (answer,) = await self._rpc.batch([RpcCall("eth_getCode", (address, "latest"))])
        return call_data(answer)
