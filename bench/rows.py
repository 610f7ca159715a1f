"""What the table of ``docs/benchmarks.md`` shows: each row names the benchmark and reads its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `read` picks the figures out of the benchmark's JSON."""

    bench: str
    what: str
    target: str
    read: Callable[[Json], tuple[str, str, str]]  # ours, peer, ratio or remark


def at(result: object, *path: str | int) -> float:
    """A number deep in a JSON value."""
    for key in path:
        result = result[key]  # type: ignore[index]  # a JSON tree: a wrong path should fail loudly
    assert isinstance(result, int | float)
    return float(result)


def plain(ours: float, unit: str, digits: int = 1) -> tuple[str, str, str]:
    return f"{ours:,.{digits}f} {unit}", "", ""


def beside(ours: float, peer: float, unit: str, *, faster: bool = False) -> tuple[str, str, str]:
    """`faster`: larger is better."""
    ratio = ours / peer if faster else peer / ours
    return f"{ours:,.1f} {unit}", f"{peer:,.1f} {unit}", f"{ratio:.1f}x"


def beside_dbos(result: Json, shape: str) -> tuple[str, str, str]:
    """Our workflows a second at 256 callers beside DBOS at whatever number of callers suits it best."""
    ours = at(result, "results", f"{shape}-256", "per_second")
    (peer,) = entries(result, "peers").values()
    rates = [at(each, "per_second") for name, each in entries(peer, "results").items() if f"-{shape}-" in name]
    return beside(ours, max(rates), "/s", faster=True) if rates else plain(ours, "/s")


def beside_bubblewrap(result: Json) -> tuple[str, str, str]:
    """The peer starts a Python in a bubblewrap; where there is none, ours stands alone."""
    ours, peer = at(result, "sandbox", "result", "p50_ms"), result["bubblewrap_importing_the_agent"]
    return beside(ours, at(peer, "p50_ms"), "ms") if isinstance(peer, dict) else plain(ours, "ms")


def beside_alto(result: Json) -> tuple[str, str, str]:
    """Both wait for a receipt on the same chain; where the peer is not installed, ours stands alone."""
    ours, peer = at(result, "sponsored deposit, own bundler", "p50_ms"), result.get("sponsored deposit, Alto")
    return beside(ours, at(peer, "p50_ms"), "ms") if isinstance(peer, dict) else plain(ours, "ms")


def largest_stage(result: Json) -> tuple[str, str, str]:
    """How long a purchase takes, and which of its stages takes most of that."""
    stages = entries(result, "stages")
    name = max(stages, key=lambda stage: at(stages, stage, "share"))
    return f"{at(result, 'purchase', 'p95_ms'):.0f} ms", "", f"{at(stages, name, 'share') * 100:.0f} % of it: {name}"


def entries(result: object, key: str) -> Json:
    """An object inside a JSON object."""
    assert isinstance(result, dict)
    inner: Json = result[key]
    return inner


def hit_rate(result: Json, part: str) -> tuple[str, str, str]:
    """The offline planner's; a language model's beside it, where one was asked."""
    rates = {name: at(parts, part, "hit_rate") * 100 for name, parts in entries(result, "hit_rates").items()}
    ours = rates.pop("offline")
    peer = next((f"{rate:.0f} % ({name})" for name, rate in rates.items()), "")
    of = f"of {at(result, 'hit_rates', 'offline', part, 'tasks'):.0f} tasks"
    return f"{ours:.0f} %", peer, of


