"""Load an agent's code and run it once: whatever it does becomes one outcome that travels as JSON."""

from __future__ import annotations

import contextlib
import errno
import importlib
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import ValidationError

from agentnexus.sdk.agent import Agent
from agentnexus.sdk.context import Cancelled, Context, Refusal

Status: TypeAlias = Literal["completed", "refused", "failed", "cancelled"]

# What the kernel says when a limit of the sandbox was reached, by the limit's name.
LIMIT_BY_ERRNO = {errno.ENOSPC: "tmp", errno.EFBIG: "tmp", errno.EMFILE: "open_files", errno.EAGAIN: "processes"}


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """Why there is no output. `code`: invalid_input, agent_refused, agent_failed, limit_exceeded or cancelled."""

    code: str
    message: str
    next_step: str = ""
    field: str = ""
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one execution ended; `output` is a JSON value and only meaningful when completed."""

    status: Status
    output: object = None
    error: ErrorBody | None = None

    def to_json(self) -> dict[str, object]:
        """``{status, output, error}`` with absent parts of the error left out."""
        error = None if self.error is None else {key: value for key, value in asdict(self.error).items() if value}
        return {"status": self.status, "output": self.output, "error": error}


def load_agent(folder: Path, entry: str) -> Agent[..., object]:
    """Import ``module:function`` from an agent's folder.

    Raises `ImportError` when the module is not there or names no agent; errors of the module itself pass through.
    """
    module_name, _, attribute = entry.partition(":")
    _forget_other_agents(folder)
    sys.path[:] = [str(folder), *(path for path in sys.path if path != str(folder))]
    importlib.invalidate_caches()
    found = getattr(importlib.import_module(module_name), attribute, None)
    if not isinstance(found, Agent):
        raise ImportError(
            f"{entry} is no agent: put @agent above def {attribute} in {module_name.replace('.', '/')}.py"
        )
    return found


async def execute(agent: Agent[..., object], value: object, context: Context) -> Outcome:
    """Run inside an event loop. Cancelling the task passes through."""
    with _edge(context) as ended:
        ended.append(Outcome("completed", await agent.run(value, context)))
    return ended[0]


def execute_blocking(agent: Agent[..., object], value: object, context: Context) -> Outcome:
    """Run in this thread of a process that does nothing else."""
    with _edge(context) as ended:
        ended.append(Outcome("completed", agent.run_blocking(value, context)))
    return ended[0]


@contextlib.contextmanager
def _edge(context: Context) -> Iterator[list[Outcome]]:
    """Whatever an author's code raises becomes the outcome; only cancelling the task passes."""
    ended: list[Outcome] = []
    try:
        yield ended
    except (Cancelled, SystemExit, Exception) as error:  # noqa: BLE001 - the edge to an author's code
        ended.append(_failure(error, context))


def _failure(error: BaseException, context: Context) -> Outcome:
    match error:
        case Refusal():
            body = ErrorBody("agent_refused", error.message, error.next_step, error.field)
            return Outcome("refused", error=body)
        case ValidationError() if _is_about_input(error):
            return Outcome("refused", error=_wrong_input(error))
        case Cancelled():
            return Outcome("cancelled", error=ErrorBody("cancelled", "The run was cancelled."))
        case MemoryError():
            return Outcome("failed", error=_limit("memory", "The agent ran out of memory."))
        case OSError() if error.errno in LIMIT_BY_ERRNO:
            limit = LIMIT_BY_ERRNO[error.errno]
            return Outcome("failed", error=_limit(limit, f"The agent ran into its {limit} limit: {error.strerror}."))
    context.log("".join(traceback.format_exception(error)), level="error")
    reason = f"The agent failed with {type(error).__name__}: {error}"
    return Outcome("failed", error=ErrorBody("agent_failed", reason, "Its log has the details for the author."))


def _is_about_input(error: ValidationError) -> bool:
    """Validation of the request happens in `Agent.run` itself; a model that the author validates is a failure."""
    frame = error.__traceback__
    names = []
    while frame is not None:
        names.append(frame.tb_frame.f_code.co_name)
        frame = frame.tb_next
    return "model_validate" in names and "_call" not in names and "_to_json" not in names


def _wrong_input(error: ValidationError) -> ErrorBody:
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in fault["loc"])
    return ErrorBody("invalid_input", f"{field or 'input'}: {fault['msg']}", "Correct this field.", field)


def _limit(limit: str, message: str) -> ErrorBody:
    return ErrorBody("limit_exceeded", message, "Send less, or ask the author for a higher limit.", limit=limit)


def _forget_other_agents(folder: Path) -> None:
    """Two agents may both have an `agent.py`: drop modules of the same name that came from another folder."""
    own = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if name.partition(".")[0] in own and origin and not Path(origin).is_relative_to(folder):
            del sys.modules[name]
