"""JSON-RPC methods that read accounts, blockhashes and the chain's place."""

from __future__ import annotations

from solders.account import Account

from agentnexus.devnet.solana.engine import Chain
from agentnexus.devnet.solana.parameters import Options, Parameters, read_bytes, read_hash, read_key, read_message
from agentnexus.devnet.solana.parsed import Json, amount_json
from agentnexus.devnet.solana.rpc_errors import invalid
from agentnexus.devnet.solana.wire import account_json, decimals_of, fee_of
from agentnexus.rails.solana.networks import DEVNET
from agentnexus.rails.solana.programs import TOKEN_PROGRAMS
from agentnexus.rails.solana.tokens import read_mint, read_token_account

# The cluster version whose rules LiteSVM of this release follows; the suffix tells people what they talk to.
VERSION = "2.3.0"
FEATURE_SET = 3640012085
_ACCOUNTS_MAX = 100
_SLOTS_PER_EPOCH = 432_000
_FEE_SLOTS = 150


class StateMethods:
    """Every method takes the request's parameters and returns its result, or raises `RpcError`."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def in_context(self, value: Json) -> Json:
        return {"context": {"apiVersion": VERSION, "slot": self._chain.slot}, "value": value}

    def shown_account(self, account: Account | None, options: Options, default: str = "binary") -> Json:
        if account is None:
            return None
        encoding = options.account_encoding(default)
        token = read_token_account(account.owner, account.data) if encoding == "jsonParsed" else None
        decimals = decimals_of(self._chain.account(token.mint)) if token else None
        return account_json(account, encoding, decimals, options.data_slice)

    def get_account_info(self, parameters: Parameters) -> Json:
        account = self._chain.account(parameters.key(0))
        return self.in_context(self.shown_account(account, parameters.options(1)))

    def get_multiple_accounts(self, parameters: Parameters) -> Json:
        keys = parameters.required(0, "pubkeys")
        if not isinstance(keys, list) or len(keys) > _ACCOUNTS_MAX:
            raise invalid(f"Too many inputs provided; max {_ACCOUNTS_MAX}")
        accounts = [self._chain.account(read_key(key)) for key in keys]
        return self.in_context([self.shown_account(each, parameters.options(1), "base64") for each in accounts])

    def get_balance(self, parameters: Parameters) -> Json:
        account = self._chain.account(parameters.key(0))
        return self.in_context(account.lamports if account else 0)

    def get_token_account_balance(self, parameters: Parameters) -> Json:
        account = self._chain.account(parameters.key(0))
        token = read_token_account(account.owner, account.data) if account else None
        if token is None:
            raise invalid("could not find account" if account is None else "not a Token account")
        return self.in_context(amount_json(token.amount, decimals_of(self._chain.account(token.mint))))

    def get_token_supply(self, parameters: Parameters) -> Json:
        account = self._chain.account(parameters.key(0))
        mint = read_mint(account.owner, account.data) if account else None
        if mint is None:
            raise invalid("could not find account" if account is None else "not a Token mint")
        return self.in_context(amount_json(mint.supply, mint.decimals))

    def get_token_accounts_by_owner(self, parameters: Parameters) -> Json:
        wanted = parameters.required(1, "mint or programId")
        if not isinstance(wanted, dict):
            raise invalid("mint or programId must be given")
        mint = read_key(wanted["mint"]) if "mint" in wanted else None
        program = read_key(wanted["programId"]) if "programId" in wanted else None
        if mint is not None and self._chain.account(mint) is None:
            raise invalid("could not find mint")
        if mint is None and program not in TOKEN_PROGRAMS:
            raise invalid("unrecognized Token program id")
        options = parameters.options(2)
        found: list[Json] = []
        for address in self._chain.ledger.token_accounts(parameters.key(0)):
            account = self._chain.account(address)
            token = read_token_account(account.owner, account.data) if account else None
            if account and token and (token.mint == mint if mint else account.owner == program):
                found.append({"pubkey": str(address), "account": self.shown_account(account, options)})
        return self.in_context(found)

    def get_program_accounts(self, parameters: Parameters) -> Json:
        options = parameters.options(1)
        found: list[Json] = []
        for address in self._chain.ledger.program_accounts(parameters.key(0)):
            account = self._chain.account(address)
            if account and _passes(account, options.get("filters")):
                found.append({"pubkey": str(address), "account": self.shown_account(account, options)})
        return self.in_context(found) if options.flag("withContext") else found

    def get_minimum_balance(self, parameters: Parameters) -> Json:
        return self._chain.rent(parameters.whole(0, "data length"))

    def get_latest_blockhash(self, parameters: Parameters) -> Json:
        parameters.options(0)
        blockhash, last_height = self._chain.blockhash()
        return self.in_context({"blockhash": str(blockhash), "lastValidBlockHeight": last_height})

    def is_blockhash_valid(self, parameters: Parameters) -> Json:
        return self.in_context(self._chain.is_current(read_hash(parameters.required(0, "blockhash"))))

    def get_fee_for_message(self, parameters: Parameters) -> Json:
        message = read_message(parameters.text(0, "message"))
        if not self._chain.is_current(message.recent_blockhash):
            return self.in_context(None)
        return self.in_context(fee_of(message))

    def get_slot(self, parameters: Parameters) -> Json:
        behind = self._chain.pace.finality_slots if parameters.options(0).commitment == "finalized" else 0
        return max(0, self._chain.slot - behind)

    def get_block_height(self, parameters: Parameters) -> Json:
        behind = self._chain.pace.finality_slots if parameters.options(0).commitment == "finalized" else 0
        return max(0, self._chain.height - behind)

    def get_epoch_info(self, parameters: Parameters) -> Json:
        parameters.options(0)
        epoch, index = divmod(self._chain.slot, _SLOTS_PER_EPOCH)
        return {
            "absoluteSlot": self._chain.slot,
            "blockHeight": self._chain.height,
            "epoch": epoch,
            "slotIndex": index,
            "slotsInEpoch": _SLOTS_PER_EPOCH,
            "transactionCount": self._chain.transaction_count,
        }

    def get_block_time(self, parameters: Parameters) -> Json:
        slot = parameters.whole(0, "slot")
        known = self._chain.ledger.time_of_slot(slot)
        if known is None and slot <= self._chain.slot:
            behind = (self._chain.slot - slot) * self._chain.pace.slot_milliseconds // 1000
            return self._chain.unix_seconds - behind
        return known

    def get_recent_prioritization_fees(self, parameters: Parameters) -> Json:
        keys = parameters.value(0)
        for key in keys if isinstance(keys, list) else ():
            read_key(key)
        newest = self._chain.slot
        return [{"slot": slot, "prioritizationFee": 0} for slot in range(max(0, newest - _FEE_SLOTS + 1), newest + 1)]

    def get_transaction_count(self, parameters: Parameters) -> Json:
        parameters.options(0)
        return self._chain.transaction_count

    def get_health(self, _parameters: Parameters) -> Json:
        return "ok"

    def get_version(self, _parameters: Parameters) -> Json:
        return {"solana-core": VERSION, "feature-set": FEATURE_SET}

    def get_genesis_hash(self, _parameters: Parameters) -> Json:
        return DEVNET.genesis_hash


def _passes(account: Account, filters: Json) -> bool:
    for each in filters if isinstance(filters, list) else ():
        if not isinstance(each, dict):
            raise invalid("a filter must be an object")
        if "dataSize" in each and len(account.data) != each["dataSize"]:
            return False
        compare = each.get("memcmp")
        if isinstance(compare, dict) and not _same(account.data, compare):
            return False
    return True


def _same(data: bytes, compare: dict[str, Json]) -> bool:
    offset = compare.get("offset")
    if not isinstance(offset, int):
        raise invalid("memcmp needs an offset")
    stated = compare.get("bytes")
    wanted = read_bytes(str(stated), str(compare.get("encoding") or "base58"))
    return data[offset : offset + len(wanted)] == wanted