ROWS = (
    Row(
        "cache",
        "cached value found in the process, p99",
        "< 1 ms",
        lambda r: (f"{at(r, 'found in the process', 'p99_ms') * 1e3:.1f} µs", "", ""),
    ),
    Row(
        "cache",
        "cached value found in Redis, p99; peer: the bare client reading the same",
        "< 1 ms",
        lambda r: (
            f"{at(r, 'found in Redis', 'p99_ms'):.2f} ms",
            f"{at(r, 'bare client', 'p99_ms'):.2f} ms",
            "checked, decoded, kept in the process",
        ),
    ),
    Row(
        "ledger",
        "reserve + post, one hot account, 64 callers; peer: `SELECT … FOR UPDATE`",
        "≥ 1,000/s",
        lambda r: beside(
            at(r, "rows", 1, "ledger", "pairs_per_second"),
            at(r, "rows", 1, "naive_for_update", "pairs_per_second"),
            "pairs/s",
            faster=True,
        ),
    ),
    Row(
        "ledger_reads",
        "balance of a hot account at a past moment, 300,000 transfers, p95; peer: adding its entries up",
        "< 10 ms",
        lambda r: beside(
            at(r, "rows", "as of", "ledger", "p95_ms"), at(r, "rows", "as of", "adding_up", "p95_ms"), "ms"
        ),
    ),
    Row(
        "ledger_reads",
        "statement of an hour of that account, p95; peer: a running sum over its entries",
        "< 10 ms",
        lambda r: beside(
            at(r, "rows", "statement of an hour", "ledger", "p95_ms"),
            at(r, "rows", "statement of an hour", "adding_up", "p95_ms"),
            "ms",
        ),
    ),
    Row(
        "x402",
        "paid request end to end, p50; peer: official Python stack, same chain and run",
        "≤ 1/3 of the peer",
        lambda r: beside(at(r, "paid_p50_ms", "ours"), at(r, "paid_p50_ms", "official"), "ms"),
    ),
    Row(
        "x402",
        "paid requests a second at concurrency 8; peer: official stack, its async facilitator",
        "≥ 5 times the peer",
        lambda r: beside(at(r, "paid_rps_c8", "ours"), at(r, "paid_rps_c8", "official"), "/s", faster=True),
    ),
    Row(
        "evm",
        "authorisations verified and settled on the chain a second, 8 at once, in process",
        "",
        lambda r: plain(at(r, "verify and settle, 8 at once", "per_second"), "/s"),
    ),
    Row(
        "indexer",
        "events of contracts read, decoded and kept by block hash a second; peer: the node alone, logs thrown away",
        "",
        lambda r: beside(at(r, "kept_per_second"), at(r, "node_alone_per_second"), "/s", faster=True),
    ),
    Row("indexer", "events told to a handler a second, once each", "", lambda r: plain(at(r, "told_per_second"), "/s")),
    Row(
        "indexer",
        "from a mined block to the handler of its event, p95",
        "",
        lambda r: plain(at(r, "block_to_handler", "p95_ms"), "ms"),
    ),
    Row("x402", "verify, CPU", "≤ 1 ms", lambda r: plain(at(r, "verify_cpu_ms"), "ms", 2)),
    Row(
        "x402",
        "402 answer, CPU beyond the bare route; peer: official middleware",
        "< 60 µs",
        lambda r: (
            f"{at(r, 'unpaid_402_overhead_us'):.0f} µs",
            f"{at(r, 'official_402_overhead_us'):.0f} µs",
            "below zero: answered before the route",
        ),
    ),
    Row(
        "x402_solana",
        "paid request on Solana, confirmed by the next slot of 400 ms, p50; peer: official Python stack, same run",
        "≤ 1/3 of the peer",
        lambda r: beside(at(r, "paid_with_slots_p50_ms", "ours"), at(r, "paid_with_slots_p50_ms", "official"), "ms"),
    ),
    Row(
        "x402_solana",
        "the same on a chain that confirms at once: what the stacks take by themselves, p50",
        "",
        lambda r: beside(at(r, "paid_p50_ms", "ours"), at(r, "paid_p50_ms", "official"), "ms"),
    ),
    Row(
        "x402_solana",
        "paid requests on Solana a second at concurrency 8; peer: official stack, its facilitator in threads",
        "",
        lambda r: beside(at(r, "paid_rps_c8", "ours"), at(r, "paid_rps_c8", "official"), "/s", faster=True),
    ),
    Row("x402_solana", "verify on Solana, CPU", "≤ 1 ms", lambda r: plain(at(r, "verify_cpu_ms"), "ms", 2)),
    Row(
        "solana",
        "a payment on Solana by the rail, journal and all, p50; peer: solana-py making the same calls, keeping nothing",
        "",
        lambda r: beside(at(r, "pay", "p50_ms"), at(r, "pay, solana-py", "p50_ms"), "ms"),
    ),
    Row(
        "solana",
        "one read of a Solana node, p50; peer: solana-py",
        "",
        lambda r: beside(at(r, "read", "p50_ms"), at(r, "read, solana-py", "p50_ms"), "ms"),
    ),
    Row("solana", "a claimed deposit verified, p50", "", lambda r: plain(at(r, "verify a deposit", "p50_ms"), "ms", 2)),
    Row(
        "streams",
        "10,000 live streams in one process, all on one workflow: an event heard, p99 (clients on the same cores)",
        "",
        lambda r: plain(at(r, "one_workflow", "p99_ms"), "ms", 0),
    ),
    Row(
        "streams",
        "the same spread over 100 workflows, p99",
        "",
        lambda r: plain(at(r, "spread_over_100_workflows", "p99_ms"), "ms", 0),
    ),
    Row(
        "hiring",
        "search and rank 10,000 cached offers, by capability, p95",
        "< 5 ms",
        lambda r: plain(at(r, "search_10000_offers", "by capability", "p95_ms"), "ms"),
    ),
    Row(
        "hiring",
        "search and rank 10,000 cached offers, by words, p95",
        "< 5 ms",
        lambda r: plain(at(r, "search_10000_offers", "by words", "p95_ms"), "ms"),
    ),
    Row(
        "hiring",
        "overhead of a hire beyond seller and chain, p50",
        "< 15 ms",
        lambda r: plain(at(r, "hire_overhead_one_at_a_time", "p50_ms"), "ms"),
    ),
    Row(
        "sandbox",
        "warm sandbox, request to first update, p50; peer: plain `python` importing the same agent",
        "< 150 ms",
        lambda r: beside(
            at(r, "sandbox", "first_update", "p50_ms"), at(r, "plain_python_importing_the_agent", "p50_ms"), "ms"
        ),
    ),
    Row(
        "sandbox",
        "warm sandbox, request to result, p50; peer: `bwrap` and plain `python` importing the same agent, where it is",
        "",
        beside_bubblewrap,
    ),
    Row("sandbox", "cold sandbox, first result", "< 1 s", lambda r: plain(at(r, "sandbox", "cold_ms"), "ms", 0)),
    Row(
        "sandbox",
        "sandboxed runs a second, 4 in flight",
        "≥ 20/s",
        lambda r: plain(at(r, "sandbox", "runs_per_second"), "/s"),
    ),
    Row(
        "workflows",
        "one-step workflows a second, 256 callers in the worker's process; peer: one transaction per step, row locks",
        "≥ 100/s",
        lambda r: beside(
            at(r, "results", "single-256", "per_second"),
            at(r, "results", "naive-single-256", "per_second"),
            "/s",
            faster=True,
        ),
    ),
    Row(
        "workflows",
        "five-step DAGs a second, 256 callers in the worker's process; peer: the same naive engine",
        "",
        lambda r: beside(
            at(r, "results", "dag-256", "per_second"),
            at(r, "results", "naive-dag-256", "per_second"),
            "/s",
            faster=True,
        ),
    ),
    Row(
        "workflows",
        "one-step workflows a second, 256 in flight; peer: DBOS 3.4.0 at its best of 1, 16, 64 in flight",
        "",
        lambda r: beside_dbos(r, "single"),
    ),
    Row(
        "workflows",
        "five-step DAGs a second, 256 in flight; peer: DBOS 3.4.0 at its best of 1, 16, 64 in flight",
        "",
        lambda r: beside_dbos(r, "dag"),
    ),
    Row(
        "engines",
        "one-step workflows a second, two worker processes; beside it: one",
        "≥ 100/s",
        lambda r: beside(
            at(r, "postgres", "single-2", "per_second"), at(r, "postgres", "single-1", "per_second"), "/s", faster=True
        ),
    ),
    Row(
        "engines",
        "five-step DAGs a second, two worker processes; beside it: one",
        "",
        lambda r: beside(
            at(r, "postgres", "dag-2", "per_second"), at(r, "postgres", "dag-1", "per_second"), "/s", faster=True
        ),
    ),
    Row(
        "engines",
        "one-step workflows a second, one worker process without callers of its own; peer: Restate's own handlers",
        "",
        lambda r: beside(
            at(r, "postgres", "single-1", "per_second"),
            at(r, "restate_native", "single-64", "per_second"),
            "/s",
            faster=True,
        ),
    ),
    Row(
        "engines",
        "five-step DAGs a second, one worker process without callers of its own; peer: Restate's own handlers",
        "",
        lambda r: beside(
            at(r, "postgres", "dag-1", "per_second"), at(r, "restate_native", "dag-64", "per_second"), "/s", faster=True
        ),
    ),
    Row(
        "engines",
        "one-step workflows a second, one worker, engine on Restate; peer: Restate's own handlers, 64 in flight",
        "",
        lambda r: beside(
            at(r, "restate", "single-1", "per_second"),
            at(r, "restate_native", "single-64", "per_second"),
            "/s",
            faster=True,
        ),
    ),
    Row(
        "engines",
        "five-step DAGs a second, one worker, engine on Restate; peer: Restate's own handlers, 64 in flight",
        "",
        lambda r: beside(
            at(r, "restate", "dag-1", "per_second"), at(r, "restate_native", "dag-64", "per_second"), "/s", faster=True
        ),
    ),
    Row(
        "engines",
        "a worker killed in 300 steps: until the last is done by the other; beside it: on Restate",
        "< 6 s",
        lambda r: beside(at(r, "takeover_seconds", "postgres"), at(r, "takeover_seconds", "restate"), "s"),
    ),
    Row(
        "engines",
        "counts of /health beside 400,000 workflows, p95",
        "< 10 ms",
        lambda r: plain(at(r, "beside_400000_runs", "counts for /health", "p95_ms"), "ms"),
    ),
    Row(
        "engines",
        "claim and end one of 20,000 queued beside 400,000, two commits, p95",
        "< 10 ms each",
        lambda r: plain(at(r, "beside_400000_runs", "claim and end one", "p95_ms"), "ms"),
    ),
    Row(
        "workflows",
        "overhead of one step on the critical path, alone",
        "",
        lambda r: plain(at(r, "overhead_per_step_ms", "at_1"), "ms"),
    ),
    Row(
        "planner",
        "tasks in plain words that the offline planner plans as expected; peer: a language model, where one is set up",
        "≥ 95 %",
        lambda r: hit_rate(r, "tuned"),
    ),
    Row(
        "planner",
        "the same on tasks written after it was tuned, for which nothing was mended",
        "",
        lambda r: hit_rate(r, "held_out"),
    ),
    Row(
        "planner",
        "cached plan, checked and priced, p95",
        "< 5 ms",
        lambda r: plain(at(r, "speed", "cached", "p95_ms"), "ms", 2),
    ),
    Row(
        "planner",
        "fresh offline plan among 504 offers, p95 (a live language model is not measured: there is none here)",
        "< 3 s",
        lambda r: plain(at(r, "speed", "fresh", "p95_ms"), "ms"),
    ),
    Row(
        "up",
        "`nexus up`, every start after the first; beside it: the first, which makes databases, chains and listings",
        "< 5 s",
        lambda r: (
            f"{at(r, 'warm_start_seconds'):.1f} s",
            f"{at(r, 'first_start_seconds'):.1f} s",
            "",
        ),
    ),
    Row(
        "up",
        "live offers of a running economy over HTTP, every market asked anew, p50",
        "< 150 ms",
        lambda r: plain(at(r, "live_offers_ms", "p50"), "ms"),
    ),
    Row("up", "`nexus --help`", "< 500 ms", lambda r: plain(at(r, "command_ms"), "ms", 0)),
    Row(
        "userops",
        "user operation built and signed, gas known, p50",
        "< 5 ms",
        lambda r: plain(at(r, "build and sign, gas known", "p50_ms"), "ms"),
    ),
    Row(
        "userops",
        "the same with its gas estimated by one simulation, p50",
        "",
        lambda r: plain(at(r, "build and sign, gas estimated", "p50_ms"), "ms"),
    ),
    Row(
        "userops",
        "sponsored deposit as a user operation, from its calls to the receipt, p50; peer: Alto, where it is installed",
        "",
        beside_alto,
    ),
    Row(
        "userops",
        "a contract's view read, p50; peer: web3.py, same node and run",
        "",
        lambda r: beside(at(r, "read a contract", "p50_ms"), at(r, "read a contract, web3.py", "p50_ms"), "ms"),
    ),
    Row(
        "purchases",
        "runs bought on chain, from the request to the right to run, p95; gas sponsored, the node signs",
        "< 1 s",
        largest_stage,
    ),
    Row("purchases", "the same, p50", "", lambda r: plain(at(r, "purchase", "p50_ms"), "ms", 0)),
    Row(
        "purchases",
        "the first purchase of an account, which makes the account as well, p50",
        "",
        lambda r: plain(at(r, "first purchase of an account, which makes it", "p50_ms"), "ms", 0),
    ),
)
