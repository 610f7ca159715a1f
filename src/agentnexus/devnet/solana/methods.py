"""All methods by name, one request at a time; also the development-only ones that set time and order faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from agentnexus.core.errors import NexusError
from agentnexus.devnet.solana.accounts import USDC_MINT, fee_mint_keypair, solana_accounts
from agentnexus.devnet.solana.engine import Chain, Pace
from agentnexus.devnet.solana.faults import Fault
from agentnexus.devnet.solana.genesis import mint_tokens
from agentnexus.devnet.solana.history_methods import HistoryMethods
from agentnexus.devnet.solana.parameters import Parameters
from agentnexus.devnet.solana.parsed import Json
from agentnexus.devnet.solana.rpc_errors import (
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MIN_CONTEXT_SLOT_NOT_REACHED,
    RpcError,
    invalid,
)
from agentnexus.devnet.solana.state_methods import StateMethods
from agentnexus.rails.solana.networks import DEVNET

Method: TypeAlias = Callable[[Parameters], Json]
_ADVANCE_MAX = 1_000_000
_DEVELOPMENT_ERROR = -32099


class DevelopmentMethods:
    """``devnet_…``: what no cluster offers."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def advance_slots(self, parameters: Parameters) -> Json:
        """``[slots]``: let them pass at once. The new slot."""
        slots = parameters.whole(0, "slots")
        if slots > _ADVANCE_MAX:
            raise invalid(f"at most {_ADVANCE_MAX} slots at once")
        self._chain.advance(slots)
        return self._chain.slot

    def fault(self, parameters: Parameters) -> Json:
        """``[kind, count = 1]``: what shall go wrong with the next sends."""
        try:
            kind = Fault(parameters.text(0, "fault"))
        except ValueError as error:
            raise invalid("fault must be one of " + ", ".join(Fault)) from error
        self._chain.faults.order(kind, 1 if parameters.value(1) is None else parameters.whole(1, "count"))
        return True

    def release(self, _parameters: Parameters) -> Json:
        """Execute held sends, confirm held transactions, forget faults that are still due."""
        self._chain.faults.clear()
        self._chain.release()
        return True

    def set_pace(self, parameters: Parameters) -> Json:
        """``[{instant}]``: whether a transaction ends its slot."""
        instant = parameters.options(0).get("instant")
        now = self._chain.pace
        self._chain.pace = Pace(now.slot_milliseconds, now.finality_slots, bool(instant))
        return True

    def mint(self, parameters: Parameters) -> Json:
        """``[owner, mint, atomic]``: new tokens. The signature."""
        owner, mint, atomic = parameters.key(0), parameters.key(1), parameters.whole(2, "amount")
        return str(mint_tokens(self._chain, owner, mint, atomic))

    def describe(self, _parameters: Parameters) -> Json:
        """Network, mints and accounts with their keys, which are public."""
        accounts: dict[str, Json] = {
            account.name: {"address": account.address, "keypair": list(bytes(account.keypair))}
            for account in solana_accounts().values()
        }
        return {
            "network": DEVNET.caip2,
            "usdc_mint": str(USDC_MINT),
            "fee_mint": str(fee_mint_keypair().pubkey()),
            "accounts": accounts,
        }


def _all_methods(chain: Chain) -> Mapping[str, Method]:
    state = StateMethods(chain)
    history = HistoryMethods(chain, state)
    development = DevelopmentMethods(chain)
    return {
        "getAccountInfo": state.get_account_info,
        "getMultipleAccounts": state.get_multiple_accounts,
        "getBalance": state.get_balance,
        "getTokenAccountBalance": state.get_token_account_balance,
        "getTokenSupply": state.get_token_supply,
        "getTokenAccountsByOwner": state.get_token_accounts_by_owner,
        "getProgramAccounts": state.get_program_accounts,
        "getMinimumBalanceForRentExemption": state.get_minimum_balance,
        "getLatestBlockhash": state.get_latest_blockhash,
        "isBlockhashValid": state.is_blockhash_valid,
        "getFeeForMessage": state.get_fee_for_message,
        "getSlot": state.get_slot,
        "getBlockHeight": state.get_block_height,
        "getEpochInfo": state.get_epoch_info,
        "getBlockTime": state.get_block_time,
        "getRecentPrioritizationFees": state.get_recent_prioritization_fees,
        "getTransactionCount": state.get_transaction_count,
        "getHealth": state.get_health,
        "getVersion": state.get_version,
        "getGenesisHash": state.get_genesis_hash,
        "sendTransaction": history.send_transaction,
        "simulateTransaction": history.simulate_transaction,
        "requestAirdrop": history.request_airdrop,
        "getSignatureStatuses": history.get_signature_statuses,
        "getTransaction": history.get_transaction,
        "getSignaturesForAddress": history.get_signatures_for_address,
        "devnet_advanceSlots": development.advance_slots,
        "devnet_fault": development.fault,
        "devnet_release": development.release,
        "devnet_setPace": development.set_pace,
        "devnet_mint": development.mint,
        "devnet_describe": development.describe,
    }


class Dispatcher:
    """Requests in, answers out, both as Python values."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._methods = _all_methods(chain)

    def answer(self, request: object) -> dict[str, Json]:
        """The JSON-RPC answer to one request, which may be anything at all."""
        number: Json = None
        try:
            if not isinstance(request, dict) or not isinstance(method := request.get("method"), str):
                raise RpcError(INVALID_REQUEST, "Invalid request")
            number = request.get("id")
            return {"jsonrpc": "2.0", "result": self.call(method, request.get("params")), "id": number}
        except RpcError as error:
            return {"jsonrpc": "2.0", "error": error.to_json(), "id": number}

    def call(self, method: str, parameters: object) -> Json:
        """Raises `RpcError`."""
        known = self._methods.get(method)
        if known is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found")
        if parameters is not None and not isinstance(parameters, list):
            raise invalid("expected an array")
        self._require_slot(parameters or [])
        try:
            return known(Parameters(parameters or []))
        except NexusError as error:
            raise RpcError(_DEVELOPMENT_ERROR, error.message) from error

    def _require_slot(self, parameters: list[Json]) -> None:
        """``minContextSlot``: the caller has seen a later slot on another node."""
        options = parameters[-1] if parameters else None
        wanted = options.get("minContextSlot") if isinstance(options, dict) else None
        if isinstance(wanted, int) and wanted > self._chain.slot:
            data: Json = {"contextSlot": self._chain.slot}
            raise RpcError(MIN_CONTEXT_SLOT_NOT_REACHED, "Minimum context slot has not been reached", data)
