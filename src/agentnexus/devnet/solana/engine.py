"""The chain itself: LiteSVM for execution; slots, blockhashes, finality and history around it, which it has not.

Everything happens on one thread, in the order of arrival. Every transaction has a slot of its own and ends it, so it
is confirmed at once; further slots come with the clock. Block heights come with the clock only, as if a transaction's
slot were one that the cluster skipped afterwards: a burst of transactions then does not outdate blockhashes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from solders.account import Account
from solders.hash import Hash
from solders.litesvm import LiteSVM
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata, TransactionMetadata

from agentnexus.core.clock import SystemClock
from agentnexus.core.ports import Clock
from agentnexus.devnet.solana.faults import Fault, Faults, drained
from agentnexus.devnet.solana.ledger import ChainLedger, Sent
from agentnexus.devnet.solana.parsed import Json
from agentnexus.devnet.solana.wire import (
    AnyMessage,
    decimals_of,
    fee_of,
    inner_instructions,
    priority_fee,
    token_balances,
    wire_error,
)
from agentnexus.rails.solana.tokens import read_token_account

BLOCKHASH_BLOCKS = 150
Accounts: TypeAlias = Sequence[Account | None]
_FIRST_HEIGHT = 1
_NO_SIGNATURE = Signature.default()
_LOOKUP_TABLE_HEAD_BYTES = 56


@dataclass(frozen=True, slots=True)
class Pace:
    """How time passes.

    Args:
        slot_milliseconds: between two slots of the clock; 0 stops it, then only `Chain.advance` makes heights.
        finality_slots: after how many slots a transaction is final.
        instant: a transaction ends its slot and so is confirmed at once; else with the clock's next slot.
    """

    slot_milliseconds: int = 400
    finality_slots: int = 32
    instant: bool = True


@dataclass(frozen=True, slots=True)
class Keys:
    """Accounts of a message: its own, then those from lookup tables."""

    own: Sequence[Pubkey]
    writable: Sequence[Pubkey]
    readonly: Sequence[Pubkey]

    @property
    def all(self) -> list[Pubkey]:
        return [*self.own, *self.writable, *self.readonly]

    def loaded(self) -> dict[str, Json]:
        """``loadedAddresses``."""
        return {"writable": [str(key) for key in self.writable], "readonly": [str(key) for key in self.readonly]}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What executing or simulating came to. `landed` is False when the transaction could not even pay its fee."""

    error: Json
    logs: list[str]
    units: int
    landed: bool
    inner: list[Json]
    accounts: list[tuple[Pubkey, Account]]


