"""Whatever bytes an agent sends, the supervisor answers with clean updates or one of its own errors."""

from __future__ import annotations

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import NexusError
from agentnexus.core.updates import Artifact, Log, Partial, Progress
from agentnexus.runtime.limits import Limits
from agentnexus.runtime.supervisor import Supervisor
from agentnexus.runtime.text import LINE_BYTES, Redactor

LIMITS = Limits(log_bytes=2_000, updates=20, artifacts=3, artifact_bytes=1_000)
SECRET = "sk-fuzz-secret"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
kinds = st.sampled_from(["log", "progress", "output", "artifact", "charge", "metric", "completed", "broken", "other"])
fields = st.sampled_from(
    ["message", "level", "fraction", "chunk", "name", "media_type", "data", "event", "count", "key", "value", "error"]
)
good = {
    "media_type": st.just("text/plain"),
    "data": st.binary(max_size=600).map(lambda data: base64.b64encode(data).decode()),
    "event": st.just("page"),
    "count": st.integers(-2, 4),
    "value": st.integers(),
}
frames = st.builds(
    lambda kind, wild, tame: {"type": kind, **wild, **tame},
    kinds,
    st.dictionaries(fields, json_values, max_size=5),
    st.fixed_dictionaries({}, optional=good),
)


@given(st.lists(frames, max_size=40))
def test_updates_stay_clean_and_within_the_limits(messages: list[dict[str, object]]):
    account = Supervisor(LIMITS, Redactor({"KEY": SECRET}), {"page": 5}, "agent")
    sent = []
    try:
        for message in messages:
            sent += list(account.frame(message))
    except NexusError as error:
        assert error.message
        assert SECRET not in json.dumps(error.to_json())
    logs = [update for update in sent if isinstance(update, Log)]
    files = [update for update in sent if isinstance(update, Artifact)]
    assert sum(len(log.message.encode()) for log in logs) <= LIMITS.log_bytes + LINE_BYTES
    assert all(SECRET not in log.message and len(log.message.splitlines()) <= 1 for log in logs)
    assert len([update for update in sent if isinstance(update, Partial | Progress)]) <= LIMITS.updates
    assert len(files) <= LIMITS.artifacts
    assert sum(len(file.data) for file in files) <= LIMITS.artifact_bytes
    assert len({file.name for file in files}) == len(files)
    assert account.charges.get("page", 0) <= 5
    assert all(isinstance(value, int) for value in account.metering.values())


@given(json_values, json_values)
def test_any_last_word_is_a_result_or_an_error_with_a_message(error: object, status: object):
    account = Supervisor(LIMITS, Redactor({"KEY": SECRET}), {}, "agent")
    list(account.frame({"type": "completed", "status": status, "error": error}))
    failure = account.failure()
    if failure is None:
        assert status == "completed"
    else:
        assert failure.message
        assert SECRET not in json.dumps(failure.to_json())


@given(
    st.sampled_from(["invalid_input", "agent_refused", "limit_exceeded", "cancelled", "agent_failed", "nonsense"]),
    st.text(),
    st.text(),
)
def test_every_code_of_the_contract_has_its_error(code: str, message: str, field: str):
    account = Supervisor(LIMITS, Redactor({}), {}, "agent")
    body = {"code": code, "message": message, "field": field, "limit": field}
    list(account.frame({"type": "completed", "status": "failed", "error": body}))
    failure = account.failure()
    assert failure is not None
    expected = {
        "invalid_input": "invalid_input",
        "agent_refused": "agent_refused",
        "limit_exceeded": "limit_exceeded",
    }.get(code, "agent_failed")
    assert str(failure.code) == expected
