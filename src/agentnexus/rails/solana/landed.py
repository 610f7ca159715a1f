"""What a transaction on the chain really moved: the change of every account's lamports and tokens."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from agentnexus.rails.solana.cluster import Commitment, Node, RpcValue
from agentnexus.rails.solana.errors import NodeError
from agentnexus.rails.solana.programs import TOKEN_PROGRAM, TOKEN_PROGRAMS, associated_address

_METHOD = "getTransaction"


@dataclass(frozen=True, slots=True)
class TokenChange:
    """One token account's gain (or loss, negative) in atomic units."""

    account: Pubkey
    owner: Pubkey
    mint: Pubkey
    program: Pubkey
    atomic: int


@dataclass(frozen=True, slots=True)
class Landed:
    """A transaction on the chain. `error` is None when it did what it says; changes of lamports leave out the fee."""

    signature: str
    slot: int
    sent_at: datetime | None
    error: str | None
    tokens: tuple[TokenChange, ...]
    lamports: Mapping[Pubkey, int]

    def received(self, wallet: Pubkey, mint: Pubkey | None) -> int:
        """What came into a wallet: SOL when `mint` is None, else tokens in its associated account and no other."""
        if mint is None:
            return self.lamports.get(wallet, 0)
        homes = {(associated_address(wallet, mint, program), program) for program in TOKEN_PROGRAMS}
        return sum(each.atomic for each in self.tokens if each.mint == mint and (each.account, each.program) in homes)

    def mints_received(self, wallet: Pubkey) -> set[Pubkey | None]:
        """Everything of which a wallet has more than before; None stands for SOL."""
        mints: set[Pubkey | None] = {each.mint for each in self.tokens}
        return {mint for mint in (mints | {None}) if self.received(wallet, mint) > 0}

    def payers(self, mint: Pubkey | None) -> set[Pubkey]:
        """Owners who have less of it than before: whose money it was."""
        return {owner for owner, change in self._totals(mint).items() if change < 0}

    def receivers(self, mint: Pubkey | None) -> set[Pubkey]:
        """Owners who have more of it than before: whose money it is."""
        return {owner for owner, change in self._totals(mint).items() if change > 0}

    def _totals(self, mint: Pubkey | None) -> dict[Pubkey, int]:
        if mint is None:
            return dict(self.lamports)
        totals: dict[Pubkey, int] = {}
        for each in self.tokens:
            if each.mint == mint:
                totals[each.owner] = totals.get(each.owner, 0) + each.atomic
        return totals


async def read_landed(node: Node, signature: str, commitment: Commitment) -> Landed | None:
    """None while the transaction is not known at that commitment. Raises `ClusterUnavailable` or `NodeError`."""
    options: RpcValue = {"encoding": "base64", "commitment": commitment, "maxSupportedTransactionVersion": 0}
    answer = await node.call(_METHOD, signature, options)
    if answer is None:
        return None
    found = _object(answer)
    meta = _object(found.get("meta"))
    keys = _keys(found.get("transaction"), meta)
    if "err" not in meta:  # missing is not "no error"
        raise _odd()
    error, time = meta["err"], found.get("blockTime")
    return Landed(
        signature=signature,
        slot=_whole(found.get("slot")),
        sent_at=datetime.fromtimestamp(time, UTC) if isinstance(time, int) else None,
        error=None if error is None else str(error),
        tokens=_token_changes(keys, meta),
        lamports=_lamport_changes(keys, meta),
    )


def _keys(shown: RpcValue, meta: Mapping[str, RpcValue]) -> list[Pubkey]:
    """The message's own accounts, then those that lookup tables gave."""
    text = shown[0] if isinstance(shown, list) and shown else None
    try:
        transaction = VersionedTransaction.from_bytes(base64.b64decode(str(text), validate=True))
        loaded = meta.get("loadedAddresses")
        keys = list(transaction.message.account_keys)
        for kind in ("writable", "readonly"):
            found = loaded.get(kind) if isinstance(loaded, dict) else None
            keys += [Pubkey.from_string(str(each)) for each in found if each] if isinstance(found, list) else []
    except ValueError as error:
        raise _odd() from error
    return keys


def _lamport_changes(keys: list[Pubkey], meta: Mapping[str, RpcValue]) -> dict[Pubkey, int]:
    before, after = meta.get("preBalances"), meta.get("postBalances")
    if not isinstance(before, list) or not isinstance(after, list) or not len(before) == len(after) == len(keys):
        raise _odd()
    changes = {key: _whole(new) - _whole(old) for key, old, new in zip(keys, before, after, strict=True)}
    changes[keys[0]] += _whole(meta.get("fee"))
    return changes


def _token_changes(keys: list[Pubkey], meta: Mapping[str, RpcValue]) -> tuple[TokenChange, ...]:
    changes: dict[tuple[Pubkey, Pubkey], TokenChange] = {}
    for name, sign in (("preTokenBalances", -1), ("postTokenBalances", 1)):
        balances = meta.get(name)
        for balance in balances if isinstance(balances, list) else []:
            change = _token_change(keys, _object(balance), sign)
            # By owner as well: an account that changes hands is a loss of one and a gain of the other.
            place = (change.account, change.owner)
            known = changes.get(place)
            atomic = change.atomic + (known.atomic if known else 0)
            changes[place] = TokenChange(change.account, change.owner, change.mint, change.program, atomic)
    return tuple(changes.values())


def _token_change(keys: list[Pubkey], row: Mapping[str, RpcValue], sign: int) -> TokenChange:
    index = _whole(row.get("accountIndex"))
    if index >= len(keys):
        raise _odd()
    try:
        owner, mint = (Pubkey.from_string(str(row.get(name))) for name in ("owner", "mint"))
        program = Pubkey.from_string(str(row.get("programId") or TOKEN_PROGRAM))
    except ValueError as error:
        raise _odd() from error
    amount = _object(row.get("uiTokenAmount")).get("amount")
    if not isinstance(amount, str) or not amount.isascii() or not amount.isdigit():
        raise _odd()
    return TokenChange(keys[index], owner, mint, program, sign * int(amount))


def _object(value: RpcValue) -> dict[str, RpcValue]:
    if not isinstance(value, dict):
        raise _odd()
    return value


def _whole(value: RpcValue) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _odd()
    return value


def _odd() -> NodeError:
    return NodeError(_METHOD, 0, "the answer is not of the documented shape")
