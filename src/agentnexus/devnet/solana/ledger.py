"""What the development chain remembers: accounts and transactions in one SQLite file, one commit per transaction.

A killed process loses nothing that was answered, and starting again costs the accounts only, not the history.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from solders.account import Account
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from agentnexus.core.errors import Unavailable
from agentnexus.devnet.solana.parsed import Json
from agentnexus.rails.solana.tokens import read_token_account

_LOCK_WAIT_SECONDS = 2.0  # one that is just ending lets go
_SCHEMA = """
create table if not exists fact (name text primary key, value text not null) without rowid;
create table if not exists account (
    address blob primary key, lamports text not null, data blob not null, owner blob not null, executable integer
    not null, token_owner blob, mint blob
) without rowid;
create index if not exists account_token_owner on account (token_owner) where token_owner is not null;
create index if not exists account_owner on account (owner);
create table if not exists sent (
    number integer primary key, signature blob not null unique, slot integer not null, unix_seconds integer not null,
    raw blob not null, error text, outcome text not null
);
create table if not exists mention (
    address blob not null, number integer not null, primary key (address, number)
) without rowid;
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction that is on the chain. `error` and `outcome` are in the cluster's own wire shape."""

    number: int
    signature: Signature
    slot: int
    unix_seconds: int
    raw: bytes
    error: Json
    outcome: dict[str, Json]

    @property
    def transaction(self) -> VersionedTransaction:
        return VersionedTransaction.from_bytes(self.raw)


class ChainLedger:
    """One file, or memory only when `path` is None. Used from one thread."""

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=_LOCK_WAIT_SECONDS)
        try:
            self._file.execute("pragma locking_mode = exclusive")
            self._file.execute("pragma journal_mode = wal")
            # Without waiting for the disk: a kill loses nothing, a power cut the last moments of play money.
            self._file.execute("pragma synchronous = off")
            self._file.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise Unavailable(
                f"the chain's state file cannot be used: {error}",
                next_step="stop the other development chain on this file, or remove a file that is none",
            ) from error

    def close(self) -> None:
        self._file.close()

    def facts(self) -> dict[str, str]:
        return dict(self._file.execute("select name, value from fact").fetchall())

    def set_fact(self, name: str, value: str) -> None:
        self._file.execute("insert or replace into fact (name, value) values (?, ?)", (name, value))

    def accounts(self) -> Iterator[tuple[Pubkey, Account]]:
        rows = self._file.execute("select address, lamports, data, owner, executable from account")
        for address, lamports, data, owner, executable in rows:
            account = Account(int(lamports), data, Pubkey.from_bytes(owner), bool(executable))
            yield Pubkey.from_bytes(address), account

    def write_accounts(self, accounts: Mapping[Pubkey, Account | None]) -> None:
        """None stands for an account that is gone."""
        for address, account in accounts.items():
            key = bytes(address)
            if account is None or account.lamports == 0:
                self._file.execute("delete from account where address = ?", (key,))
                continue
            token = read_token_account(account.owner, account.data)
            self._file.execute(
                "insert or replace into account values (?, ?, ?, ?, ?, ?, ?)",
                (
                    key,
                    str(account.lamports),
                    account.data,
                    bytes(account.owner),
                    account.executable,
                    bytes(token.owner) if token else None,
                    bytes(token.mint) if token else None,
                ),
            )

    def append(
        self,
        sent: Sent,
        mentioned: Iterable[Pubkey],
        accounts: Mapping[Pubkey, Account | None],
        facts: Mapping[str, str],
    ) -> None:
        """The transaction and what it changed, together or not at all."""
        self._file.execute("begin")
        for name, value in facts.items():
            self.set_fact(name, value)
        self._file.execute(
            "insert into sent values (?, ?, ?, ?, ?, ?, ?)",
            (
                sent.number,
                bytes(sent.signature),
                sent.slot,
                sent.unix_seconds,
                sent.raw,
                None if sent.error is None else json.dumps(sent.error),
                json.dumps(sent.outcome),
            ),
        )
        self._file.executemany(
            "insert or ignore into mention values (?, ?)", [(bytes(address), sent.number) for address in mentioned]
        )
        self.write_accounts(accounts)
        self._file.execute("commit")

    def last_number(self) -> int:
        number: int = self._file.execute("select coalesce(max(number), 0) from sent").fetchone()[0]
        return number

    def find(self, signature: Signature) -> Sent | None:
        row = self._file.execute("select * from sent where signature = ?", (bytes(signature),)).fetchone()
        return _sent(row) if row else None

    def mentions(self, address: Pubkey, *, below: int, above: int, limit: int) -> list[Sent]:
        """Transactions that name an address, the newest first, with ``above < number < below``."""
        rows = self._file.execute(
            "select sent.* from mention join sent using (number)"
            " where address = ? and number < ? and number > ? order by number desc limit ?",
            (bytes(address), below, above, limit),
        ).fetchall()
        return [_sent(row) for row in rows]

    def from_number(self, number: int, limit: int) -> list[Sent]:
        """Transactions from a place on, the oldest first."""
        rows = self._file.execute("select * from sent where number >= ? order by number limit ?", (number, limit))
        return [_sent(row) for row in rows]

    def time_of_slot(self, slot: int) -> int | None:
        row = self._file.execute("select unix_seconds from sent where slot = ? limit 1", (slot,)).fetchone()
        return row[0] if row else None

    def token_accounts(self, owner: Pubkey) -> list[Pubkey]:
        rows = self._file.execute("select address from account where token_owner = ? order by address", (bytes(owner),))
        return [Pubkey.from_bytes(row[0]) for row in rows]

    def program_accounts(self, program: Pubkey) -> list[Pubkey]:
        rows = self._file.execute("select address from account where owner = ? order by address", (bytes(program),))
        return [Pubkey.from_bytes(row[0]) for row in rows]


def _sent(row: tuple[int, bytes, int, int, bytes, str | None, str]) -> Sent:
    number, signature, slot, unix_seconds, raw, error, outcome = row
    return Sent(
        number,
        Signature.from_bytes(signature),
        slot,
        unix_seconds,
        raw,
        None if error is None else json.loads(error),
        json.loads(outcome),
    )
