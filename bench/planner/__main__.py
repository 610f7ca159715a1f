"""Hit rate of the planners on the corpus: ``python -m bench.planner`` prints JSON.

The offline planner always; a language model too where ``NEXUS_LLM_BASE_URL`` names one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence

from agentnexus.core.errors import NexusError
from agentnexus.core.offers import Offer
from agentnexus.platform.settings import Settings
from agentnexus.workflows.model import Plan
from agentnexus.workflows.planner.chats import open_chat
from agentnexus.workflows.planner.llm import LlmPlanner
from agentnexus.workflows.planner.offline import OfflinePlanner
from agentnexus.workflows.planner.port import Planner
from agentnexus.workflows.planning import Planning
from bench.planner.catalogue import agent_offers
from bench.planner.corpus import HELD_OUT, TUNED, Case, misses, questions, read_corpus
from bench.planner.shelf import Shelf
from bench.planner.speed import request_of, speed
from bench.planner.tables import query_misses


async def answer_of(planner: Planner, case: Case, offers: Sequence[Offer]) -> Plan | NexusError:
    """The plan as a workflow would get it, after checks and repairs, or the refusal."""
    try:
        return (await Planning(Shelf(offers), [planner]).plan(request_of(case))).plan
    except NexusError as error:
        return error


async def judge(planner: Planner, case: Case, offers: Sequence[Offer]) -> list[str]:
    """Why the case is a miss; empty for a hit."""
    answer = await answer_of(planner, case, offers)
    found = list(misses(case, answer))
    if isinstance(answer, Plan) and case.table is not None:
        found += query_misses(case.table, questions(answer))
    return found


async def measure(planner: Planner, cases: Sequence[Case], offers: Sequence[Offer]) -> dict[str, object]:
    """``{tasks, hits, hit_rate, misses: {task: [why]}}``."""
    missed = {case.say.strip()[:200]: why for case in cases if (why := await judge(planner, case, offers))}
    hits = len(cases) - len(missed)
    return {"tasks": len(cases), "hits": hits, "hit_rate": round(hits / len(cases), 4), "misses": missed}


def planners() -> Iterator[tuple[str, Planner]]:
    """The offline planner, and a language model where the settings name one."""
    yield "offline", OfflinePlanner()
    settings = Settings()
    if settings.llm_base_url is not None:
        key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else ""
        chat = open_chat(settings.llm_protocol, settings.llm_base_url, settings.llm_model, key)
        yield f"llm:{settings.llm_model}", LlmPlanner(chat, settings.llm_model)


async def measured() -> dict[str, object]:
    """Hit rates by planner and part of the corpus, and how long planning takes."""
    offers = agent_offers()
    parts = {"tuned": read_corpus(TUNED), "held_out": read_corpus(HELD_OUT)}
    rates = {
        name: {part: await measure(planner, cases, offers) for part, cases in parts.items()}
        for name, planner in planners()
    }
    return {"hit_rates": rates, "speed": await speed(parts["tuned"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args()
    json.dump(asyncio.run(measured()), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
