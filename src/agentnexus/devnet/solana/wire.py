"""The cluster's JSON shapes: errors, accounts, and transactions with their outcome."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TypeAlias

from solders.account import Account
from solders.instruction import CompiledInstruction
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import InnerInstruction
from solders.transaction_status import TransactionErrorType, TransactionStatus

from agentnexus.devnet.solana.parsed import Json, amount_json, parse_account, parse_instruction
from agentnexus.rails.solana import base58
from agentnexus.rails.solana.programs import COMPUTE_BUDGET_PROGRAM, MEMO_PROGRAM
from agentnexus.rails.solana.tokens import read_mint, read_token_account

AnyMessage: TypeAlias = "Message | MessageV0"

LAMPORTS_PER_SIGNATURE = 5_000
RENT_EPOCH = 2**64 - 1  # what clusters say since rent collection ended
_DEFAULT_UNITS = 200_000
_DISPLAYED = {
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "SignatureFailure": "Transaction did not pass signature verification",
}


def wire_error(error: TransactionErrorType | None) -> Json:
    """``{"InstructionError": [0, {"Custom": 1}]}`` or a bare name; the error's own `to_json` leaves the names out."""
    if error is None:
        return None
    status: dict[str, Json] = json.loads(TransactionStatus(slot=0, err=error).to_json())
    return status["err"]


def error_text(error: Json) -> str:
    """An error as clusters word it in messages."""
    if isinstance(error, dict) and isinstance(found := error.get("InstructionError"), list):
        index, reason = found
        custom = reason.get("Custom") if isinstance(reason, dict) else None
        named = f"custom program error: 0x{custom:x}" if isinstance(custom, int) else str(reason)
        return f"Error processing Instruction {index}: {named}"
    return _DISPLAYED.get(str(error), str(error))


def account_json(
    account: Account, encoding: str, mint_decimals: int | None = None, data_slice: tuple[int, int] | None = None
) -> dict[str, Json]:
    """One account. `mint_decimals` are those of a token account's mint, for ``jsonParsed``."""
    data = account.data
    if data_slice is not None:
        data = data[data_slice[0] : data_slice[0] + data_slice[1]]
    shown: Json = [base64.b64encode(data).decode(), "base64"]
    if encoding == "base58":
        shown = [base58.encode(data), "base58"]
    elif encoding == "binary":
        shown = base58.encode(data)
    elif encoding == "jsonParsed":
        shown = parse_account(account, mint_decimals) or shown
    return {
        "data": shown,
        "executable": account.executable,
        "lamports": account.lamports,
        "owner": str(account.owner),
        "rentEpoch": RENT_EPOCH,
        "space": len(account.data),
    }


def token_balances(keys: Sequence[Pubkey], accounts: Sequence[Account | None], mints: dict[Pubkey, int]) -> list[Json]:
    """Token balances of a transaction's accounts; `mints` gives decimals."""
    balances: list[Json] = []
    for index, (_, account) in enumerate(zip(keys, accounts, strict=True)):
        token = read_token_account(account.owner, account.data) if account else None
        if account is None or token is None:
            continue
        balances.append(
            {
                "accountIndex": index,
                "mint": str(token.mint),
                "owner": str(token.owner),
                "programId": str(account.owner),
                "uiTokenAmount": amount_json(token.amount, mints.get(token.mint, 0)),
            }
        )
    return balances


def decimals_of(account: Account | None) -> int:
    mint = read_mint(account.owner, account.data) if account else None
    return mint.decimals if mint else 0


def fee_of(message: AnyMessage) -> int:
    """Lamports for the signatures and for priority."""
    return LAMPORTS_PER_SIGNATURE * message.header.num_required_signatures + priority_fee(message)


