"""The parts that need no sandbox: text, bundles, limits, probe, control groups, verdicts, frames."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentnexus.core.errors import BadResult, InvalidInput, IsolationUnavailable, LimitExceeded
from agentnexus.core.updates import Log, Partial
from agentnexus.runtime import bundle
from agentnexus.runtime.bundle import hash_folder, read_bundle
from agentnexus.runtime.limits import MAXIMUM, MIB, Limits
from agentnexus.runtime.local import cgroups, kernel, probe, seccomp, wire
from agentnexus.runtime.local.sandbox import LocalSandbox
from agentnexus.runtime.supervisor import Supervisor, check_input, check_output, check_schema, file_name
from agentnexus.runtime.text import LINE_BYTES, Lines, Redactor, clean
from tests.runtime.conftest import write_agent

SECRETS = {"KEY": "sk-abcdef", "LONG": "sk-abcdef-longer", "SHORT": "abc", "TWO": "first-line\nsecond-line"}


def supervisor(limits: Limits = MAXIMUM, caps: dict[str, int] | None = None) -> Supervisor:
    return Supervisor(limits, Redactor(SECRETS), caps or {}, "agent")


# Text


@given(st.text())
def test_clean_text_is_one_printable_line_that_can_be_stored(text: str):
    cleaned = clean(text)
    cleaned.encode()
    assert len(cleaned.splitlines()) <= 1
    assert "\0" not in cleaned
    assert "\x1b" not in cleaned


def test_secrets_are_replaced_longest_first_and_by_line():
    redact = Redactor(SECRETS)
    assert redact("a sk-abcdef-longer b sk-abcdef c") == "a [secret LONG] b [secret KEY] c"
    assert redact("second-line") == "[secret TWO]"
    assert redact("abc") == "abc"
    assert Redactor({})("anything") == "anything"


@given(st.integers(0, LINE_BYTES * 2 + 50), st.integers(1, 5000))
def test_a_secret_never_gets_through_wherever_the_stream_is_cut(position: int, chunk: int):
    data = b"x" * position + b"sk-abcdef" + b"y" * 300 + b"\n"
    lines = Lines(Redactor({"KEY": "sk-abcdef"}))
    parts = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    out = "".join(line for part in parts for line in lines.feed(part))
    out += "".join(lines.feed(b"", final=True))
    assert "sk-abcdef" not in out
    assert out == "x" * position + "[secret KEY]" + "y" * 300


def test_lines_come_whole_whatever_the_chunks_and_the_encoding():
    lines = Lines(Redactor({}))
    text = "grüße\r\nzwei\n\nletzte".encode()
    out = [line for number in range(len(text)) for line in lines.feed(text[number : number + 1])]
    out += lines.feed(b"", final=True)
    assert out == ["grüße", "zwei", "", "letzte"]
    assert list(Lines(Redactor({})).feed(b"\xff\xfe\n")) == ["\ufffd\ufffd"]


def test_a_line_without_an_end_is_cut():
    out = list(Lines(Redactor({})).feed(b"z" * (3 * LINE_BYTES)))
    assert all(len(line) <= LINE_BYTES for line in out)
    assert len("".join(out)) >= 3 * LINE_BYTES - 1


# Bundles and limits


def test_the_hash_follows_names_and_contents_only(tmp_path):
    first = write_agent(tmp_path / "a", "x = 1")
    second = write_agent(tmp_path / "b", "x = 1")
    assert hash_folder(first) == hash_folder(second)
    (second / "__pycache__").mkdir()
    (second / "__pycache__" / "x.pyc").write_bytes(b"junk")
    assert hash_folder(first) == hash_folder(second)
    (second / "agent.py").write_text("x = 2")
    assert hash_folder(first) != hash_folder(second)
    (second / "agent.py").rename(second / "renamed.py")
    (first / "agent.py").write_text("x = 2")
    assert hash_folder(first) != hash_folder(second)


def test_links_are_refused(tmp_path):
    folder = write_agent(tmp_path / "a", "x = 1")
    (folder / "data").symlink_to("/etc/shadow")
    with pytest.raises(InvalidInput, match="is a link") as refused:
        read_bundle(folder)
    assert refused.value.details["field"] == "data"


def test_too_large_bundles_are_refused(tmp_path, monkeypatch):
    folder = write_agent(tmp_path / "a", "x = 1")
    monkeypatch.setattr(bundle, "MAX_BUNDLE_BYTES", 10)
    with pytest.raises(InvalidInput, match="larger than"):
        hash_folder(folder)
    monkeypatch.setattr(bundle, "MAX_BUNDLE_FILES", 1)
    with pytest.raises(InvalidInput, match="more than 1 files"):
        hash_folder(folder)


def test_a_wrong_manifest_names_its_field(tmp_path):
    folder = write_agent(tmp_path / "a", "x = 1", top="surprise = 1")
    with pytest.raises(InvalidInput) as refused:
        read_bundle(folder)
    assert refused.value.details["field"] == "surprise"
    with pytest.raises(InvalidInput, match="is missing"):
        read_bundle(tmp_path)


def test_the_operator_has_the_last_word_on_limits(tmp_path):
    manifest = read_bundle(write_agent(tmp_path / "a", "x = 1")).manifest
    wanted = Limits.wanted(manifest.limits)
    assert (wanted.memory_bytes, wanted.cpu, wanted.tmp_bytes, wanted.processes) == (128 * MIB, 1.0, 8 * MIB, 24)
    allowed = wanted.within(replace(MAXIMUM, memory_bytes=64 * MIB))
    assert allowed.memory_bytes == 64 * MIB
    assert allowed.processes == 24


# Probe


def test_this_host_is_judged_point_by_point():
    found = {check.name: check for check in probe.checks()}
    assert list(found) == ["processor", "privilege", "namespaces", "cgroups", "seccomp"]
    assert all(check.present or check.fix for check in found.values())


async def test_a_host_that_cannot_isolate_is_told_everything_that_is_missing(monkeypatch):
    missing = [
        probe.Check("privilege", False, "CAP_SYS_ADMIN is not held", "Run as root."),
        probe.Check("namespaces", True, "all"),
        probe.Check("seccomp", False, "no libseccomp", "Install libseccomp."),
    ]
    monkeypatch.setattr(probe, "checks", lambda: missing)
    with pytest.raises(IsolationUnavailable, match="CAP_SYS_ADMIN") as refused:
        await LocalSandbox().__aenter__()
    assert refused.value.next_step == "Run as root. Install libseccomp."
    assert refused.value.details["missing"] == ["privilege", "seccomp"]


def test_another_system_is_told_so(monkeypatch):
    monkeypatch.setattr(probe.sys, "platform", "darwin")
    (check,) = probe.checks()
    assert (check.name, check.present) == ("linux", False)
    assert "--unsafe-local" in check.fix


def test_the_filter_compiles_to_whole_instructions():
    assert seccomp.available() == ""
    program = seccomp.compile_filter()
    assert len(program) % 8 == 0
    assert len(program) > 800


def test_a_failing_call_is_named():
    with pytest.raises(OSError, match="mount tmpfs on /nowhere-at-all"):
        kernel.mount("tmpfs", Path("/nowhere-at-all"), "tmpfs")


# Control groups of version 2, on a folder that looks like one


def unified(tmp_path: Path, *, controllers: str = "cpu memory pids", delegated: str = "cpu memory pids") -> str:
    (tmp_path / "cgroup.controllers").write_text(controllers)
    (tmp_path / "cgroup.subtree_control").write_text(delegated)
    (tmp_path / "cgroup.procs").write_text("")
    return f"cgroup2 {tmp_path} cgroup2 rw 0 0\n"


def test_version_two_is_found_limited_and_measured(tmp_path):
    host = cgroups.find(unified(tmp_path), "0::/elsewhere\n")
    assert isinstance(host, cgroups.Host)
    assert host.version == 2
    group = cgroups.Group(host, "run")
    group.limit(memory_bytes=1000, processes=7, cpu=0.5)
    folder = tmp_path / "run"
    assert (folder / "memory.max").read_text() == "1000"
    assert (folder / "memory.swap.max").read_text() == "0"
    assert (folder / "pids.max").read_text() == "7"
    assert (folder / "cpu.max").read_text() == "50000 100000"
    (folder / "memory.peak").write_text("555\n")
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    (folder / "pids.events").write_text("max 3\n")
    (folder / "cpu.stat").write_text("usage_usec 4000\n")
    assert group.usage() == cgroups.Usage(555, 4, 2, 3)
    group.enter()
    assert (folder / "cgroup.procs").read_text() == "0"


def test_our_own_group_is_preferred_when_it_is_visible(tmp_path):
    (tmp_path / "own").mkdir()
    mounts = unified(tmp_path / "own")
    host = cgroups.find(mounts.replace("/own", ""), "0::/own\n")
    assert isinstance(host, cgroups.Host)
    assert host.bases["memory"] == tmp_path / "own"


def test_controllers_are_delegated_when_they_are_not_yet(tmp_path):
    assert isinstance(cgroups.find(unified(tmp_path, delegated=""), "0::/\n"), cgroups.Host)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"


@pytest.mark.parametrize(
    ("controllers", "why"),
    [("cpu pids", "no memory controller"), ("", "no memory, pids, cpu controller")],
)
def test_missing_controllers_are_named(tmp_path, controllers, why):
    answer = cgroups.find(unified(tmp_path, controllers=controllers), "0::/\n")
    assert isinstance(answer, str)
    assert why in answer


def test_no_hierarchy_at_all_is_told():
    assert cgroups.find("proc /proc proc rw 0 0\n", "0::/\n") == (
        "no cgroup hierarchy with the memory, pids and cpu controllers is mounted"
    )


def test_usage_of_a_group_that_tells_nothing_is_zero(tmp_path):
    host = cgroups.find(unified(tmp_path), "0::/\n")
    assert isinstance(host, cgroups.Host)
    assert cgroups.Group(host, "empty").usage() == cgroups.Usage()


def test_groups_are_swept_by_their_owner(tmp_path):
    host = cgroups.find(unified(tmp_path), "0::/\n")
    assert isinstance(host, cgroups.Host)
    ours, living, gone = "nexus-1-aa-1", f"nexus-{os.getpid()}-bb-2", "nexus-99999999-cc-3"
    for name in (ours, living, gone, "other"):
        (tmp_path / name).mkdir()
    cgroups.sweep(host, "nexus-1-aa-")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == sorted([living, "other"])


# Verdicts


@pytest.mark.parametrize("name", ["report.pdf", "räport 1.txt", "a-b_c.tar.gz", "x" * 200])
def test_plain_file_names_pass(name):
    assert file_name(name) == name


@given(st.text(max_size=30))
def test_a_file_name_that_passes_stays_in_its_folder(name: str):
    if file_name(name) is not None:
        assert Path("/folder") == (Path("/folder") / name).parent
        assert (Path("/folder") / name).name == name


def test_updates_beyond_the_limit_are_dropped_quietly():
    account = supervisor(replace(MAXIMUM, updates=2))
    sent = [update for number in range(5) for update in account.frame({"type": "output", "chunk": number})]
    assert sent == [Partial(0), Partial(1)]


def test_a_log_of_many_lines_is_many_updates():
    assert list(supervisor().frame({"type": "log", "message": "one\ntwo", "level": "error"})) == [
        Log("one", "error"),
        Log("two", "error"),
    ]


def test_figures_are_kept_apart_from_charges():
    account = supervisor(caps={"page": 5})
    list(account.frame({"type": "metric", "name": "rows", "value": 7}))
    list(account.frame({"type": "charge", "event": "page", "count": 5, "key": "k"}))
    assert account.metering == {"metric:rows": 7, "charge:page": 5}
    with pytest.raises(LimitExceeded):
        list(account.frame({"type": "charge", "event": "page", "count": 1, "key": "k2"}))


def test_schemas_are_checked_before_anything_uses_them():
    check_schema({"type": "object"})
    with pytest.raises(InvalidInput, match="not a JSON Schema"):
        check_schema({"type": "nonsense"})


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
def test_a_schema_that_leads_to_an_address_is_refused(keyword: str):
    check_schema({"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}}})
    with pytest.raises(InvalidInput, match="another document"):
        check_schema({"properties": {"a": {"prefixItems": [{keyword: "http://169.254.169.254/latest"}]}}})


def test_a_wrong_value_names_its_path():
    schema = {"type": "object", "properties": {"rows": {"type": "array", "items": {"type": "integer"}}}}
    check_input(schema, {"rows": [1]})
    with pytest.raises(InvalidInput) as refused:
        check_input(schema, {"rows": [1, "two"]})
    assert refused.value.details["field"] == "rows.1"
    with pytest.raises(BadResult, match=r"rows\.0"):
        check_output(schema, {"rows": [None]}, "agent", Redactor({}))


def test_a_bad_result_does_not_show_secrets():
    with pytest.raises(BadResult, match=r"\[secret KEY\]") as bad:
        check_output({"type": "integer"}, "sk-abcdef", "agent", Redactor(SECRETS))
    assert "sk-abcdef" not in str(bad.value.to_json())


def test_a_value_nested_too_deeply_is_wrong_and_not_a_crash():
    deep: object = []
    for _ in range(900):
        deep = [deep]
    schema = {"$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}, "$ref": "#/$defs/list"}
    with pytest.raises(BadResult, match="too deeply"):
        check_output(schema, deep, "agent", Redactor({}))


# Frames


async def read_all(data: bytes, limit: int = 1 << 20) -> list[dict[str, object]]:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    found = []
    while (frame := await wire.read(reader, limit)) is not None:
        found.append(frame)
    return found


async def test_frames_come_back_as_they_were_sent():
    messages: list[dict[str, object]] = [{"a": 1}, {"text": "ü" * 100_000}, {}]
    assert await read_all(b"".join(map(wire.encode, messages))) == messages


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\0\0", "cut off"),
        (b"\0\0\0\x05{}", "cut off"),
        (b"\xff\xff\xff\xff", "longer than"),
        (b"\0\0\0\x02[]", "not an object"),
        (b"\0\0\0\x02{]", "not JSON"),
        (b'\0\0\0\x0b{"a":1e999}', "too large a number"),
        (b'\0\0\0\x11{"a": -Infinity  }', "not JSON"),
    ],
)
async def test_bad_frames_are_told_apart(data, why):
    with pytest.raises(wire.BadFrame, match=why):
        await read_all(data)


@given(st.one_of(st.binary(max_size=60), st.text('{}[]":,0123456789eE.-tfn', max_size=40).map(str.encode)))
def test_random_bytes_are_an_object_or_a_bad_frame(body: bytes):
    try:
        value = wire.parse(body)
    except wire.BadFrame as error:
        assert str(error)
    else:
        assert json.loads(body) == value


def test_what_json_cannot_carry_is_refused_when_sent():
    with pytest.raises(ValueError, match="JSON compliant"):
        wire.encode({"a": float("nan")})
