"""Judges what an agent sends: every frame is checked, sized and cleaned before it becomes an update.

Used by every runtime; knows nothing of processes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match

from agentnexus.core.errors import (
    AgentFailed,
    AgentRefused,
    BadResult,
    InvalidInput,
    LimitExceeded,
    NexusError,
)
from agentnexus.core.updates import Artifact, Log, Partial, Progress, Update
from agentnexus.runtime.limits import Limits
from agentnexus.runtime.text import LINE_BYTES, Redactor, clean

LEVELS = frozenset({"debug", "info", "warning", "error"})
_FILE_NAME = re.compile(r"[^\x00-\x1f\x7f/\\:*?\"<>|]+")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}(; ?charset=[\w-]+)?", re.I)
_METRIC = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NAME_BYTES = 200
_METRICS = 100
_TEXT_BYTES = 2_000


class Supervisor:
    """One run's account: what it said, how much, what it asked to charge, and how it says it ended."""

    def __init__(self, limits: Limits, redact: Redactor, charge_caps: Mapping[str, int], agent: str) -> None:
        self._limits = limits
        self._redact = redact
        self._caps = charge_caps
        self._agent = agent
        self._log_left = limits.log_bytes
        self._updates = 0
        self._artifact_bytes = 0
        self._artifact_names: set[str] = set()
        self._charge_keys: set[str] = set()
        self._metrics: dict[str, int] = {}
        self.charges: dict[str, int] = {}
        self.outcome: dict[str, object] | None = None

    @property
    def metering(self) -> dict[str, int]:
        """``charge:<event>`` accepted counts and ``metric:<name>`` of the agent's own figures."""
        charges = {f"charge:{name}": count for name, count in self.charges.items()}
        return charges | {f"metric:{name}": value for name, value in self._metrics.items()}

    @property
    def silent(self) -> bool:
        """The log limit is passed: nothing more of it is kept."""
        return self._log_left < 0

    def frame(self, message: Mapping[str, object]) -> Iterator[Update]:
        """The updates in one frame. Raises `LimitExceeded` or `AgentFailed`: then the run must end."""
        match message.get("type"):
            case "log":
                for line in str(message.get("message", "")).splitlines() or [""]:
                    yield from self.log(line, str(message.get("level", "info")))
            case "progress":
                yield from self._progress(message)
            case "output":
                yield from self._counted(Partial(message.get("chunk")))
            case "artifact":
                yield self._artifact(message)
            case "charge":
                yield from self._charge(message)
            case "metric":
                self._metric(message)
            case "completed":
                self.outcome = dict(message)
            case "broken":
                raise AgentFailed(self._shown(message.get("message", "the sandbox broke")), next_step="Try again.")
            case other:
                raise self._misbehaved(f"sent an unknown message {self._shown(other)[:40]!r}")

    def log(self, line: str, level: str = "info") -> Iterator[Log]:
        """A line of log or printed text, up to the log limit; then one marker, then silence."""
        if self.silent:
            return
        text = self._shown(line, LINE_BYTES)
        self._log_left -= len(text.encode()) + 1
        if self._log_left < 0:
            yield Log(f"[log cut off after {self._limits.log_bytes} bytes]", "warning")
        else:
            yield Log(text, level if level in LEVELS else "info")

    def _counted(self, update: Update) -> Iterator[Update]:
        self._updates += 1
        if self._updates <= self._limits.updates:
            yield update

    def _progress(self, message: Mapping[str, object]) -> Iterator[Update]:
        fraction = message.get("fraction")
        known = float(fraction) if isinstance(fraction, int | float) and 0 <= fraction <= 1 else None
        text = self._shown(message.get("message", ""))
        yield from self._counted(Progress(known, text))

    def _artifact(self, message: Mapping[str, object]) -> Artifact:
        name = file_name(message.get("name"))
        if name is None or name in self._artifact_names:
            why = "a file name that is not a plain name" if name is None else f"two files named {self._shown(name)}"
            raise self._misbehaved(f"handed over {why}")
        media_type = str(message.get("media_type", ""))
        if not _MEDIA_TYPE.fullmatch(media_type):
            raise self._misbehaved(f"gave the file {self._shown(name)} no valid media type")
        encoded = message.get("data", "")
        try:
            # Of another type it is an error too, not the text of it: "None" happens to be base64.
            data = base64.b64decode(encoded if isinstance(encoded, str) else "?", validate=True)
        except (binascii.Error, ValueError) as error:
            raise self._misbehaved(f"sent the file {self._shown(name)} in a broken form") from error
        self._artifact_names.add(name)
        self._artifact_bytes += len(data)
        if len(self._artifact_names) > self._limits.artifacts or self._artifact_bytes > self._limits.artifact_bytes:
            raise exceeded("artifacts", f"{self._limits.artifacts} files, {self._limits.artifact_bytes} bytes together")
        return Artifact(name, media_type, data)

    def _charge(self, message: Mapping[str, object]) -> Iterator[Update]:
        event, count, key = message.get("event"), message.get("count"), str(message.get("key", ""))
        cap = self._caps.get(event) if isinstance(event, str) else None
        if cap is None:
            raise self._misbehaved(f"asked to charge for {self._shown(event)[:64]!r}, which is not in its price list")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1 or not key or len(key) > _TEXT_BYTES:
            raise self._misbehaved(f"asked for a charge of {event} without a proper count or key")
        if key in self._charge_keys:
            yield from self.log(f"charge {key} was asked for again and is counted once", "warning")
            return
        total = self.charges.get(str(event), 0) + count
        if total > cap:
            raise exceeded("charges", f"{cap} of {event} in one run")
        self._charge_keys.add(key)
        self.charges[str(event)] = total

    def _metric(self, message: Mapping[str, object]) -> None:
        name, value = str(message.get("name", "")), message.get("value")
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
        is_full = name not in self._metrics and len(self._metrics) >= _METRICS
        if not _METRIC.fullmatch(name) or not whole or is_full:
            raise self._misbehaved("reported a figure without a plain name and a whole number")
        self._metrics[name] = int(str(value))

    def failure(self) -> NexusError | None:
        """The error in the agent's own last word; None when it says completed."""
        outcome = self.outcome or {}
        if outcome.get("status") == "completed":
            return None
        body = outcome.get("error")
        error: Mapping[str, object] = body if isinstance(body, dict) else {}

        def text(key: str) -> str:
            return self._shown(error.get(key, ""))

        message, next_step, field = text("message") or "The agent failed.", text("next_step"), text("field") or None
        match error.get("code"):
            case "invalid_input":
                return InvalidInput(message, next_step=next_step, field=field, agent=self._agent)
            case "agent_refused":
                return AgentRefused(message, next_step=next_step, field=field, agent=self._agent)
            case "limit_exceeded":
                return LimitExceeded(message, next_step=next_step, limit=text("limit"), agent=self._agent)
            case "cancelled":
                return cancelled(self._agent)
        return AgentFailed(message, next_step=next_step or "Try again, or hire another agent.", agent=self._agent)

    def _shown(self, value: object, length: int = _TEXT_BYTES) -> str:
        """An agent's word as it may be stored and shown: without secrets, on one line, not too long."""
        return clean(self._redact(str(value)))[:length]

    def _misbehaved(self, what: str) -> AgentFailed:
        return AgentFailed(
            f"The agent {what}; its run was ended.", next_step="Hire another agent.", agent=self._agent, misbehaved=True
        )


