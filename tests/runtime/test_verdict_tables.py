"""What an agent may say and what ends its run, case by case; text made harmless; limits figure by figure."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import AgentFailed, AgentRefused, InvalidInput, LimitExceeded, NexusError
from agentnexus.core.updates import Artifact, Log, Partial, Progress, Update
from agentnexus.runtime.egress import EgressProxy, EgressRecord
from agentnexus.runtime.limits import MAXIMUM, MIB, Limits
from agentnexus.runtime.local import wire
from agentnexus.runtime.supervisor import Supervisor, check_input, check_schema, file_name
from agentnexus.runtime.text import LINE_BYTES, Lines, Redactor, clean
from agentnexus.sdk.manifest import LimitsWanted

SECRETS = {"KEY": "sk-abcdef", "LONGER": "sk-abcdef-and-more", "PIN": "123", "PAIR": "user-name\npass-word"}
FIGURES = [field.name for field in fields(Limits)]


def supervisor(caps: dict[str, int] | None = None, **limits: int) -> Supervisor:
    return Supervisor(replace(MAXIMUM, **limits), Redactor(SECRETS), caps or {}, "agent")  # type: ignore[arg-type]


def said(message: dict[str, object], account: Supervisor | None = None) -> list[Update]:
    return list((account or supervisor()).frame(message))


def file_frame(**changes: object) -> dict[str, object]:
    return {"type": "artifact", "name": "a.txt", "media_type": "text/plain", "data": "aGk=", **changes}


def charge(**changes: object) -> dict[str, object]:
    return {"type": "charge", "event": "page", "count": 1, "key": "k", **changes}


@pytest.mark.parametrize(
    ("message", "updates"),
    [
        ({"type": "log", "message": "hi"}, [Log("hi", "info")]),
        ({"type": "log", "message": "hi", "level": "error"}, [Log("hi", "error")]),
        ({"type": "log", "message": "hi", "level": "FATAL"}, [Log("hi", "info")]),
        ({"type": "log", "message": "hi", "level": 5}, [Log("hi", "info")]),
        ({"type": "log"}, [Log("", "info")]),
        ({"type": "log", "message": None}, [Log("None", "info")]),
        ({"type": "log", "message": "a\r\nb\x85c\u2028d"}, [Log(part, "info") for part in "abcd"]),
        ({"type": "log", "message": "tab\there"}, [Log("tab\there", "info")]),
        ({"type": "log", "message": "\x1b[31mred"}, [Log("\\x1b[31mred", "info")]),
        ({"type": "log", "message": "my sk-abcdef!"}, [Log("my [secret KEY]!", "info")]),
        ({"type": "log", "message": "sk-abcdef-and-more"}, [Log("[secret LONGER]", "info")]),
        ({"type": "log", "message": "pin 123"}, [Log("pin 123", "info")]),
        ({"type": "log", "message": "pass-word"}, [Log("[secret PAIR]", "info")]),
        ({"type": "progress", "fraction": 0.5, "message": "half"}, [Progress(0.5, "half")]),
        ({"type": "progress", "fraction": 0}, [Progress(0.0, "")]),
        ({"type": "progress", "fraction": 1}, [Progress(1.0, "")]),
        ({"type": "progress", "fraction": 1.0001}, [Progress(None, "")]),
        ({"type": "progress", "fraction": -0.0001}, [Progress(None, "")]),
        ({"type": "progress", "fraction": "0.5"}, [Progress(None, "")]),
        ({"type": "progress", "fraction": 10**400}, [Progress(None, "")]),
        ({"type": "progress"}, [Progress(None, "")]),
        ({"type": "progress", "message": "sk-abcdef"}, [Progress(None, "[secret KEY]")]),
        ({"type": "output", "chunk": {"a": [1, None]}}, [Partial({"a": [1, None]})]),
        ({"type": "output"}, [Partial(None)]),
        ({"type": "metric", "name": "rows", "value": 5}, []),
        ({"type": "completed", "status": "completed", "output": 1}, []),
        (file_frame(), [Artifact("a.txt", "text/plain", b"hi")]),
        (file_frame(data=""), [Artifact("a.txt", "text/plain", b"")]),
        (file_frame(media_type="Text/HTML; charset=utf-8"), [Artifact("a.txt", "Text/HTML; charset=utf-8", b"hi")]),
    ],
)
def test_what_an_agent_says_becomes_these_updates(message: dict[str, object], updates: list[Update]) -> None:
    assert said(message) == updates


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": None},
        {"type": 5},
        {"type": "Log"},
        {"type": "result"},
        {"type": "start"},
        file_frame(name=""),
        file_frame(name="."),
        file_frame(name=".."),
        file_frame(name=".hidden"),
        file_frame(name="a/b"),
        file_frame(name="a\\b"),
        file_frame(name="C:a"),
        file_frame(name="a\x00b"),
        file_frame(name="a\nb"),
        file_frame(name=" a"),
        file_frame(name="a."),
        file_frame(name="\u202egpj.exe"),
        file_frame(name="\u2066a"),
        file_frame(name="x" * 201),
        file_frame(name="\u20ac" * 67),
        file_frame(name=5),
        file_frame(name=None),
        file_frame(media_type=""),
        file_frame(media_type="text"),
        file_frame(media_type="text/"),
        file_frame(media_type="text/html\r\nX: y"),
        file_frame(media_type="text/html; charset=utf-8; boundary=x"),
        file_frame(media_type=None),
        file_frame(data="aGk"),
        file_frame(data="a Gk="),
        file_frame(data="\u00e9"),
        file_frame(data=None),
        charge(event="house"),
        charge(event=None),
        charge(event=["page"]),
        charge(count=0),
        charge(count=-1),
        charge(count=1.0),
        charge(count="1"),
        charge(count=True),
        charge(count=None),
        charge(key=""),
        charge(key="k" * 2001),
        {"type": "metric", "name": "Rows", "value": 1},
        {"type": "metric", "name": "", "value": 1},
        {"type": "metric", "name": "r" * 65, "value": 1},
        {"type": "metric", "name": "rows", "value": 1.5},
        {"type": "metric", "name": "rows", "value": True},
        {"type": "metric", "name": "rows", "value": 2**63},
        {"type": "metric", "name": "rows", "value": -(2**63)},
        {"type": "metric", "name": "rows"},
    ],
    ids=repr,
)
def test_what_an_agent_may_not_say_ends_its_run(message: dict[str, object]) -> None:
    with pytest.raises(AgentFailed, match="its run was ended") as caught:
        said(message, supervisor({"page": 5}))
    assert caught.value.details == {"agent": "agent", "misbehaved": True}
    assert caught.value.next_step == "Hire another agent."


@pytest.mark.parametrize(
    ("counts", "cap", "fits"), [([5], 5, True), ([6], 5, False), ([2, 3], 5, True), ([2, 3, 1], 5, False)]
)
def test_charges_go_up_to_their_cap(counts: list[int], cap: int, fits: bool) -> None:
    account = supervisor({"page": cap})
    frames = [charge(count=count, key=f"k{number}") for number, count in enumerate(counts)]
    for frame in frames[:-1]:
        said(frame, account)
    if fits:
        said(frames[-1], account)
        assert account.charges == {"page": sum(counts)}
        return
    with pytest.raises(LimitExceeded) as caught:
        said(frames[-1], account)
    assert caught.value.details["limit"] == "charges"
    assert account.charges.get("page", 0) == sum(counts[:-1])


def test_a_key_is_charged_once_and_the_repeat_is_logged() -> None:
    account = supervisor({"page": 5})
    assert said(charge(count=2), account) == []
    (log,) = said(charge(count=3), account)
    assert isinstance(log, Log)
    assert "counted once" in log.message
    assert account.charges == {"page": 2}


def test_a_hundred_figures_are_kept_and_each_may_still_change() -> None:
    account = supervisor()
    for number in range(100):
        said({"type": "metric", "name": f"m{number}", "value": number}, account)
    said({"type": "metric", "name": "m7", "value": -1}, account)
    assert account.metering["metric:m7"] == -1
    with pytest.raises(AgentFailed):
        said({"type": "metric", "name": "one_more", "value": 1}, account)


@pytest.mark.parametrize(
    ("sizes", "limits", "fits"),
    [
        ([3, 3], {"artifacts": 2}, True),
        ([3, 3, 3], {"artifacts": 2}, False),
        ([5, 5], {"artifact_bytes": 10}, True),
        ([5, 6], {"artifact_bytes": 10}, False),
        ([0, 0], {"artifact_bytes": 0}, True),
    ],
)
def test_files_are_counted_and_weighed(sizes: list[int], limits: dict[str, int], fits: bool) -> None:
    account = supervisor(**limits)
    frames = [
        file_frame(name=f"f{number}", data=base64.b64encode(bytes(size)).decode()) for number, size in enumerate(sizes)
    ]
    for frame in frames[:-1]:
        said(frame, account)
    if fits:
        assert len(said(frames[-1], account)) == 1
        return
    with pytest.raises(LimitExceeded) as caught:
        said(frames[-1], account)
    assert caught.value.details["limit"] == "artifacts"


def test_a_second_file_of_one_name_ends_the_run() -> None:
    account = supervisor()
    said(file_frame(), account)
    with pytest.raises(AgentFailed, match=r"two files named a\.txt"):
        said(file_frame(data="aGE="), account)


def test_a_log_is_cut_off_once_and_then_silent() -> None:
    account = supervisor(log_bytes=10)
    assert said({"type": "log", "message": "123456789"}, account) == [Log("123456789", "info")]
    assert said({"type": "log", "message": "x"}, account) == [Log("[log cut off after 10 bytes]", "warning")]
    assert said({"type": "log", "message": "y"}, account) == []
    assert account.silent


@pytest.mark.parametrize(
    ("outcome", "kind", "details"),
    [
        (
            {"status": "refused", "error": {"code": "agent_refused", "message": "no", "field": "f"}},
            AgentRefused,
            {"field": "f", "agent": "agent"},
        ),
        (
            {"status": "refused", "error": {"code": "invalid_input", "message": "no", "field": "f"}},
            InvalidInput,
            {"field": "f", "agent": "agent"},
        ),
        (
            {"status": "failed", "error": {"code": "limit_exceeded", "message": "no", "limit": "tmp"}},
            LimitExceeded,
            {"limit": "tmp", "agent": "agent"},
        ),
        ({"status": "cancelled", "error": {"code": "cancelled"}}, AgentFailed, {"agent": "agent", "cancelled": True}),
        ({"status": "failed", "error": {"code": "internal", "message": "no"}}, AgentFailed, {"agent": "agent"}),
        ({"status": "failed", "error": "text"}, AgentFailed, {"agent": "agent"}),
        ({"status": "failed"}, AgentFailed, {"agent": "agent"}),
        ({"status": "COMPLETED"}, AgentFailed, {"agent": "agent"}),
        ({}, AgentFailed, {"agent": "agent"}),
    ],
)
def test_the_last_word_becomes_the_error_it_names(
    outcome: dict[str, object], kind: type[NexusError], details: dict[str, object]
) -> None:
    account = supervisor()
    said({"type": "completed", **outcome}, account)
    error = account.failure()
    assert type(error) is kind
    assert error.message
    assert error.details == details


def test_no_secret_leaves_in_an_error() -> None:
    account = supervisor()
    body = {"code": "agent_refused", "message": "bad sk-abcdef", "next_step": "use sk-abcdef", "field": "sk-abcdef"}
    said({"type": "completed", "status": "refused", "error": body}, account)
    error = account.failure()
    assert error is not None
    assert "sk-abcdef" not in json.dumps(error.to_json())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain \u00e9\u20ac\U0001f600", "plain \u00e9\u20ac\U0001f600"),
        ("a\tb", "a\tb"),
        ("a\nb\rc", "a\\nb\\rc"),
        ("\x00\x07\x1b\x7f\x9b", "\\x00\\x07\\x1b\\x7f\\x9b"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\u202a\u202b\u202c\u202d\u202e", "\\u202a\\u202b\\u202c\\u202d\\u202e"),
        ("\u2066\u2067\u2068\u2069", "\\u2066\\u2067\\u2068\\u2069"),
        ("\ud800x\udfff", "\ufffdx\ufffd"),
    ],
)
def test_text_is_made_harmless_and_nothing_else_is_touched(text: str, shown: str) -> None:
    assert clean(text) == shown
    assert clean(shown) == shown


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_a_stream_gives_the_same_lines_however_it_is_cut(chunks: list[bytes]) -> None:
    whole, pieces = Lines(Redactor({})), Lines(Redactor({}))
    at_once = list(whole.feed(b"".join(chunks), final=True))
    bit_by_bit = [line for chunk in chunks for line in pieces.feed(chunk)] + list(pieces.feed(b"", final=True))
    assert bit_by_bit == at_once
    assert all("\n" not in line and "\x1b" not in line for line in at_once)


@pytest.mark.parametrize(
    ("length", "lines"), [(LINE_BYTES - 1, 1), (LINE_BYTES, 1), (LINE_BYTES + 1, 2), (3 * LINE_BYTES, 3)]
)
def test_long_lines_are_cut_into_lines(length: int, lines: int) -> None:
    found = list(Lines(Redactor({})).feed(b"x" * length + b"\n", final=True))
    assert len(found) == lines
    assert "".join(found) == "x" * length


@pytest.mark.parametrize("figure", FIGURES)
def test_the_smaller_figure_counts(figure: str) -> None:
    low, high = replace(MAXIMUM, **{figure: 1}), replace(MAXIMUM, **{figure: 2})
    assert getattr(low.within(high), figure) == getattr(high.within(low), figure) == 1
    others = [name for name in FIGURES if name != figure]
    assert all(getattr(low.within(high), name) == getattr(MAXIMUM, name) for name in others)


@given(st.integers(32, 8192), st.floats(0.05, 4), st.integers(1, 1024))
def test_a_manifest_asks_in_mebibytes(memory: int, cpu: float, tmp: int) -> None:
    wanted = Limits.wanted(LimitsWanted(memory_mib=memory, cpu=cpu, tmp_mib=tmp))
    assert (wanted.memory_bytes, wanted.cpu, wanted.tmp_bytes) == (memory * MIB, cpu, tmp * MIB)
    assert wanted.within(MAXIMUM).within(wanted) == wanted.within(MAXIMUM)


MESSAGES = st.dictionaries(
    st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=8), max_size=4
)


@given(st.lists(MESSAGES, max_size=5))
async def test_frames_come_back_in_order_and_whole(messages: list[dict[str, object]]) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"".join(wire.encode(message) for message in messages))
    reader.feed_eof()
    found = []
    while (message := await wire.read(reader, 1 << 16)) is not None:
        found.append(message)
    assert found == messages


@pytest.mark.parametrize(("extra", "fits"), [(-1, False), (0, True), (1, True)])
async def test_a_frame_may_be_as_long_as_the_limit(extra: int, fits: bool) -> None:
    frame = wire.encode({"a": "x" * 100})
    reader = asyncio.StreamReader()
    reader.feed_data(frame)
    reader.feed_eof()
    if fits:
        assert await wire.read(reader, len(frame) - 4 + extra) == {"a": "x" * 100}
        return
    with pytest.raises(wire.BadFrame, match="longer than"):
        await wire.read(reader, len(frame) - 4 + extra)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"7", b'"x"', b"null", b"\xff", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 1e999}',
        b'{"a": -1e999}', b"[" * 50_000, b'{"a": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_frame_is_a_bad_frame(body: bytes) -> None:
    with pytest.raises(wire.BadFrame):
        wire.parse(body)


@pytest.mark.parametrize(
    ("schema", "value", "field"),
    [
        ({"type": "object", "required": ["a"]}, {}, None),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, {"a": "x"}, "a"),
        ({"properties": {"a": {"properties": {"b": {"maximum": 5}}}}}, {"a": {"b": 6}}, "a.b"),
        ({"properties": {"l": {"items": {"type": "string"}}}}, {"l": ["x", "y", 3]}, "l.2"),
        ({"additionalProperties": False}, {"x": 1}, None),
        ({"type": "object"}, [], None),
        (False, {}, None),
    ],
)
def test_a_wrong_input_is_named_by_its_path(schema: dict[str, object], value: object, field: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_input(schema, value)
    assert caught.value.details.get("field") == field
    assert caught.value.next_step == "Correct this field."


@pytest.mark.parametrize(
    "schema", [{"type": 5}, {"type": "text"}, {"required": "a"}, {"minimum": "1"}, {"properties": []}, {"enum": 3}]
)
def test_a_broken_schema_is_refused(schema: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="not a JSON Schema"):
        check_schema(schema)


@pytest.mark.parametrize(
    ("name", "plain"), [("a", True), ("a b.txt", True), ("\u00e9" * 100, True), ("\u00e9" * 101, False)]
)
def test_names_are_measured_in_bytes(name: str, plain: bool) -> None:
    assert (file_name(name) == name) is plain


def proxied(*hosts: str) -> EgressProxy:
    records: list[EgressRecord] = []
    return EgressProxy(hosts, audit=records.append)


@pytest.mark.parametrize("host", ["a.example:x", "a.example:443:1", "a.example: "])
def test_a_host_that_is_none_is_noticed_at_the_start(host: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        proxied(host)
