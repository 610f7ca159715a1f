"""Runs every benchmark, keeps the JSON in ``bench/results/`` and rewrites the table of ``docs/benchmarks.md``.

    python -m bench.all [--only x402,ledger] [--render]      --render: only the table, from the results that are there

One after the other: two at once would measure each other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.rows import ROWS, Json

RESULTS = Path("bench/results")
TABLE = Path("docs/benchmarks.md")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SECONDS_MAX = 120


def run(name: str) -> bool:
    """Run one benchmark in a process of its own and keep its JSON; False when it failed, and says why."""
    sys.stdout.write(f"measuring {name} …\n")
    sys.stdout.flush()
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"bench.{name}"], capture_output=True, text=True, timeout=SECONDS_MAX, check=True
        )
        result: Json = json.loads(done.stdout)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        why = error.stderr or b""
        sys.stdout.write(f"{error}\n{why if isinstance(why, str) else why.decode(errors='replace')}\n")
        return False
    except ValueError as error:
        sys.stdout.write(f"{name} did not print one JSON object: {error}\n")
        return False
    kept = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "load_before": LOAD[name], "result": result}
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return True


def render() -> str:
    """The table, from the kept results."""
    lines = ["| what | ours | peer | ours against it | target | measured |", "|---|---:|---:|---|---|---|"]
    for row in ROWS:
        path = RESULTS / f"{row.bench}.json"
        if not path.exists():
            continue
        kept = json.loads(path.read_text(encoding="utf-8"))
        ours, peer, remark = row.read(kept["result"])
        when = f"{kept['measured_at'][:10]}, load {kept['load_before']}"
        lines.append(f"| {row.what} | **{ours}** | {peer} | {remark} | {row.target} | {when} |")
    return "\n".join(lines)


def machine() -> str:
    """What it ran on, for the head of the table."""
    return f"{os.cpu_count()} shared cores, {platform.machine()}, Linux, Python {platform.python_version()}"


LOAD: dict[str, float] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="comma-separated names")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    names = [name for name in arguments.only.split(",") if name] or sorted({row.bench for row in ROWS})
    failed = []
    for name in [] if arguments.render else names:
        time.sleep(2)  # lets the one before leave the cores
        LOAD[name] = round(os.getloadavg()[0], 1)
        if not run(name):
            failed.append(name)
    text = TABLE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    TABLE.write_text(f"{head}{BEGIN}\nMachine: {machine()}.\n\n{render()}\n{END}{tail}", encoding="utf-8")
    sys.stdout.write(render() + "\n")
    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
