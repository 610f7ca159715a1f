"""What Token-2022 mints may keep of a transfer, so that a payee gets exactly what a payment says."""

from __future__ import annotations

from dataclasses import dataclass

_TYPE_AT = 165
_MINT = 1
_TRANSFER_FEE_CONFIG = 1
_CONFIG_BYTES = 108
_WHOLE = 10_000
# Extensions under which a payee may not get, keep or see what was sent; we do not pay with such tokens.
_NON_TRANSFERABLE, _TRANSFER_HOOK = 9, 14
_DEFAULT_STATE, _FROZEN = 6, 2


@dataclass(frozen=True, slots=True)
class TransferFee:
    """A share in ten-thousandths, up to a maximum in atomic units."""

    basis_points: int = 0
    maximum: int = 0

    def of(self, gross: int) -> int:
        """What is kept of `gross`, rounded up as the program does."""
        return min(-(-gross * self.basis_points // _WHOLE), self.maximum)

    def gross_for(self, net: int) -> int:
        """The smallest amount of which `net` arrives. Raises `ValueError` when none does."""
        if not self.basis_points or not net:
            return net
        if self.basis_points >= _WHOLE:
            return net + self.maximum
        gross = min(-(-net * _WHOLE // (_WHOLE - self.basis_points)), net + self.maximum)
        # Rounding may be one off in either direction.
        for candidate in range(max(net, gross - 2), gross + 3):
            if candidate - self.of(candidate) == net:
                return candidate
        raise ValueError("no amount leaves exactly this after the token's fee")


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """The fee now, and the one from `epoch` on."""

    older: TransferFee
    newer: TransferFee
    epoch: int

    def at(self, epoch: int) -> TransferFee:
        return self.newer if epoch >= self.epoch else self.older


def read_fee_schedule(mint_data: bytes) -> FeeSchedule | None:
    """None for a mint that keeps nothing."""
    config = _extensions(mint_data).get(_TRANSFER_FEE_CONFIG)
    if config is None or len(config) != _CONFIG_BYTES:
        return None
    older, newer = (_fee(config[at : at + 18]) for at in (72, 90))
    return FeeSchedule(older, newer, int.from_bytes(config[90:98], "little"))


def unsafe_extension(mint_data: bytes) -> str | None:
    """The name of an extension that makes a mint unfit for payments."""
    found = _extensions(mint_data)
    if _NON_TRANSFERABLE in found:
        return "non-transferable"
    if any(found.get(_TRANSFER_HOOK, b"")[32:64]):  # many mints have the extension with no program in it
        return "transfer hook"
    return "frozen by default" if found.get(_DEFAULT_STATE, b"")[:1] == bytes([_FROZEN]) else None


def _fee(data: bytes) -> TransferFee:
    return TransferFee(int.from_bytes(data[16:18], "little"), int.from_bytes(data[8:16], "little"))


def _extensions(data: bytes) -> dict[int, bytes]:
    """Type and content of each entry after the kind byte."""
    found: dict[int, bytes] = {}
    if len(data) <= _TYPE_AT or data[_TYPE_AT] != _MINT:
        return found
    at = _TYPE_AT + 1
    while at + 4 <= len(data):
        kind, length = (int.from_bytes(data[at + part : at + part + 2], "little") for part in (0, 2))
        if not kind:
            break
        found[kind] = data[at + 4 : at + 4 + length]
        at += 4 + length
    return found
