"""Contracts by their committed ABI on the session's chain: deploy, call, read; and the published EntryPoint."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest
from eth_abi.abi import decode, encode

from agentnexus.devnet.chain import DevelopmentChain
from agentnexus.platform.process import wait_until_ready
from agentnexus.rails.evm.contracts.artifacts import load_artifact
from agentnexus.rails.evm.encoding import keccak, quantity, selector, to_hex
from agentnexus.rails.evm.rpc import RpcValue

ROOT = Path(__file__).resolve().parents[2]
ENTRY_POINT = "0x4337084d9e255ff0702461cf8895ce9e3b5ff108"
_ENTRY_POINT_SALT = bytes.fromhex("0a59dbff790c23c976a548690c27297883cc66b4c67024f9117b0238995e35e9")
_CREATE2 = "0x4e59b44847b379578588920ca78fbf26c0b4956c"
_GAS = 8_000_000

Abi: TypeAlias = list[dict[str, object]]
Value: TypeAlias = "str | int | bool | bytes | tuple[Value, ...] | list[Value]"


@dataclass(frozen=True)
class Contract:
    """A deployed contract and its ABI; all calls are sent by accounts that the node itself unlocks."""

    chain: DevelopmentChain
    address: str
    abi: Abi

    def data(self, name: str, *values: Value) -> bytes:
        """Calldata of a function."""
        types = [_type(each) for each in _inputs(self.abi, name)]
        return selector(f"{name}({','.join(types)})") + encode(types, values)

    async def send(self, sender: str, name: str, *values: Value, value: int = 0) -> int:
        """Mine a call; gas used. Fails the test when it reverts."""
        return await transact(self.chain, sender, self.address, self.data(name, *values), value)

    async def read(self, name: str, *values: Value) -> Value:
        """The one value a view returns."""
        answer = await self.chain.rpc.read_contract(self.address, self.data(name, *values))
        (entry,) = (each for each in self.abi if each.get("name") == name)
        outputs = entry["outputs"]
        assert isinstance(outputs, list)
        result: Value = decode([_type(each) for each in outputs], answer)[0]
        return result


async def transact(chain: DevelopmentChain, sender: str, to: str, data: bytes, value: int = 0) -> int:
    """Mine a transaction of an unlocked account; gas used."""
    return quantity((await _mined(chain, sender, to, data, value))["gasUsed"])


async def _mined(
    chain: DevelopmentChain, sender: str, to: str | None, data: bytes, value: int = 0
) -> dict[str, RpcValue]:
    fields: dict[str, RpcValue] = {"from": sender, "data": to_hex(data), "gas": hex(_GAS), "value": hex(value)}
    if to:
        fields["to"] = to
    sent = str(await chain.rpc.call("eth_sendTransaction", fields))
    receipts: list[dict[str, RpcValue]] = []

    async def mined() -> bool:
        answer = await chain.rpc.call("eth_getTransactionReceipt", sent)
        if isinstance(answer, dict):
            receipts.append(answer)
        return bool(receipts)

    await wait_until_ready(mined, what="a transaction", timeout_seconds=20)
    assert quantity(receipts[0]["status"]) == 1, f"{to} refused {data[:4].hex()}"
    return receipts[0]


async def deploy(chain: DevelopmentChain, name: str, *values: Value) -> Contract:
    """Put one of our contracts on the chain from its committed bytecode."""
    artifact = load_artifact(name)
    constructors = [each for each in artifact.abi if each["type"] == "constructor"]
    types = [_type(each) for each in _list(constructors[0]["inputs"])] if constructors else []
    deployer = chain.accounts["deployer"].address
    receipt = await _mined(chain, deployer, None, artifact.bytecode + encode(types, values))
    return Contract(chain, str(receipt["contractAddress"]), artifact.abi)


@pytest.fixture
async def entry_point(chain: DevelopmentChain) -> AsyncIterator[Contract]:
    """ERC-4337's EntryPoint v0.8 from its package, at the address it has on every chain."""
    source = ROOT / "node_modules/@account-abstraction/contracts/artifacts/EntryPoint.json"
    if not source.is_file():
        pytest.skip("EntryPoint comes with `npm ci`")
    document = json.loads(source.read_text())
    creation = bytes.fromhex(document["bytecode"].removeprefix("0x"))
    await transact(chain, chain.accounts["deployer"].address, _CREATE2, _ENTRY_POINT_SALT + creation)
    code = await chain.rpc.call("eth_getCode", ENTRY_POINT, "latest")
    assert code != "0x", "the package's EntryPoint is not the canonical one"
    yield Contract(chain, ENTRY_POINT, document["abi"])


def role(name: str) -> bytes:
    return keccak(name.encode())


def _inputs(abi: Abi, name: str) -> Sequence[dict[str, object]]:
    (entry,) = (each for each in abi if each.get("name") == name and each["type"] == "function")
    return _list(entry["inputs"])


def _list(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)
    return value


def _type(parameter: dict[str, object]) -> str:
    kind = str(parameter["type"])
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(_type(each) for each in _list(parameter["components"]))
    return f"({inner}){kind.removeprefix('tuple')}"
