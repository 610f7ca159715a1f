"""``jsonParsed``: token accounts, mints, transfers and memos in words; anything else stays as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from solders.account import Account
from solders.pubkey import Pubkey

from agentnexus.rails.solana import base58
from agentnexus.rails.solana.programs import MEMO_PROGRAM, SYSTEM_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAMS
from agentnexus.rails.solana.tokens import read_mint, read_token_account

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
_SYSTEM_TRANSFER, _TOKEN_TRANSFER, _TOKEN_TRANSFER_CHECKED = 2, 3, 12


def program_name(program: Pubkey) -> str:
    return "spl-token-2022" if program == TOKEN_2022_PROGRAM else "spl-token"


def parse_account(account: Account, mint_decimals: int | None) -> dict[str, Json] | None:
    """None for what is neither a mint nor a token account of a known mint."""
    parsed: dict[str, Json]
    if mint := read_mint(account.owner, account.data):
        parsed = {
            "type": "mint",
            "info": {
                "decimals": mint.decimals,
                "freezeAuthority": None,
                "isInitialized": True,
                "mintAuthority": str(mint.authority) if mint.authority else None,
                "supply": str(mint.supply),
            },
        }
    elif (token := read_token_account(account.owner, account.data)) and mint_decimals is not None:
        parsed = {
            "type": "account",
            "info": {
                "isNative": False,
                "mint": str(token.mint),
                "owner": str(token.owner),
                "state": token.state,
                "tokenAmount": amount_json(token.amount, mint_decimals),
            },
        }
    else:
        return None
    return {"program": program_name(account.owner), "parsed": parsed, "space": len(account.data)}


def amount_json(amount: int, decimals: int) -> dict[str, Json]:
    """UiTokenAmount."""
    whole, rest = divmod(amount, 10**decimals)
    text = f"{whole}.{rest:0{decimals}d}".rstrip("0").rstrip(".") if decimals else str(whole)
    return {"amount": str(amount), "decimals": decimals, "uiAmount": amount / 10**decimals, "uiAmountString": text}


def parse_instruction(compiled: dict[str, Json], keys: Sequence[str]) -> dict[str, Json]:
    """One compiled instruction in words where we have them; program and accounts by address in any case."""
    indexes = compiled["accounts"]
    accounts = [keys[each] for each in indexes if isinstance(each, int)] if isinstance(indexes, list) else []
    program_index = compiled["programIdIndex"]
    program = keys[program_index] if isinstance(program_index, int) else ""
    data = base58.decode(str(compiled["data"]))
    shared: dict[str, Json] = {"programId": program, "stackHeight": compiled["stackHeight"]}
    words = _words(Pubkey.from_string(program), data, accounts)
    if words is None:
        listed: list[Json] = list(accounts)
        return {**shared, "accounts": listed, "data": compiled["data"]}
    name, parsed = words
    return {**shared, "program": name, "parsed": parsed}


def _words(program: Pubkey, data: bytes, accounts: Sequence[str]) -> tuple[str, Json] | None:
    if program == MEMO_PROGRAM:
        return "spl-memo", data.decode("utf-8", "replace")
    if program == SYSTEM_PROGRAM and len(data) == 12 and data[0] == _SYSTEM_TRANSFER and len(accounts) >= 2:
        lamports = int.from_bytes(data[4:], "little")
        info: dict[str, Json] = {"source": accounts[0], "destination": accounts[1], "lamports": lamports}
        return "system", {"type": "transfer", "info": info}
    if program in TOKEN_PROGRAMS and data:
        amount = int.from_bytes(data[1:9], "little")
        if data[0] == _TOKEN_TRANSFER and len(data) == 9 and len(accounts) >= 3:
            source, destination, authority = accounts[:3]
            info = {"source": source, "destination": destination, "authority": authority, "amount": str(amount)}
            return program_name(program), {"type": "transfer", "info": info}
        if data[0] == _TOKEN_TRANSFER_CHECKED and len(data) == 10 and len(accounts) >= 4:
            source, mint, destination, authority = accounts[:4]
            info = {
                "source": source,
                "mint": mint,
                "destination": destination,
                "authority": authority,
                "tokenAmount": amount_json(amount, data[9]),
            }
            return program_name(program), {"type": "transferChecked", "info": info}
    return None
