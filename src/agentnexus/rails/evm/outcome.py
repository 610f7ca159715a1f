"""What became of an authorisation, read from the chain by payer and nonce."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.encoding import quantity, to_hex, uint, word
from agentnexus.rails.evm.errors import ChainUnavailable
from agentnexus.rails.evm.networks import Network
from agentnexus.rails.evm.receipts import Log
from agentnexus.rails.evm.rpc import Call, Rpc, RpcValue, call_data, call_object, eth_call
from agentnexus.rails.evm.token import CANCELED_TOPIC, USED_TOPIC, authorization_state_call

# What public nodes allow in one question; the window of an authorisation is usually far shorter.
_LOG_SPAN_BLOCKS = 2_000
_REORG_MARGIN_BLOCKS = 16


class OutcomeKind(StrEnum):
    OPEN = "open"
    USED = "used"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNCLEAR = "unclear"  # the nonce is used up, the event is not to be found yet


@dataclass(frozen=True, slots=True)
class AuthorizationOutcome:
    kind: OutcomeKind
    transaction: str | None = None
    block_number: int | None = None


class OutcomeReader:
    """Reads outcomes on one node, events in spans of `span_blocks`."""

    def __init__(self, rpc: Rpc, network: Network, *, span_blocks: int = _LOG_SPAN_BLOCKS) -> None:
        self._span = span_blocks
        self._rpc = rpc
        self._network = network

    async def read(
        self, token: str, payer: str, nonce: bytes, *, valid_before: int, from_block: int
    ) -> AuthorizationOutcome:
        """State and block are read in one round trip; `from_block` is one at or before the signing."""
        question = authorization_state_call(payer, nonce)
        state, head = await self._rpc.batch(
            [
                eth_call(token, question),
                Call("eth_getBlockByNumber", (self._network.trial_block, False)),
            ]
        )
        block = call_object(head)
        if block is None:
            raise ChainUnavailable("the chain's node has no latest block")
        used = bool(uint(call_data(state)))
        if not used:
            if quantity(block["timestamp"], field="timestamp") < valid_before:
                return AuthorizationOutcome(OutcomeKind.OPEN)
            # The state may be of an earlier block than the time. Expired means money back, so both must be of one.
            used = bool(uint(await self._rpc.read_contract(token, question, block=self._same_block(block))))
        if not used:
            return AuthorizationOutcome(OutcomeKind.EXPIRED)
        latest = quantity(block["number"], field="number")
        return await self._find_event(token, payer, nonce, from_block=from_block, latest=latest)

    def _same_block(self, block: dict[str, RpcValue]) -> str:
        pending = self._network.trial_block == "pending"
        return "pending" if pending else hex(quantity(block["number"], field="number"))

    async def _find_event(
        self, token: str, payer: str, nonce: bytes, *, from_block: int, latest: int
    ) -> AuthorizationOutcome:
        topics: list[RpcValue] = [[USED_TOPIC, CANCELED_TOPIC], to_hex(word(payer)), to_hex(nonce)]
        first = max(0, min(from_block, latest) - _REORG_MARGIN_BLOCKS)
        for start in range(first, latest + 1, self._span):
            question: dict[str, RpcValue] = {
                "address": token,
                "topics": topics,
                "fromBlock": hex(start),
                "toBlock": hex(min(start + self._span - 1, latest)),
            }
            found = await self._rpc.call("eth_getLogs", question)
            if not isinstance(found, list):
                raise InvalidInput("eth_getLogs did not answer with a list", field="logs")
            for log in map(Log.from_json, found):
                kind = OutcomeKind.USED if log.topics[0] == USED_TOPIC else OutcomeKind.CANCELLED
                return AuthorizationOutcome(kind, log.transaction, log.block_number)
        return AuthorizationOutcome(OutcomeKind.UNCLEAR)
