"""Sealed texts open with their key, in their place, unchanged; and the key file is private."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.clock import SeededEntropy, SystemEntropy
from agentnexus.core.errors import InvalidInput, NotAllowed
from agentnexus.platform.sealing import Sealer

KEY = b"\x01" * 32


def sealer(key: bytes = KEY) -> Sealer:
    return Sealer(key, SystemEntropy())


@given(st.text(), st.text())
def test_what_was_sealed_opens_in_its_place(text: str, place: str) -> None:
    sealed = sealer().seal(text, place)
    assert sealed.startswith(sealer().prefix)
    assert sealer().open(sealed, place) == text
    assert len(text) < 8 or text not in sealed


def test_the_same_text_is_never_sealed_the_same_way() -> None:
    assert sealer().seal("secret", "here") != sealer().seal("secret", "here")


@pytest.mark.parametrize(
    "sealed",
    [
        "", "secret", "sealed:", sealer().prefix, sealer().prefix + "@@@", sealer().prefix + "AAAA",
        Sealer(b"\x02" * 32, SeededEntropy(1)).seal("secret", "here"), sealer().seal("secret", "there"),
        sealer().seal("secret", "here")[:-4] + "AAA=",
    ],
    ids=["empty", "plain", "no-key", "nothing", "no-base64", "short", "another-key", "another-place", "altered"],
)  # fmt: skip
def test_another_key_another_place_and_altered_text_open_nothing(sealed: str) -> None:
    with pytest.raises(NotAllowed, match="cannot be opened"):
        sealer().open(sealed, "here")


def test_every_changed_byte_is_noticed() -> None:
    sealed = sealer().seal("secret", "here")
    for position in range(len(sealer().prefix), len(sealed) - 2):
        other = "A" if sealed[position] != "A" else "B"
        with pytest.raises(NotAllowed):
            sealer().open(sealed[:position] + other + sealed[position + 1 :], "here")


def test_the_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "home" / "sealing-key"
    first = Sealer.load_or_create(path, SystemEntropy())
    second = Sealer.load_or_create(path, SystemEntropy())
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["sealing-key"]
    assert second.open(first.seal("secret", "here"), "here") == "secret"
    path.chmod(0o644)
    with pytest.raises(NotAllowed, match="readable by others"):
        Sealer.load_or_create(path, SystemEntropy())


def test_two_homes_have_two_keys(tmp_path: Path) -> None:
    ours, theirs = (Sealer.load_or_create(tmp_path / name, SystemEntropy()) for name in ("ours", "theirs"))
    assert ours.prefix != theirs.prefix
    with pytest.raises(NotAllowed):
        theirs.open(ours.seal("secret", "here"), "here")


def test_a_damaged_key_file_is_refused_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sealing-key"
    path.touch(0o600)
    with pytest.raises(InvalidInput):
        Sealer.load_or_create(path, SystemEntropy())
    assert path.read_bytes() == b""