def file_name(value: object) -> str | None:
    """`value` if it is a plain file name that is safe on every system, else None."""
    if not isinstance(value, str) or not _FILE_NAME.fullmatch(value) or clean(value) != value:
        return None
    plain = value.strip() == value and not value.startswith(".") and not value.endswith(".")
    return value if plain and len(value.encode()) <= _NAME_BYTES else None


def exceeded(limit: str, allowed: str) -> LimitExceeded:
    """The run passed `limit`; `allowed` in words."""
    return LimitExceeded(
        f"The agent passed its {limit} limit ({allowed}); its run was ended.",
        next_step="Send less, or choose an agent with a higher limit.",
        limit=limit,
    )


def cancelled(agent: str) -> AgentFailed:
    """Somebody asked for the end of the run."""
    return AgentFailed("The run was cancelled.", next_step="Start it again when wanted.", agent=agent, cancelled=True)


def check_schema(schema: Mapping[str, object]) -> None:
    """Raises `InvalidInput` when it is no valid JSON Schema 2020-12."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise InvalidInput(f"not a JSON Schema: {error.message}", next_step="Correct the agent's types.") from error
    outside = next((reference for reference in _references(schema) if not reference.startswith("#")), None)
    if outside is not None:
        raise InvalidInput(
            f"the schema refers to another document: {outside[:100]!r}", next_step="Put its parts under $defs."
        )


def _references(schema: object) -> Iterator[str]:
    """Every reference in a schema, from whoever wrote the agent: checking a value must not fetch an address."""
    level = [schema]
    while level:
        node = level.pop()
        if isinstance(node, Mapping):
            yield from (str(node[name]) for name in ("$ref", "$dynamicRef") if isinstance(node.get(name), str))
            level.extend(node.values())
        elif isinstance(node, list):
            level.extend(node)


def check_input(schema: Mapping[str, object], value: object) -> None:
    """Raises `InvalidInput` naming the field. CPU work: call it in a thread."""
    fault = _fault(schema, value)
    if fault is not None:
        field, problem = fault
        raise InvalidInput(f"{field or 'input'}: {problem}", next_step="Correct this field.", field=field or None)


def check_output(schema: Mapping[str, object], value: object, agent: str, redact: Redactor) -> None:
    """Raises `BadResult`, its text without the run's secrets. CPU work: call it in a thread."""
    fault = _fault(schema, value)
    if fault is not None:
        field, problem = (redact(part) for part in fault)
        raise BadResult(
            f"The agent's result does not match its own schema at {field or 'the top'}: {problem}",
            next_step="Nothing is charged. Hire another agent.",
            agent=agent,
            field=field or None,
        )


def _fault(schema: Mapping[str, object], value: object) -> tuple[str, str] | None:
    try:
        error: ValidationError | None = best_match(Draft202012Validator(schema).iter_errors(value))
    except RecursionError:
        return "", "is nested too deeply"
    if error is None:
        return None
    return ".".join(str(part) for part in error.absolute_path), clean(error.message)[:_TEXT_BYTES]
