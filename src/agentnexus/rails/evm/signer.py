"""Keys that sign and never leave: secp256k1 signers from raw keys, keystore files and mnemonics."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from coincurve import PrivateKey, PublicKey

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.rails.evm.encoding import checksum_address, public_key_address
from agentnexus.rails.evm.keystore import decrypt, encrypt, read_document
from agentnexus.rails.evm.networks import Network, NetworkKind, require_kind

_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HALF_ORDER = _CURVE_ORDER // 2

# The phrase every Ethereum development tool starts with: a wallet or `cast` can open these accounts as well, and a
# key everybody recognises is one nobody funds on a real network.
DEVELOPMENT_MNEMONIC = "test test test test test test test test test test test junk"
DEVELOPMENT_ACCOUNTS = 20


class EvmSigner(Protocol):
    """A core `Signer` whose messages are 32-byte digests and whose signatures are ``r || s || v`` with v 27 or 28."""

    @property
    def public_id(self) -> str:
        """Lower-case address."""

    @property
    def kind(self) -> NetworkKind:
        """The kind of network this key was made for."""

    async def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Secret:
    """Keeps a key out of reprs, logs and tracebacks."""

    key: PrivateKey

    def __repr__(self) -> str:
        return "<secret>"


class LocalSigner:
    """A key in this process's memory. Signatures are deterministic (RFC 6979): same digest, same bytes."""

    def __init__(self, secret: bytes, kind: NetworkKind) -> None:
        try:
            self._secret = _Secret(PrivateKey(secret))
        except ValueError as error:
            raise InvalidInput("not a secp256k1 private key", field="key") from error
        self._address = public_key_address(self._secret.key.public_key.format(compressed=False))
        self._kind = kind
        if kind is not NetworkKind.LOCAL and self._address in development_addresses():
            raise NotAllowed(
                f"{checksum_address(self._address)} is a development account: everybody knows its key",
                next_step=f"make a key of your own for {kind}",
            )

    @property
    def public_id(self) -> str:
        return self._address

    @property
    def kind(self) -> NetworkKind:
        return self._kind

    async def sign(self, message: bytes) -> bytes:
        """Sign a 32-byte digest; 20 microseconds, so it stays on the loop."""
        if len(message) != 32:
            raise InvalidInput("an EVM key signs 32-byte digests", field="message")
        signature = self._secret.key.sign_recoverable(message, hasher=None)
        return signature[:64] + bytes([27 + signature[64]])

    def write_keystore(self, path: Path, password: str) -> None:
        """Write an encrypted keystore (Web3 Secret Storage v3, scrypt), readable by its owner only.

        Takes about a second of CPU by design; call it in a thread.
        """
        document = encrypt(self._secret.key.secret, password)
        document["address"] = self._address[2:]
        document["x-network-kind"] = str(self._kind)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(document).encode())

    def __repr__(self) -> str:
        return f"LocalSigner({checksum_address(self._address)}, {self._kind})"


def signer_from_keystore(path: Path, password: str, kind: NetworkKind | None = None) -> LocalSigner:
    """Open a keystore v3 file; raises `NotAllowed` when others may read it or the password is wrong.

    Args:
        path: the file.
        password: what it was encrypted with.
        kind: for files of other tools, which do not say what networks the key is for; ours carry it.
    """
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise NotAllowed(
            f"{path.name} can be read by other users of this machine",
            next_step=f"chmod 600 {path.name}",
            mode=oct(stat.S_IMODE(mode)),
        )
    document = read_document(path.read_bytes())
    recorded = document.get("x-network-kind")
    if isinstance(recorded, str) and recorded not in set(NetworkKind):
        raise InvalidInput(f"{path.name} is for networks of an unknown kind", field="x-network-kind")
    stated = NetworkKind(recorded) if isinstance(recorded, str) else None
    if stated and kind and stated is not kind:
        raise NotAllowed(
            f"{path.name} holds a {stated} key, not a {kind} key", next_step=f"use it on {stated} networks"
        )
    use = stated or kind
    if use is None:
        raise InvalidInput(f"{path.name} does not say what networks its key is for", next_step="pass the network kind")
    signer = LocalSigner(decrypt(document, password), use)
    if str(document.get("address", signer.public_id[2:])).lower().removeprefix("0x") != signer.public_id[2:]:
        raise NotAllowed(f"{path.name} names another address than its key has", next_step="restore it from a backup")
    return signer


def signer_from_hex(key: str, kind: NetworkKind) -> LocalSigner:
    """A raw private key as hex text, with or without ``0x``."""
    try:
        secret = bytes.fromhex(key.removeprefix("0x"))
    except ValueError:
        # Without "from": the original message would quote the key.
        raise InvalidInput("the private key is not hex", field="key") from None
    return LocalSigner(secret, kind)


def derive_key(mnemonic: str, index: int) -> bytes:
    """Private key of account `index` of a BIP-39 phrase, at ``m/44'/60'/0'/0/index``."""
    seed = hashlib.pbkdf2_hmac("sha512", mnemonic.encode(), b"mnemonic", 2048)
    digest = hmac.digest(b"Bitcoin seed", seed, "sha512")
    hardened = 1 << 31
    key, chain_code = digest[:32], digest[32:]
    for step in (44 + hardened, 60 + hardened, hardened, 0, index):
        key, chain_code = _child(key, chain_code, step)
    return key


@cache
def development_addresses() -> frozenset[str]:
    """Addresses whose keys the whole world has: the first accounts of the development phrase."""
    return frozenset(
        signer_from_mnemonic(DEVELOPMENT_MNEMONIC, index, NetworkKind.LOCAL).public_id
        for index in range(DEVELOPMENT_ACCOUNTS)
    )


def signer_from_mnemonic(mnemonic: str, index: int, kind: NetworkKind) -> LocalSigner:
    """Account `index` of a BIP-39 phrase, as wallets number them."""
    return LocalSigner(derive_key(mnemonic, index), kind)


def _child(key: bytes, chain_code: bytes, step: int) -> tuple[bytes, bytes]:
    """BIP-32 private child derivation."""
    private = PrivateKey(key)
    head = b"\0" + key if step >> 31 else private.public_key.format(compressed=True)
    digest = hmac.digest(chain_code, head + step.to_bytes(4, "big"), "sha512")
    return private.add(digest[:32]).secret, digest[32:]


def recover(digest: bytes, signature: bytes) -> str | None:
    """Address that signed, or None when the signature is malformed or not in its one accepted form.

    The high-s twin of a signature is refused as the token contracts do, so a signature has one encoding only.
    """
    if len(signature) != 65 or signature[64] not in (0, 1, 27, 28):
        return None
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        return None
    parity = signature[64] - 27 if signature[64] >= 27 else signature[64]
    try:
        key = PublicKey.from_signature_and_message(signature[:64] + bytes([parity]), digest, hasher=None)
    except ValueError:
        return None
    return public_key_address(key.format(compressed=False))


def require_network(signer: EvmSigner, network: Network) -> None:
    """Raises `WrongNetwork` unless the key was made for this kind of network."""
    require_kind(signer.kind, network, f"the key of {checksum_address(signer.public_id)}")
