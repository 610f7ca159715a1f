"""`nexus wallet new`: an encrypted key that the node's settings take, and nothing is ever overwritten."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agentnexus.bootstrap.wallet_files import evm_signer, solana_signer
from agentnexus.cli.app import LazyGroup
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.solana.networks import network_by_name

Nexus = Callable[..., tuple[object, str, str]]


@pytest.fixture
def nexus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nexus:
    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["nexus", *arguments])
        code = LazyGroup(name="nexus").main(list(arguments), standalone_mode=False)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("correct horse battery\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("kind", ["testnet", "local"])
@pytest.mark.parametrize("chain", ["evm", "solana"])
def test_a_new_key_is_encrypted_private_and_opens_with_its_password(
    nexus: Nexus, tmp_path: Path, password: Path, chain: str, kind: str
) -> None:
    file = tmp_path / "key.json"
    options = ("--chain", chain, "--for", kind, "--password-file", str(password))
    code, out, _ = nexus("wallet", "new", str(file), *options, "--json")
    assert code == 0
    address = json.loads(out)["address"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    if chain == "evm":
        assert evm_signer(str(file), NetworkKind(kind), password).public_id == address
    else:
        assert solana_signer(file, network_by_name("solana-devnet"), password).public_id == address
    before = file.read_bytes()
    code, _, err = nexus("wallet", "new", str(file), *options)
    assert code == 1
    assert "already there" in err
    assert file.read_bytes() == before


def test_a_short_password_makes_no_key(nexus: Nexus, tmp_path: Path, password: Path) -> None:
    password.write_text("short\n")
    file = tmp_path / "key.json"
    code, _, err = nexus("wallet", "new", str(file), "--for", "local", "--password-file", str(password))
    assert code == 1
    assert "too short" in err
    assert not file.exists()


def test_the_kind_of_network_must_be_named(nexus: Nexus, tmp_path: Path, password: Path) -> None:
    code, _, err = nexus("wallet", "new", str(tmp_path / "key.json"), "--password-file", str(password))
    assert code == 2
    assert "--for" in err
