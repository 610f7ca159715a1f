"""A session approval on a running economy: signed by a key file, spent by the workers, taken back, all counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest

from tests.economy.conftest import Town
from tests.economy.test_commands import SUMMARISE, nexus

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def json_of(town: Town, *arguments: str) -> dict[str, object]:
    code, out, err = await nexus(town, *arguments, "--json")
    assert code == 0, out + err
    found: dict[str, object] = json.loads(out)
    return found


async def test_a_signed_grant_lets_tasks_go_ahead_until_its_wallet_takes_it_back(town: Town, tmp_path: Path) -> None:
    key, other = tmp_path / "wallet", tmp_path / "other"
    for path, digits in ((key, "61"), (other, "62")):
        path.write_text("0x" + digits * 32)
        path.chmod(0o600)
    code, out, err = await nexus(town, "grant", "link", "--key", str(key))
    assert code == 0, out + err
    code, _, err = await nexus(town, "grant", "link", "--key", str(other))
    assert (code, "another wallet of yours has to sign" in err) == (1, True)

    terms = ("--total", "0.05", "--per-payment", "0.02", "--capability", "text.summarize", "--for", "1h")
    grant = await json_of(town, "grant", "new", "--key", str(key), *terms)
    before = await json_of(town, "metrics")
    done = await json_of(town, *SUMMARISE, "--grant", "any")
    assert done["status"] == "completed"
    budget = (await town.call("GET", f"/api/v1/grants/{grant['id']}")).json()["data"]["budget"]
    assert budget["spent"] == done["cost"]
    (use,) = cast("list[dict[str, object]]", await json_of(town, "grant", "uses", str(grant["id"])))
    assert (use["workflow"], use["state"], use["paid"]) == (done["workflow_id"], "posted", done["cost"])
    after = await json_of(town, "metrics", "--workflow", str(done["workflow_id"]))
    assert (after["spent"], after["count"]) == (done["cost"], 1)
    total = await json_of(town, "metrics")
    assert atomic(total["spent"]) - atomic(before["spent"]) == atomic(done["cost"])

    code, out, _ = await nexus(town, "grant", "revoke", str(grant["id"]), "--key", str(key))
    assert (code, "is revoked" in out) == (0, True)
    code, out, err = await nexus(town, *SUMMARISE, "--grant", str(grant["id"]), "--json")
    assert (code, json.loads(out)["status"]) == (1, "cancelled")
    assert "the approval is revoked" in err
    code, _, err = await nexus(town, "grant", "new", "--key", str(other), "--total", "1")
    assert (code, "may not approve" in err) == (1, True)


def atomic(money: object) -> int:
    assert isinstance(money, dict)
    return int(money["atomic"])
