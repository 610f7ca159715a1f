"""EIP-7702: an ordinary key lets its address run a contract's code, by a signature that any transaction can carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

from agentnexus.core.errors import InvalidInput
from agentnexus.rails.evm.encoding import RlpItem, address, from_hex, keccak, quantity, rlp, to_hex
from agentnexus.rails.evm.signer import EvmSigner, recover

_MAGIC = b"\x05"
_DESIGNATOR = bytes.fromhex("ef0100")
SET_CODE_TYPE = 4
AUTHORIZATION_GAS = 25_000
_LIST_AT = 9  # the authorisations' place among the fields of such a transaction
Rlp: TypeAlias = "bytes | list[Rlp]"


@dataclass(frozen=True, slots=True)
class DelegationSignature:
    """A key's word that its address shall run `delegate`; good once, while the key's own nonce is `nonce`."""

    chain_id: int
    delegate: str
    nonce: int
    parity: int
    r: int
    s: int

    @property
    def digest(self) -> bytes:
        return _digest(self.chain_id, self.delegate, self.nonce)

    def signer(self) -> str | None:
        """Whose word it is; None when the signature is none."""
        signature = self.r.to_bytes(32, "big") + self.s.to_bytes(32, "big") + bytes([27 + self.parity])
        return recover(self.digest, signature)

    def rlp_fields(self) -> list[RlpItem]:
        return [self.chain_id, bytes.fromhex(self.delegate[2:]), self.nonce, self.parity, self.r, self.s]

    def to_json(self) -> dict[str, str]:
        """As bundlers take it (``eip7702Auth``)."""
        return {
            "chainId": hex(self.chain_id),
            "address": self.delegate,
            "nonce": hex(self.nonce),
            "yParity": hex(self.parity),
            "r": to_hex(self.r.to_bytes(32, "big")),
            "s": to_hex(self.s.to_bytes(32, "big")),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, object]) -> Self:
        """Raises `InvalidInput` naming the field."""
        parity = quantity(body.get("yParity"), field="yParity")
        if parity not in (0, 1):
            raise InvalidInput("yParity is 0 or 1", field="yParity")
        return cls(
            chain_id=quantity(body.get("chainId"), field="chainId"),
            delegate=address(body.get("address"), field="address"),
            nonce=quantity(body.get("nonce"), field="nonce"),
            parity=parity,
            r=int.from_bytes(from_hex(body.get("r"), size=32, field="r"), "big"),
            s=int.from_bytes(from_hex(body.get("s"), size=32, field="s"), "big"),
        )


async def sign_delegation(signer: EvmSigner, chain_id: int, delegate: str, nonce: int) -> DelegationSignature:
    """`nonce` is the key's own transaction count when the delegation is mined."""
    signature = await signer.sign(_digest(chain_id, delegate, nonce))
    r, s = (int.from_bytes(signature[at : at + 32], "big") for at in (0, 32))
    return DelegationSignature(chain_id, delegate, nonce, signature[64] - 27, r, s)


def designator(delegate: str) -> bytes:
    """The code of an address that delegates."""
    return _DESIGNATOR + bytes.fromhex(delegate[2:])


def delegate_of(code: bytes) -> str | None:
    """What an address delegates to, by its code; None for ordinary keys and contracts."""
    return to_hex(code[3:]) if len(code) == 23 and code.startswith(_DESIGNATOR) else None


def delegations_of(raw: bytes) -> tuple[DelegationSignature, ...]:
    """The delegations that a signed transaction carries."""
    if raw[:1] != bytes([SET_CODE_TYPE]):
        return ()
    fields = read_rlp(raw[1:])
    listed = fields[_LIST_AT] if len(fields) > _LIST_AT else b""
    if isinstance(listed, bytes):
        raise InvalidInput("the transaction's delegations are no list", field="raw")
    return tuple(_from_fields(each) for each in listed)


def read_rlp(data: bytes) -> Sequence[Rlp]:
    """The items of an RLP list. Raises `InvalidInput` for anything else, or for bytes behind it."""
    item, end = _read(data, 0)
    if isinstance(item, bytes) or end != len(data):
        raise InvalidInput("not one RLP list", field="raw")
    return item


def _from_fields(fields: Rlp) -> DelegationSignature:
    values = [each for each in fields if isinstance(each, bytes)] if isinstance(fields, list) else []
    if len(values) != 6:
        raise InvalidInput("a delegation has six fields", field="raw")
    chain_id, nonce, parity, r, s = (int.from_bytes(values[at], "big") for at in (0, 2, 3, 4, 5))
    return DelegationSignature(chain_id, to_hex(values[1]), nonce, parity, r, s)


def _read(data: bytes, at: int) -> tuple[Rlp, int]:
    """One item and where it ends."""
    if at >= len(data):
        raise InvalidInput("the RLP is cut off", field="raw")
    head = data[at]
    if head < 0x80:
        return data[at : at + 1], at + 1
    is_list, start, size = head >= 0xC0, at + 1, (head - 0x80) % 0x40
    if size > 55:
        start += size - 55
        size = int.from_bytes(data[at + 1 : start], "big")
    end = start + size
    if end > len(data):
        raise InvalidInput("the RLP is cut off", field="raw")
    if not is_list:
        return data[start:end], end
    items: list[Rlp] = []
    while start < end:
        item, start = _read(data, start)
        items.append(item)
    return items, end


def _digest(chain_id: int, delegate: str, nonce: int) -> bytes:
    return keccak(_MAGIC + rlp([chain_id, bytes.fromhex(delegate[2:]), nonce]))
