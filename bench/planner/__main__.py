"""Hit rate of the planners on the corpus: ``python -m bench.planner [--misses]`` prints JSON.

The offline planner always; a language model too where ``NEXUS_LLM_BASE_URL`` names one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

from agentnexus.core.errors import NexusError
from agentnexus.workflows.model import Plan
from agentnexus.workflows.plan import Offered, check_plan, with_offers
from agentnexus.workflows.planner.offline import OfflinePlanner
from agentnexus.workflows.planner.port import Planner
from agentnexus.workflows.planning import offered_from
from bench.planner.catalogue import agent_offers
from bench.planner.corpus import HELD_OUT, TUNED, Case, misses, questions, read_corpus
from bench.planner.tables import query_misses


async def answer_of(planner: Planner, case: Case, offered: Offered) -> Plan | NexusError:
    """A plan that passes the checks of every plan, or the refusal."""
    task = case.task
    try:
        plan = with_offers(await planner.plan(task, offered), offered)
        check_plan(plan, task.files, offered)
    except NexusError as error:
        return error
    return plan


async def judge(planner: Planner, case: Case, offered: Offered) -> list[str]:
    """Why the case is a miss; empty for a hit."""
    answer = await answer_of(planner, case, offered)
    found = list(misses(case, answer))
    if isinstance(answer, Plan) and case.table is not None:
        found += query_misses(case.table, questions(answer))
    return found


async def measure(planner: Planner, cases: Sequence[Case], offered: Offered) -> dict[str, object]:
    """``{tasks, hits, hit_rate, misses: {task: [why]}}``."""
    missed = {case.say.strip()[:200]: why for case in cases if (why := await judge(planner, case, offered))}
    hits = len(cases) - len(missed)
    return {"tasks": len(cases), "hits": hits, "hit_rate": round(hits / len(cases), 4), "misses": missed}


async def measured() -> dict[str, object]:
    offered = offered_from(agent_offers())
    tuned, held_out = read_corpus(TUNED), read_corpus(HELD_OUT)
    return {
        "offline": {
            "tuned": await measure(OfflinePlanner(), tuned, offered),
            "held_out": await measure(OfflinePlanner(), held_out, offered),
        }
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args()
    json.dump(asyncio.run(measured()), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
