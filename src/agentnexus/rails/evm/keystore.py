"""Web3 Secret Storage v3: the encrypted JSON file that Ethereum tools share."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import uuid

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.rails.evm.encoding import keccak

_KEY_BYTES = 32
_NONCE_BYTES = 16
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 17, 8, 1
# Files from elsewhere name their own cost; past this they are a way to stop the process, not to protect a key.
_MAX_SCRYPT_MEMORY = 1 << 29
_MAX_PBKDF2_ROUNDS = 10_000_000


def read_document(data: bytes) -> dict[str, object]:
    """Parse a keystore file; raises `InvalidInput` when it is not version 3."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise InvalidInput("the keystore is not JSON", field="keystore") from error
    if not isinstance(document, dict) or document.get("version") != 3:
        raise InvalidInput("not a version 3 keystore", field="keystore", next_step="export it again as keystore v3")
    return document


def encrypt(secret: bytes, password: str) -> dict[str, object]:
    """A new document for `secret`: scrypt, AES-128-CTR, Keccak MAC."""
    salt, nonce = os.urandom(32), os.urandom(_NONCE_BYTES)
    derived = _scrypt(password, salt, _SCRYPT_N, _SCRYPT_R, _SCRYPT_P)
    ciphertext = _aes_ctr(derived[:16], nonce, secret)
    return {
        "version": 3,
        "id": str(uuid.UUID(bytes=os.urandom(16), version=4)),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": nonce.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": {"n": _SCRYPT_N, "r": _SCRYPT_R, "p": _SCRYPT_P, "dklen": _KEY_BYTES, "salt": salt.hex()},
            "mac": keccak(derived[16:32] + ciphertext).hex(),
        },
    }


def decrypt(document: dict[str, object], password: str) -> bytes:
    """The secret; raises `NotAllowed` for a wrong password and `InvalidInput` for a damaged file."""
    crypto = document.get("crypto", document.get("Crypto"))
    try:
        if not isinstance(crypto, dict) or crypto["cipher"] != "aes-128-ctr":
            raise InvalidInput("the keystore uses a cipher other than aes-128-ctr", field="keystore")
        derived = _derive(str(crypto["kdf"]), crypto["kdfparams"], password)
        ciphertext = bytes.fromhex(crypto["ciphertext"])
        nonce = bytes.fromhex(crypto["cipherparams"]["iv"])
        stated = bytes.fromhex(crypto["mac"])
        if len(nonce) != _NONCE_BYTES:
            raise InvalidInput("the keystore's iv does not have 16 bytes", field="keystore")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"the keystore is damaged: {type(error).__name__}", field="keystore") from error
    if not hmac.compare_digest(keccak(derived[16:32] + ciphertext), stated):
        raise NotAllowed("the password does not open this keystore", next_step="type the password again")
    return _aes_ctr(derived[:16], nonce, ciphertext)


def _derive(kind: str, parameters: dict[str, object], password: str) -> bytes:
    salt = bytes.fromhex(str(parameters["salt"]))
    if int(str(parameters["dklen"])) != _KEY_BYTES:
        raise InvalidInput("the keystore asks for an unusual key size", field="keystore")
    if kind == "scrypt":
        n, r, p = (int(str(parameters[name])) for name in ("n", "r", "p"))
        return _scrypt(password, salt, n, r, p)
    rounds = int(str(parameters["c"]))
    if kind != "pbkdf2" or parameters.get("prf") != "hmac-sha256" or not 0 < rounds <= _MAX_PBKDF2_ROUNDS:
        raise InvalidInput("the keystore uses a key derivation this program does not know", field="keystore")
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds, _KEY_BYTES)


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    memory = 128 * n * r
    if not 0 < memory <= _MAX_SCRYPT_MEMORY or not 0 < p <= 16:
        raise InvalidInput("the keystore asks for more work than is sane", field="keystore")
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=memory + (1 << 20), dklen=_KEY_BYTES)


def _aes_ctr(key: bytes, nonce: bytes, data: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor()
    return cipher.update(data) + cipher.finalize()
