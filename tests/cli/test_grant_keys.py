"""Key files on the command line: every usual form is read, bad ones are refused, and only what was typed is signed."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from agentnexus.cli.grant import Duration, link, new, revoke
from agentnexus.cli.keys import check_draft, load_wallet
from agentnexus.core.clock import ManualClock
from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.core.payments import Limits
from agentnexus.ledger.mandates import Mandate, Permission, constraints_of, permission_of
from agentnexus.ledger.wallet_signatures import WalletSignatures
from agentnexus.rails.evm.keystore import encrypt
from tests.ledger.conftest import USDC, usdc
from tests.ledger.wallets import NODE, OWNER, OWNER_ID, SOLANA, mandate

SEED = b"\x07" * 32
PAIR = list(SEED + bytes.fromhex(SOLANA.public_id.removeprefix("ed25519:")))


def kept(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("text", "wallet"),
    [(OWNER.key.hex(), OWNER_ID), ("0x" + OWNER.key.hex() + "\n", OWNER_ID), (json.dumps(PAIR), SOLANA.public_id)],
    ids=["hex", "0x", "solana"],
)
async def test_a_key_file_signs_what_the_ledger_accepts(
    tmp_path: Path, clock: ManualClock, text: str, wallet: str
) -> None:
    loaded = load_wallet(kept(tmp_path, text))
    document = mandate(clock, iss=wallet)
    assert loaded.id == wallet
    await WalletSignatures(USDC.network).check(document, await loaded.sign(document, USDC.network))


def test_a_keystore_asks_for_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kept(tmp_path, json.dumps(encrypt(bytes(OWNER.key), "secret")))
    monkeypatch.setattr(click, "prompt", lambda *_args, **_options: "secret")
    assert load_wallet(path).id == OWNER_ID
    monkeypatch.setattr(click, "prompt", lambda *_args, **_options: "wrong")
    with pytest.raises(NotAllowed, match="password"):
        load_wallet(path)


def test_a_password_file_spares_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, password = kept(tmp_path, json.dumps(encrypt(bytes(OWNER.key), "secret"))), tmp_path / "password"
    monkeypatch.setattr(click, "prompt", lambda *_args, **_options: pytest.fail("asked"))
    password.write_text("secret\nnot this\n")
    assert load_wallet(path, password).id == OWNER_ID
    password.write_text("")
    with pytest.raises(NotAllowed, match="password"):
        load_wallet(path, password)


@pytest.mark.parametrize("command", [link, new, revoke])
def test_every_command_that_signs_takes_a_password_file(command: click.Command) -> None:
    assert [each for each in command.params if "--password-file" in each.opts]


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", json.dumps([300] * 64), json.dumps(["a"] * 64), "zz", "0x12", '{"version": 2}', "é"]
)
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput):
        load_wallet(kept(tmp_path, text))


def test_a_damaged_solana_pair_and_a_file_that_others_can_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="do not belong together"):
        load_wallet(kept(tmp_path, json.dumps([*PAIR[:-1], PAIR[-1] ^ 1])))
    with pytest.raises(NotAllowed, match="readable by others"):
        load_wallet(kept(tmp_path, OWNER.key.hex(), 0o644))


WANTED: dict[str, object] = {
    "total": "5",
    "per_payment": "0.50",
    "per_day": None,
    "capabilities": ["pdf.extract"],
    "sellers": None,
    "lasts_seconds": 3600,
}
ASKED = Permission(Limits(total=usdc("5"), per_payment=usdc("0.5")), None, frozenset({"pdf.extract"}))


def drafted(permission: Permission = ASKED, **fields: object) -> Mandate:
    given = {"jti": "j", "iss": OWNER_ID, "cnf": NODE, "iat": 100, "exp": 3700, "parent": "user:ada"}
    return Mandate.model_validate({**given, "constraints": constraints_of(permission, USDC), **fields})


def test_a_draft_of_what_was_typed_is_signed() -> None:
    check_draft(drafted(), OWNER_ID, WANTED)


@pytest.mark.parametrize(
    "draft",
    [
        drafted(Permission(Limits(total=usdc("50"), per_payment=usdc("0.5")), None, ASKED.capabilities)),
        drafted(Permission(Limits(total=usdc("5")), None, ASKED.capabilities)),
        drafted(Permission(ASKED.limits, None, None)),
        drafted(Permission(ASKED.limits, None, frozenset({"pdf.extract", "b.c"}))),
        drafted(Permission(ASKED.limits, frozenset({"evm:0xcc"}), ASKED.capabilities)),
        drafted(iss=SOLANA.public_id),
        drafted(exp=10**9),
    ],
)
def test_a_node_cannot_slip_in_anything_else(draft: Mandate) -> None:
    with pytest.raises(NotAllowed, match="something else"):
        check_draft(draft, OWNER_ID, WANTED)


def test_constraints_say_exactly_what_is_allowed() -> None:
    whole = Permission(
        Limits(**{name: usdc(str(n + 1)) for n, name in enumerate(Limits.model_fields)}),
        frozenset({"b", "a"}),
        frozenset({"c.d"}),
    )
    for permission in (whole, ASKED, Permission(Limits(), None, None), Permission(Limits(), frozenset(), None)):
        assert permission_of(drafted(permission), USDC) == permission


def test_durations_are_read_as_people_write_them() -> None:
    assert [Duration().convert(text, None, None) for text in ("30m", "12h", "7d")] == [1800, 43_200, 604_800]
    for wrong in ("", "7", "d", "0h", "-1h", "1.5h", "7w", "999999d"):
        with pytest.raises(click.BadParameter):
            Duration().convert(wrong, None, None)


def test_a_grant_needs_a_total_and_a_key() -> None:
    assert CliRunner().invoke(new, []).exit_code == 2