def priority_fee(message: AnyMessage) -> int:
    """Compute unit price times limit, rounded up."""
    limit = price = others = 0
    for instruction in message.instructions:
        data = bytes(instruction.data)
        if message.account_keys[instruction.program_id_index] != COMPUTE_BUDGET_PROGRAM:
            others += 1
        elif data[:1] == b"\x02":
            limit = int.from_bytes(data[1:5], "little")
        elif data[:1] == b"\x03":
            price = int.from_bytes(data[1:9], "little")
    return -(-(limit or others * _DEFAULT_UNITS) * price // 1_000_000)


def memo_of(message: AnyMessage) -> str | None:
    """Memos as clusters list them: ``[length] text``, several with a semicolon between."""
    keys = message.account_keys
    texts = [bytes(each.data) for each in message.instructions if keys[each.program_id_index] == MEMO_PROGRAM]
    shown = [f"[{len(text)}] {text.decode('utf-8', 'replace')}" for text in texts]
    return "; ".join(shown) or None


def inner_instructions(groups: Sequence[Sequence[InnerInstruction]]) -> list[Json]:
    """The instructions that programs called, by the instruction that caused them."""
    return [
        {"index": index, "instructions": [_compiled(each.instruction(), 2) for each in group]}
        for index, group in enumerate(groups)
        if group
    ]


def _compiled(instruction: CompiledInstruction, height: int | None) -> dict[str, Json]:
    return {
        "programIdIndex": instruction.program_id_index,
        "accounts": list(instruction.accounts),
        "data": base58.encode(bytes(instruction.data)),
        "stackHeight": height,
    }


def transaction_json(transaction: VersionedTransaction, encoding: str, loaded: dict[str, Json]) -> Json:
    """A transaction in one of the cluster's encodings; `loaded` are addresses from lookup tables."""
    raw = bytes(transaction)
    if encoding == "base64":
        return [base64.b64encode(raw).decode(), "base64"]
    if encoding == "base58":
        return [base58.encode(raw), "base58"]
    message = transaction.message
    shown = _parsed_message(message, loaded) if encoding == "jsonParsed" else _plain_message(message)
    return {"signatures": [str(each) for each in transaction.signatures], "message": shown}


def is_writable(message: AnyMessage, index: int) -> bool:
    """By the message's header: of the signers, then of the others, the last ones are read-only."""
    header, count = message.header, len(message.account_keys)
    signers = header.num_required_signatures
    if index < signers:
        return index < signers - header.num_readonly_signed_accounts
    return index < count - header.num_readonly_unsigned_accounts


def version_of(transaction: VersionedTransaction) -> Json:
    return 0 if isinstance(transaction.message, MessageV0) else "legacy"


def _plain_message(message: AnyMessage) -> dict[str, Json]:
    header = message.header
    shown: dict[str, Json] = {
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "accountKeys": [str(key) for key in message.account_keys],
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [_compiled(each, 1) for each in message.instructions],
    }
    return shown | _lookups(message)


def _parsed_message(message: AnyMessage, loaded: dict[str, Json]) -> dict[str, Json]:
    keys: list[Json] = [
        {
            "pubkey": str(key),
            "writable": is_writable(message, index),
            "signer": message.is_signer(index),
            "source": "transaction",
        }
        for index, key in enumerate(message.account_keys)
    ]
    for kind in ("writable", "readonly"):
        found = loaded.get(kind)
        for key in found if isinstance(found, list) else ():
            keys.append({"pubkey": key, "writable": kind == "writable", "signer": False, "source": "lookupTable"})
    addresses = [str(each["pubkey"]) for each in keys if isinstance(each, dict)]
    shown: dict[str, Json] = {
        "accountKeys": keys,
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [parse_instruction(_compiled(each, 1), addresses) for each in message.instructions],
    }
    return shown | _lookups(message)


def _lookups(message: AnyMessage) -> dict[str, Json]:
    if not isinstance(message, MessageV0):
        return {}
    return {
        "addressTableLookups": [
            {
                "accountKey": str(each.account_key),
                "writableIndexes": list(each.writable_indexes),
                "readonlyIndexes": list(each.readonly_indexes),
            }
            for each in message.address_table_lookups
        ]
    }
