"""The four built-in agents as offers, with the schemas that their own code declares."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from agentnexus.core.money import Asset
from agentnexus.core.offers import Capability, Offer, Party, Price
from agentnexus.workflows.plan import Offered
from agentnexus.workflows.planning import offered_from

ROOT = Path(__file__).resolve().parents[2]
USDC = Asset("USDC", 6, "eip155:31337/erc20:0x" + "ab" * 20)
NAMES = ("pdf-extractor", "content-summarizer", "spreadsheet-analyzer", "knowledge-qa")
DUMP = """
import json, sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import agent
print(json.dumps([agent.Request.model_json_schema(), agent.Answer.model_json_schema()]))
"""


def capability_of(name: str) -> tuple[Capability, str]:
    folder = ROOT / "agents" / name
    manifest = tomllib.loads((folder / "agent.toml").read_text(encoding="utf-8"))
    arguments = [sys.executable, "-c", DUMP, str(folder), str(ROOT / "src")]
    done = subprocess.run(arguments, capture_output=True, check=True)
    takes, gives = json.loads(done.stdout)
    found = Capability(
        name=manifest["capability"], title=manifest["title"], description=manifest["summary"] + manifest["description"],
        input_schema=takes, output_schema=gives, tags=tuple(manifest["categories"]),
    )  # fmt: skip
    return found, manifest["pricing"]["per_run"]


@cache
def agent_offers() -> tuple[Offer, ...]:
    return tuple(offer_of(*capability_of(name), seller=f"0x{number:040x}") for number, name in enumerate(NAMES, 1))


def offer_of(capability: Capability, price: str, *, seller: str = "0x" + "11" * 20, suffix: str = "") -> Offer:
    return Offer(
        id=f"x402:{capability.name}{suffix}",
        market="x402",
        seller=Party(ids={"evm": seller}, name=f"{capability.title} seller{suffix}"),
        capability=capability,
        title=capability.title,
        price=Price(per_job=USDC.parse(price)),
        rails=({"scheme": "exact", "network": "eip155:31337"},),
        endpoint=f"http://127.0.0.1/x402/agents/{capability.name}{suffix}",
        observed_at=datetime(2026, 11, 20, tzinfo=UTC),
    )


def agents_offered() -> Offered:
    return offered_from(agent_offers())
