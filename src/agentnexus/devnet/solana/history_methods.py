"""JSON-RPC methods that send and simulate transactions, and tell what became of them."""

from __future__ import annotations

from solders.account import Account
from solders.pubkey import Pubkey

from agentnexus.devnet.solana.engine import Chain, Outcome
from agentnexus.devnet.solana.genesis import give_sol
from agentnexus.devnet.solana.ledger import Sent
from agentnexus.devnet.solana.parameters import (
    COMMITMENTS,
    Options,
    Parameters,
    read_key,
    read_signature,
    read_transaction,
)
from agentnexus.devnet.solana.parsed import Json, parse_instruction
from agentnexus.devnet.solana.rpc_errors import (
    PREFLIGHT_FAILURE,
    SIGNATURE_FAILURE,
    UNSUPPORTED_VERSION,
    RpcError,
    invalid,
)
from agentnexus.devnet.solana.state_methods import StateMethods
from agentnexus.devnet.solana.wire import error_text, memo_of, transaction_json, version_of

_STATUSES_MAX = 256
_SIGNATURES_MAX = 1_000
_NEWEST = 2**62


class HistoryMethods:
    """Every method takes the request's parameters and returns its result, or raises `RpcError`."""

    def __init__(self, chain: Chain, state: StateMethods) -> None:
        self._chain = chain
        self._state = state

    def send_transaction(self, parameters: Parameters) -> Json:
        options = parameters.options(1)
        transaction = read_transaction(parameters.text(0, "transaction"), options.encoding("base58"))
        if not options.flag("skipPreflight"):
            outcome = self._chain.simulate(transaction)
            if outcome.error == "SignatureFailure":
                raise RpcError(SIGNATURE_FAILURE, "Transaction signature verification failure")
            if outcome.error is not None:
                message = f"Transaction simulation failed: {error_text(outcome.error)}"
                raise RpcError(PREFLIGHT_FAILURE, message, self._simulated(outcome, Options({})))
        self._chain.send(transaction)
        return str(transaction.signatures[0])

    def simulate_transaction(self, parameters: Parameters) -> Json:
        options = parameters.options(1)
        transaction = read_transaction(parameters.text(0, "transaction"), options.encoding("base58"))
        verify, replace = options.flag("sigVerify"), options.flag("replaceRecentBlockhash")
        if verify and replace:
            raise invalid("sigVerify may not be used with replaceRecentBlockhash")
        outcome = self._chain.simulate(transaction, verify=verify, any_blockhash=replace)
        if outcome.error == "SignatureFailure":
            raise RpcError(SIGNATURE_FAILURE, "Transaction signature verification failure")
        simulated = self._simulated(outcome, options)
        if replace:
            blockhash, last_height = self._chain.blockhash()
            simulated["replacementBlockhash"] = {"blockhash": str(blockhash), "lastValidBlockHeight": last_height}
        return self._state.in_context(simulated)

    def _simulated(self, outcome: Outcome, options: Options) -> dict[str, Json]:
        wanted = options.get("accounts")
        accounts: Json = None
        if isinstance(wanted, dict) and isinstance(addresses := wanted.get("addresses"), list):
            after = dict(outcome.accounts)
            shape = Options(wanted)
            accounts = [self._after(read_key(each), after, shape) for each in addresses]
        return {
            "err": outcome.error,
            "logs": list(outcome.logs),
            "accounts": accounts,
            "unitsConsumed": outcome.units,
            "returnData": None,
            "innerInstructions": list(outcome.inner) if options.flag("innerInstructions") else None,
            "replacementBlockhash": None,
        }

    def _after(self, address: Pubkey, after: dict[Pubkey, Account], shape: Options) -> Json:
        return self._state.shown_account(after.get(address) or self._chain.account(address), shape, "base64")

    def request_airdrop(self, parameters: Parameters) -> Json:
        return str(give_sol(self._chain, parameters.key(0), parameters.whole(1, "lamports")))

    def get_signature_statuses(self, parameters: Parameters) -> Json:
        wanted = parameters.required(0, "signatures")
        if not isinstance(wanted, list) or len(wanted) > _STATUSES_MAX:
            raise invalid(f"Too many inputs provided; max {_STATUSES_MAX}")
        found = [self._chain.ledger.find(read_signature(each)) for each in wanted]
        return self._state.in_context([self._status(each) if each else None for each in found])

    def _status(self, sent: Sent) -> Json:
        level = self._chain.commitment(sent)
        confirmations = None if level == "finalized" else max(0, self._chain.slot - sent.slot)
        if level == "processed":
            confirmations = 0
        return {
            "slot": sent.slot,
            "confirmations": confirmations,
            "err": sent.error,
            "status": {"Ok": None} if sent.error is None else {"Err": sent.error},
            "confirmationStatus": level,
        }

    def reached(self, sent: Sent, commitment: str) -> bool:
        """Whether a transaction is at least as final as asked."""
        return COMMITMENTS.index(self._chain.commitment(sent)) >= COMMITMENTS.index(commitment)

    def get_transaction(self, parameters: Parameters) -> Json:
        if isinstance(parameters.value(1), str):  # the old form: the encoding alone
            options = Options({"encoding": parameters.value(1)})
        else:
            options = parameters.options(1)
        sent = self._chain.ledger.find(read_signature(parameters.text(0, "signature")))
        if sent is None or not self.reached(sent, options.commitment):
            return None
        transaction = sent.transaction
        version = version_of(transaction)
        newest = options.get("maxSupportedTransactionVersion")
        if version != "legacy" and newest is None:
            raise RpcError(
                UNSUPPORTED_VERSION,
                "Transaction version (0) is not supported by the requesting client. Please try the request again with"
                ' the following configuration parameter: "maxSupportedTransactionVersion": 0',
            )
        encoding = options.encoding("json")
        loaded = sent.outcome["loadedAddresses"]
        shown: dict[str, Json] = {
            "slot": sent.slot,
            "blockTime": sent.unix_seconds,
            "transaction": transaction_json(transaction, encoding, loaded if isinstance(loaded, dict) else {}),
            "meta": self._meta(sent, encoding),
        }
        if newest is not None:
            shown["version"] = version
        return shown

    def _meta(self, sent: Sent, encoding: str) -> dict[str, Json]:
        meta: dict[str, Json] = {
            "err": sent.error,
            "status": {"Ok": None} if sent.error is None else {"Err": sent.error},
            **sent.outcome,
        }
        if encoding == "jsonParsed":
            keys = [str(key) for key in self._chain.keys(sent.transaction.message).all]
            meta["innerInstructions"] = _parsed_groups(sent.outcome["innerInstructions"], keys)
        return meta

    def get_signatures_for_address(self, parameters: Parameters) -> Json:
        address = parameters.key(0)
        options = parameters.options(1)
        if options.commitment == "processed":
            raise invalid("Method does not support commitment below `confirmed`")
        limit = options.limit("limit", _SIGNATURES_MAX)
        below = self._number_of(options.get("before"), _NEWEST)
        above = self._number_of(options.get("until"), 0)
        listed: list[Json] = []
        while len(listed) < limit:
            page = self._chain.ledger.mentions(address, below=below, above=above, limit=limit)
            listed += [self._signature_line(sent) for sent in page if self.reached(sent, options.commitment)]
            if len(page) < limit:
                break
            below = page[-1].number
        return listed[:limit]

    def _number_of(self, signature: Json, otherwise: int) -> int:
        if signature is None:
            return otherwise
        sent = self._chain.ledger.find(read_signature(signature))
        return sent.number if sent else otherwise

    def _signature_line(self, sent: Sent) -> Json:
        return {
            "signature": str(sent.signature),
            "slot": sent.slot,
            "err": sent.error,
            "memo": memo_of(sent.transaction.message),
            "blockTime": sent.unix_seconds,
            "confirmationStatus": self._chain.commitment(sent),
        }


def _parsed_groups(groups: Json, keys: list[str]) -> Json:
    parsed: list[Json] = []
    for group in groups if isinstance(groups, list) else ():
        if isinstance(group, dict) and isinstance(calls := group["instructions"], list):
            words: list[Json] = [parse_instruction(each, keys) for each in calls if isinstance(each, dict)]
            parsed.append({**group, "instructions": words})
    return parsed
