"""What `nexus metrics` prints of sellers: nothing that cannot be told from another."""

from __future__ import annotations

import pytest

from agentnexus.cli.metrics import LABEL_CHARS, _label, _show

USDC = {"asset": "eip155:1/erc20:0x" + "a" * 40, "symbol": "USDC", "decimals": 6}


def money(atomic: int) -> dict[str, object]:
    return {**USDC, "atomic": str(atomic)}


@pytest.mark.parametrize("label", ["pdf.extract", "2026-11-21", "x" * LABEL_CHARS])
def test_what_fits_is_whole(label: str) -> None:
    assert _label({"label": label}) == label


def test_a_long_key_is_cut_in_its_middle_and_says_so() -> None:
    one, other = (_label({"label": f"evm:0x9965507d1a55bcc2695c58ba16fb37d819b0a{end}"}) for end in ("4dc", "4dd"))
    assert one != other
    assert len(one) == LABEL_CHARS
    assert (one[:10], one[-3:]) == ("evm:0x9965", "4dc")
    assert "…" in one


def test_no_label_is_said() -> None:
    assert _label({"label": ""}) == "(none)"


def test_a_report_shows_its_groups(capsys: pytest.CaptureFixture[str]) -> None:
    groups = [{"label": "evm:0x" + "a" * 40, "spent": money(20_000), "count": 2}]
    report = {
        **{name: money(20_000) for name in ("spent", "earned", "fees", "net", "average")},
        "count": 2, "savings": None, "by": {"seller": groups},
    }  # fmt: skip
    _show(report, "seller")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split()[:4] == [_label(groups[0]), "0.02", "USDC", "2"]