class Chain:
    """One chain. `on_change` is called after every transaction and every slot.

    Args:
        path: file that keeps it; memory when None.
    """

    def __init__(self, path: Path | None = None, *, pace: Pace | None = None, clock: Clock | None = None) -> None:
        self.pace = pace or Pace()
        self.faults = Faults()
        self.ledger = ChainLedger(path)
        self.on_change: list[Callable[[], None]] = []
        self._clock = clock or SystemClock()
        self._held_sends: list[VersionedTransaction] = []
        self._unconfirmed: set[Signature] = set()
        # Replays are refused by the ledger, whose memory has no end and survives a restart; LiteSVM's forgets.
        self._svm = LiteSVM().with_transaction_history(0).with_blockhash_check(False)
        facts = self.ledger.facts()
        self.is_new = "salt" not in facts
        self._salt = facts.get("salt") or os.urandom(16).hex()
        self._started_ms = int(facts.get("started_ms") or self._now_ms())
        self._skipped = int(facts.get("skipped", 0))  # heights added by hand
        self._highest = int(facts.get("highest", 0))
        self._taken = int(facts.get("taken", 0))  # slots ended by transactions
        self._number = self.ledger.last_number()
        self._hashes: dict[Hash, int] = {}
        self._hashed = 0
        if self.is_new:
            self.ledger.set_fact("salt", self._salt)
            self.ledger.set_fact("started_ms", str(self._started_ms))
        for address, account in self.ledger.accounts():
            self._svm.set_account(address, account)

    def close(self) -> None:
        self.ledger.close()

    @property
    def height(self) -> int:
        """Block height. Never goes back, whatever the machine's clock does."""
        elapsed = 0
        if self.pace.slot_milliseconds:
            elapsed = max(0, self._now_ms() - self._started_ms) // self.pace.slot_milliseconds
        self._highest = max(self._highest, _FIRST_HEIGHT + elapsed + self._skipped)
        return self._highest

    @property
    def slot(self) -> int:
        return self.height + self._taken

    @property
    def unix_seconds(self) -> int:
        return self._now_ms() // 1000

    @property
    def transaction_count(self) -> int:
        return self._number

    def advance(self, slots: int) -> None:
        """Let so many slots and heights pass at once."""
        self._skipped += slots
        self._highest = max(self._highest + slots, self.height)
        self.ledger.set_fact("skipped", str(self._skipped))
        self.ledger.set_fact("highest", str(self._highest))
        self.changed()

    def changed(self) -> None:
        for tell in self.on_change:
            tell()

    def blockhash(self) -> tuple[Hash, int]:
        """The newest blockhash and the last height at which it is accepted."""
        height = self.height
        return self._hash_of(height), height + BLOCKHASH_BLOCKS

    def is_current(self, blockhash: Hash) -> bool:
        height = self.height
        for each in range(max(self._hashed + 1, height - BLOCKHASH_BLOCKS), height + 1):
            self._hashes[self._hash_of(each)] = each
        self._hashed = height
        found = self._hashes.get(blockhash)
        return found is not None and height - found <= BLOCKHASH_BLOCKS

    def account(self, address: Pubkey) -> Account | None:
        account = self._svm.get_account(address)
        return account if account and account.lamports else None

    def set_account(self, address: Pubkey, account: Account) -> None:
        """Forge an account, as no cluster could: for the first state and for tests."""
        self._svm.set_account(address, account)
        self.ledger.write_accounts({address: account})

    def rent(self, data_bytes: int) -> int:
        return self._svm.minimum_balance_for_rent_exemption(data_bytes)

    def keys(self, message: AnyMessage) -> Keys:
        """The accounts of a message, with those that lookup tables name."""
        writable: list[Pubkey] = []
        readonly: list[Pubkey] = []
        for lookup in message.address_table_lookups if isinstance(message, MessageV0) else ():
            table = self._svm.get_account(lookup.account_key)
            data = table.data[_LOOKUP_TABLE_HEAD_BYTES:] if table else b""
            for indexes, found in ((lookup.writable_indexes, writable), (lookup.readonly_indexes, readonly)):
                places = [data[32 * index : 32 * index + 32] for index in indexes]
                found.extend(Pubkey.from_bytes(place) for place in places if len(place) == 32)
        return Keys(message.account_keys, writable, readonly)

    def simulate(
        self, transaction: VersionedTransaction, *, verify: bool = True, any_blockhash: bool = False
    ) -> Outcome:
        """What sending would come to now; nothing changes."""
        refused = self._precheck(transaction, any_blockhash=any_blockhash)
        if refused is not None:
            return Outcome(refused, [], 0, False, [], [])
        self._set_time()
        payer = self._charge(transaction)
        self._svm.with_sigverify(verify)
        try:
            result = self._svm.simulate_transaction(transaction)
        finally:
            self._svm.with_sigverify(True)
            self._restore(transaction, payer)
        if isinstance(result, FailedTransactionMetadata):
            return _failed(result)
        return _outcome(result.meta(), None, result.post_accounts())

    def send(self, transaction: VersionedTransaction) -> None:
        """Execute it, unless a fault is due or it cannot land: then it is gone without a trace, as on a cluster."""
        if self.faults.take(Fault.LOSE_SEND):
            return
        if self.faults.take(Fault.HOLD_SEND):
            self._held_sends.append(transaction)
            return
        if self.faults.take(Fault.HOLD_CONFIRMATION):
            self._unconfirmed.add(transaction.signatures[0])
        if self.faults.take(Fault.FAIL_ON_CHAIN):
            self._execute_drained(transaction)
            return
        self.execute(transaction)

    def release(self) -> None:
        """Execute what was held back and confirm what was held at "processed"."""
        held, self._held_sends = self._held_sends, []
        for transaction in held:
            self.execute(transaction)
        self._unconfirmed.clear()
        self.changed()

    def commitment(self, sent: Sent) -> str:
        """``processed``, ``confirmed`` or ``finalized``."""
        age = self.slot - sent.slot
        if age < 1 or sent.signature in self._unconfirmed:
            return "processed"
        return "finalized" if age >= self.pace.finality_slots else "confirmed"

    def finalized_slot(self) -> int:
        return max(0, self.slot - self.pace.finality_slots)

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def _hash_of(self, height: int) -> Hash:
        return Hash(hashlib.sha256(f"{self._salt}:{height}".encode()).digest())

    def _set_time(self) -> None:
        clock = self._svm.get_clock()
        clock.slot, clock.unix_timestamp = self.slot, self.unix_seconds
        self._svm.set_clock(clock)

    def _precheck(self, transaction: VersionedTransaction, *, any_blockhash: bool = False) -> Json:
        if not transaction.signatures:
            return "SignatureFailure"
        if not any_blockhash and not self.is_current(transaction.message.recent_blockhash):
            return "BlockhashNotFound"
        if self.ledger.find(transaction.signatures[0]):
            return "AlreadyProcessed"
        payer = self.account(transaction.message.account_keys[0])
        if payer and payer.lamports < fee_of(transaction.message):
            return "InsufficientFundsForFee"
        return None

    def _charge(self, transaction: VersionedTransaction) -> Account | None:
        """Take the priority fee, which LiteSVM leaves out; the fee payer as it was before."""
        key = transaction.message.account_keys[0]
        payer, fee = self.account(key), priority_fee(transaction.message)
        if payer and fee:
            self._svm.set_account(key, Account(payer.lamports - fee, payer.data, payer.owner, payer.executable))
        return payer

    def _restore(self, transaction: VersionedTransaction, payer: Account | None) -> None:
        if payer and priority_fee(transaction.message):
            self._svm.set_account(transaction.message.account_keys[0], payer)

    def _execute_drained(self, transaction: VersionedTransaction) -> None:
        """Empty the transaction's accounts, execute it so that it fails for want of money, and fill them again."""
        keys = transaction.message.account_keys
        full = {key: account for key in keys if (account := self.account(key))}
        payer = keys[0]
        empty = {key: drained(account) for key, account in full.items()}
        for key, account in empty.items():
            self._svm.set_account(key, account)
        self.execute(transaction)
        changed: dict[Pubkey, Account | None] = {}
        for key, account in full.items():
            if empty[key] != account:
                now = self._svm.get_account(key)
                spent = empty[key].lamports - (now.lamports if now else 0)
                lamports = account.lamports - (spent if key == payer else 0)
                refilled = Account(lamports, account.data, account.owner, account.executable)
                self._svm.set_account(key, refilled)
                changed[key] = refilled
        self.ledger.write_accounts(changed)

    def execute(self, transaction: VersionedTransaction) -> None:
        """Put it on the chain, whatever faults are due; nothing happens when it cannot land."""
        if self._precheck(transaction) is not None:
            return
        keys = self.keys(transaction.message)
        before = [self.account(key) for key in keys.all]
        self._set_time()
        payer = self._charge(transaction)
        result = self._svm.send_transaction(transaction)
        outcome = _failed(result) if isinstance(result, FailedTransactionMetadata) else _outcome(result, None, [])
        if not outcome.landed:
            self._restore(transaction, payer)
            return
        after = [self.account(key) for key in keys.all]
        sent = Sent(
            number=self._number + 1,
            signature=transaction.signatures[0],
            slot=self.slot,
            unix_seconds=self.unix_seconds,
            raw=bytes(transaction),
            error=outcome.error,
            outcome=self._meta(keys, before, after, outcome, fee_of(transaction.message)),
        )
        changed = {key: new for key, old, new in zip(keys.all, before, after, strict=True) if old != new}
        taken = self._taken + (1 if self.pace.instant else 0)
        self.ledger.append(sent, keys.all, changed, {"taken": str(taken), "highest": str(self._highest)})
        self._number, self._taken = sent.number, taken
        self.changed()

    def _meta(self, keys: Keys, before: Accounts, after: Accounts, outcome: Outcome, fee: int) -> dict[str, Json]:
        """TransactionStatusMeta without what the error says again."""
        tokens = [
            token
            for account in (*before, *after)
            if account and (token := read_token_account(account.owner, account.data))
        ]
        mints = {token.mint: decimals_of(self.account(token.mint)) for token in tokens}
        return {
            "fee": fee,
            "preBalances": _lamports(before),
            "postBalances": _lamports(after),
            "innerInstructions": outcome.inner,
            "logMessages": list(outcome.logs),
            "preTokenBalances": token_balances(keys.all, before, mints),
            "postTokenBalances": token_balances(keys.all, after, mints),
            "rewards": [],
            "loadedAddresses": keys.loaded(),
            "computeUnitsConsumed": outcome.units,
        }


def _lamports(accounts: Accounts) -> list[Json]:
    return [account.lamports if account else 0 for account in accounts]


def _outcome(meta: TransactionMetadata, error: Json, accounts: list[tuple[Pubkey, Account]]) -> Outcome:
    return Outcome(
        error=error,
        logs=meta.logs(),
        units=meta.compute_units_consumed(),
        landed=error is None or meta.signature() != _NO_SIGNATURE,
        inner=inner_instructions(meta.inner_instructions()),
        accounts=accounts,
    )


def _failed(result: FailedTransactionMetadata) -> Outcome:
    return _outcome(result.meta(), wire_error(result.err()), [])
