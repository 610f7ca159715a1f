"""Keys of the node's wallets from where an operator keeps them: plain, or in encrypted files with one password file."""

from __future__ import annotations

import stat
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.rails.evm.networks import NetworkKind
from agentnexus.rails.evm.signer import LocalSigner, signer_from_hex, signer_from_keystore

if TYPE_CHECKING:
    from agentnexus.rails.solana.networks import Network as SolanaNetwork
    from agentnexus.rails.solana.signer import LocalSigner as SolanaSigner

SETTING = "NEXUS_KEY_PASSWORD_FILE"
OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO


def evm_signer(key: str, kind: NetworkKind, password_file: Path | None) -> LocalSigner:
    """`key`: hex, or the path of a keystore v3 file (0600).

    Raises `InvalidInput`; `NotAllowed` for a wrong password, a key of another kind of network, or a file that others
    may read.
    """
    path = Path(key)
    return _evm_keystore(path, kind, password_file) if "/" in key or path.is_file() else signer_from_hex(key, kind)


@cache  # opening one takes a second by design
def _evm_keystore(path: Path, kind: NetworkKind, password_file: Path | None) -> LocalSigner:
    _require_file(path)
    return signer_from_keystore(path, _password(path, password_file), kind)


def solana_signer(path: Path, network: SolanaNetwork, password_file: Path | None) -> SolanaSigner:
    """`path`: a JSON keypair file or our encrypted keystore (0600). Raises as `evm_signer`, and `WrongNetwork`."""
    from agentnexus.rails.solana import signer as solana

    _require_file(path)
    if path.read_bytes().lstrip().startswith(b"["):
        return solana.signer_from_keypair_file(path, network.kind)
    opened = solana.signer_from_keystore(path, _password(path, password_file))
    solana.require_network(opened, network)
    return opened


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise InvalidInput(f"there is no key file {path}", next_step="check the path in the settings", field="key")


def _password(path: Path, password_file: Path | None) -> str:
    """The first line of the password file. Its text is in no message."""
    if password_file is None:
        raise InvalidInput(
            f"{path.name} is encrypted", next_step=f"put its password into a file (0600) and set {SETTING}", field="key"
        )
    _require_file(password_file)
    if password_file.stat().st_mode & OTHERS_MAY:
        raise NotAllowed(
            f"{password_file.name} can be read by other users of this machine",
            next_step=f"chmod 600 {password_file.name}",
        )
    lines = password_file.read_text(encoding="utf-8").splitlines()
    return lines[0] if lines else ""
