"""Whatever is sent, the answer is as JSON-RPC says: a result, or an error with a code, and never a fault of ours."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator

import pytest

from agentnexus.core.errors import NexusError
from agentnexus.rails.evm.contracts.entry_point import ENTRY_POINT
from agentnexus.rails.evm.paymaster.jsonrpc import METHODS, REQUESTS_MAX, answer
from agentnexus.rails.evm.paymaster.routes import _parsed, _Unread
from agentnexus.rails.evm.rpc import RpcValue
from tests.paymaster.conftest import Desk

MUTATIONS = 150
JUNK: tuple[RpcValue, ...] = (
    None,
    True,
    -1,
    1.5,
    "",
    "0x",
    "0xzz",
    "0x" + "f" * 64,
    "0x" + "f" * 65,
    "0x" + "00" * 20,
    "0x7702",
    "\0",
    "ü" * 500,
    [],
    {},
    [[]],
    {"address": "0x12"},
    10**30,
)


def mutated(request: dict[str, RpcValue], chance: random.Random) -> RpcValue:
    """The request with one value anywhere in it replaced, left out or doubled."""
    changed: RpcValue = copy.deepcopy(request)
    places = list(_places(changed))
    holder, key = chance.choice(places)
    if isinstance(holder, dict) and isinstance(key, str):
        if chance.random() < 0.3:
            del holder[key]
        else:
            holder[key] = chance.choice(JUNK)
    elif isinstance(holder, list) and isinstance(key, int):
        if chance.random() < 0.3:
            holder.insert(key, copy.deepcopy(holder[key]))
        else:
            holder[key] = chance.choice(JUNK)
    return changed


def _places(value: RpcValue) -> Iterator[tuple[RpcValue, str | int]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield value, key
            yield from _places(inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield value, index
            yield from _places(inner)


@pytest.mark.parametrize("method", sorted(METHODS))
async def test_a_request_with_anything_wrong_in_it_is_answered(desk: Desk, method: str) -> None:
    service, chance = desk.service(), random.Random(method)
    operation = (await desk.unsigned()).to_json()
    parameters: list[RpcValue] = [operation, ENTRY_POINT, hex(31337), {"policyId": "tests"}]
    if method == "pm_sponsorUserOperation":
        del parameters[2]
    request: dict[str, RpcValue] = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    outcomes = set()
    for _ in range(MUTATIONS):
        found = await answer(service, "alice", mutated(request, chance))
        if found is None:
            continue  # its id was taken away: a notification
        assert isinstance(found, dict)
        json.dumps(found)
        if "error" in found:
            error = found["error"]
            assert isinstance(error, dict)
            assert isinstance(error["code"], int)
            assert error["message"]
            outcomes.add("error")
        else:
            outcomes.add("result")
    assert outcomes == {"error", "result"}


async def test_a_batch_has_a_bound(desk: Desk) -> None:
    request: dict[str, RpcValue] = {"jsonrpc": "2.0", "id": 1, "method": "pm_getPaymasterStubData", "params": []}
    most = await answer(desk.service(), "alice", [request] * REQUESTS_MAX)
    assert isinstance(most, list)
    assert len(most) == REQUESTS_MAX
    refused = await answer(desk.service(), "alice", [request] * (REQUESTS_MAX + 1))
    assert isinstance(refused, dict)
    assert "error" in refused


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"{", b"NaN", b'{"id": Infinity}', b'{"id": "\\ud800"}', b"[" * 50_000, b"1" * 5_000],
)
def test_what_no_answer_could_repeat_is_not_read(body: bytes) -> None:
    with pytest.raises(_Unread):
        _parsed(body)


def test_the_errors_of_the_room_are_of_the_family() -> None:
    assert not issubclass(_Unread, NexusError)
    assert _parsed(b'{"id": 1}') == {"id": 1}
