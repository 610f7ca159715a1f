"""The built-in agents as offers, with the schemas that their own code declares."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from agentnexus.core.money import Asset
from agentnexus.core.offers import Capability, Offer, Party, Price

AGENTS = Path(__file__).resolve().parents[2] / "agents"
USDC = Asset("USDC", 6, "eip155:31337/erc20:0x" + "ab" * 20)
DESCRIBE = """
import json, sys
from pathlib import Path
from agentnexus.sdk.local import describe
print(json.dumps(describe(Path(sys.argv[1]))))
"""


@cache
def agent_offers() -> tuple[Offer, ...]:
    """One offer per agent folder, in the order of their names. Each is read by a process of its own."""
    folders = sorted(path.parent for path in AGENTS.glob("*/agent.toml"))
    return tuple(_offer(folder, number) for number, folder in enumerate(folders, start=1))


def _offer(folder: Path, number: int) -> Offer:
    done = subprocess.run([sys.executable, "-c", DESCRIBE, str(folder)], capture_output=True, check=True)
    described = json.loads(done.stdout)
    manifest = described["manifest"]
    capability = Capability(
        name=manifest["capability"],
        title=manifest["title"],
        description=manifest["summary"] + manifest["description"],
        input_schema=described["input"],
        output_schema=described["output"],
        tags=tuple(manifest["categories"]),
    )
    return Offer(
        id=f"x402:{capability.name}",
        market="x402",
        seller=Party(ids={"evm": f"0x{number:040x}"}, name=manifest["title"]),
        capability=capability,
        title=capability.title,
        price=Price(per_job=USDC.parse(str(manifest["pricing"]["per_run"]))),
        rails=({"scheme": "exact", "network": "eip155:31337"},),
        endpoint=f"http://127.0.0.1/x402/agents/{capability.name}",
        observed_at=datetime(2026, 11, 20, tzinfo=UTC),
    )
